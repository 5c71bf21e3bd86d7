"""OGC API - Tiles: the polygons of a map as Mapbox Vector Tiles in the tile matrix set WebMercatorQuad."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi import Path as InPath
from starlette.concurrency import run_in_threadpool

from api.dependencies import Caller, Parts, PartsDep, Reading, seen_map
from api.schemas.common import Link
from api.schemas.records import base_url
from api.schemas.requests import Id
from api.schemas.tiles import TileLimits, Tileset, TilesetItem, Tilesets, VectorLayer, VectorTileJson
from api.tile_cache import Tile
from geounet.service.errors import NotFoundError
from geounet.service.features import vector_tiles
from geounet.service.features.layer import FeatureLayer
from geounet.service.tables.maps import MapRecord

router = APIRouter(tags=["tiles"])

MVT = "application/vnd.mapbox-vector-tile"
CONFORMS_TO = [
    f"http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/{name}"
    for name in ("core", "tileset", "tilesets-list", "geodata-tilesets", "mvt")
]
_SET = "http://www.opengis.net/def/tilematrixset/OGC/1.0/WebMercatorQuad"
_CRS = "http://www.opengis.net/def/crs/EPSG/0/3857"
_FOREVER = "private, max-age=86400, immutable"
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {MVT: {"schema": {"type": "string", "format": "binary"}}}, "description": "A vector tile"},
    204: {"description": "The map has nothing in this tile"},
    304: {"description": "What the client has is current"},
}


@router.get("/collections/{map_id}/tiles")
def tilesets(map_id: Id, request: Request, parts: PartsDep, caller: Reading) -> Tilesets:
    """The tile sets of a map's polygons: there is one."""
    record = seen_map(parts, caller, map_id)
    here = f"{base_url(request)}/collections/{record.id}/tiles/WebMercatorQuad"
    links = [
        Link(href=here, rel="self", type="application/json", title="The tile set"),
        Link(href=_SET, rel="http://www.opengis.net/def/rel/ogc/1.0/tiling-scheme"),
        _template(request, record),
    ]
    item = TilesetItem(title=f"Polygons of {record.title}", dataType="vector", crs=_CRS, links=links)
    return Tilesets(
        tilesets=[item],
        links=[Link(href=f"{base_url(request)}/collections/{record.id}/tiles", rel="self", type="application/json")],
    )


@router.get("/collections/{map_id}/tiles/WebMercatorQuad")
def tileset(map_id: Id, request: Request, parts: PartsDep, caller: Reading) -> Tileset:
    """The tile set: which tiles there are, and what is in them."""
    record = seen_map(parts, caller, map_id)
    layer = _layer(parts, record)
    here = f"{base_url(request)}/collections/{record.id}/tiles/WebMercatorQuad"
    return Tileset(
        title=f"Polygons of {record.title}",
        dataType="vector",
        crs=_CRS,
        tileMatrixSetURI=_SET,
        tileMatrixSetLimits=_limits(layer),
        links=[
            Link(href=here, rel="self", type="application/json"),
            Link(href=_SET, rel="http://www.opengis.net/def/rel/ogc/1.0/tiling-scheme"),
            Link(href=f"{here}/tilejson.json", rel="describedby", type="application/json", title="TileJSON"),
            _template(request, record),
        ],
    )


@router.get("/collections/{map_id}/tiles/WebMercatorQuad/tilejson.json")
def vector_tilejson(map_id: Id, request: Request, parts: PartsDep, caller: Reading) -> VectorTileJson:
    """The same for map clients, as TileJSON 3.0."""
    record = seen_map(parts, caller, map_id)
    layer = _layer(parts, record)
    first, last = vector_tiles.zooms(layer)
    here = f"{base_url(request)}/collections/{record.id}/tiles/WebMercatorQuad"
    return VectorTileJson(
        name=f"{record.title}: polygons",
        tiles=[f"{here}/{{z}}/{{y}}/{{x}}.mvt"],
        bounds=layer.lonlat_bounds() or [-180.0, -85.0, 180.0, 85.0],
        minzoom=0,
        maxzoom=last,
        detailzoom=first,
        vector_layers=[
            VectorLayer(
                id=vector_tiles.LAYER,
                fields=vector_tiles.FIELDS,
                description=f"Single polygons from zoom {first}; below, regions of pixels with their class alone.",
                minzoom=0,
                maxzoom=last,
            )
        ],
    )


@router.get("/collections/{map_id}/tiles/WebMercatorQuad/{z}/{y}/{x}.mvt", response_class=Response, responses=_ANSWERS)
async def vector_tile(
    map_id: Id,
    z: Annotated[int, InPath(ge=0, le=24)],
    y: Annotated[int, InPath(ge=0, lt=2**24)],
    x: Annotated[int, InPath(ge=0, lt=2**24)],
    parts: PartsDep,
    caller: Reading,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """A vector tile, layer `landcover`: borders as fine as the zoom shows, and without gaps at every zoom."""
    record = seen_map(parts, caller, map_id)
    if max(x, y) >= 2**z:
        raise NotFoundError(f"zoom {z} has no tile {x}/{y}")
    place = (record.id, z, x, y)
    tile = parts.tiles.get(place)
    if tile is None:
        tile = await _make(parts, caller, record, place)
    headers = {"ETag": tile.etag, "Cache-Control": _FOREVER}
    if tile.etag in [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]:
        return Response(status_code=304, headers=headers)
    if not tile.content:
        return Response(status_code=204, headers=headers)
    return Response(tile.content, media_type=MVT, headers=headers)


async def _make(parts: Parts, caller: Caller, record: MapRecord, place: tuple[str, int, int, int]) -> Tile:
    layer = await run_in_threadpool(_layer, parts, record)
    _, z, x, y = place
    if z >= vector_tiles.zooms(layer)[0]:
        return parts.tiles.put(place, await run_in_threadpool(vector_tiles.vector_tile, layer, z, x, y))
    request = {
        "want": "regions",
        "path": str(layer.folder / "classes.tif"),
        "layer": vector_tiles.LAYER,
        "names": {c["value"]: c["name"] for c in layer.summary["classes"]},
        "z": z,
        "x": x,
        "y": y,
    }
    try:
        return parts.tiles.put(place, (await parts.read(caller.client, request))[1])
    except NotFoundError:
        return parts.tiles.put(place, b"")


def _layer(parts: Parts, record: MapRecord) -> FeatureLayer:
    return parts.features.layer(parts.store.maps.folder(record.id))


def _template(request: Request, record: MapRecord) -> Link:
    here = f"{base_url(request)}/collections/{record.id}/tiles/WebMercatorQuad"
    return Link(
        href=f"{here}/{{tileMatrix}}/{{tileRow}}/{{tileCol}}.mvt", rel="item", type=MVT, title="The tiles, a template"
    )


def _limits(layer: FeatureLayer) -> list[TileLimits]:
    return [
        TileLimits(tileMatrix=str(z), minTileRow=top, maxTileRow=bottom, minTileCol=left, maxTileCol=right)
        for z, (left, top, right, bottom) in enumerate(vector_tiles.limits(layer))
    ]
