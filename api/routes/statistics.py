"""Questions about an area of a map: what it holds, and the part of the map that lies in it."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from api.dependencies import PartsDep, Reading, seen_map
from api.schemas.requests import AreaBody, Id
from api.schemas.responses import Statistics, ZoneOut
from geounet.service.features.area import area_on_map
from geounet.service.features.crs_uri import CRS84
from tiles.legend import NODATA

router = APIRouter(tags=["maps"])

AreaCrs = Annotated[
    str,
    Query(
        pattern=r"^http://www\.opengis\.net/def/crs/(OGC/1\.3/CRS84|EPSG/0/[0-9]{1,7})$",
        description="CRS of the area's coordinates, in the axis order of its authority.",
    ),
]


@router.post("/maps/{map_id}/statistics")
async def statistics(body: AreaBody, map_id: Id, parts: PartsDep, caller: Reading, crs: AreaCrs = CRS84) -> Statistics:
    """Square metres and mean confidence by class inside a polygon, counted pixel by pixel in the class raster."""
    record = seen_map(parts, caller, map_id)
    folder = parts.store.maps.folder(record.id)
    layer = await run_in_threadpool(parts.features.layer, folder)
    area = await run_in_threadpool(area_on_map, body.polygon(), crs, layer)
    paths = {name: str(folder / f"{name}.tif") for name in ("classes", "confidence")}
    told, _ = await parts.read(caller.client, {"want": "zone", "polygon": area.pixels.wkt, **paths})
    names = {c["value"]: c["name"] for c in layer.summary["classes"]}
    zones = [zone for zone in told["zones"] if zone["value"] != NODATA]
    total = sum(zone["area_m2"] for zone in zones)
    known = [(zone["confidence"], zone["area_m2"]) for zone in zones if zone["confidence"] is not None]
    weight = sum(size for _, size in known)
    return Statistics(
        area_m2=total,
        nodata_m2=sum(zone["area_m2"] for zone in told["zones"] if zone["value"] == NODATA),
        confidence=sum(c * size for c, size in known) / weight if weight else None,
        classes=[
            ZoneOut(name=names.get(zone["value"], f"class {zone['value']}"), share=zone["area_m2"] / total, **zone)
            for zone in zones
        ],
    )
