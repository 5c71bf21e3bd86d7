"""Finished maps: summary, files, tiles, points."""

import json
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import AfterValidator
from starlette.types import Receive, Scope, Send

from api.dependencies import Caller, Parts, PartsDep, Reading, Submitting, seen_map
from api.edge.conditions import satisfiable, verdict
from api.errors import problem
from api.pages import render as pages
from api.pages.negotiate import Asked, answer, with_html
from api.schemas.common import Link
from api.schemas.records import base_url, map_entry
from api.schemas.requests import Id
from api.schemas.responses import MapOut, Maps, PointOut, TileJson
from geounet.outputs.files import GEOJSON, ITEM, MAP_FILES, PROBABILITIES
from geounet.service.errors import NotFoundError
from geounet.service.tables.maps import MapRecord
from tiles.longitudes import turned

router = APIRouter(tags=["maps"])

FILES = {file.name: file.media_type for file in MAP_FILES if file.name != ITEM}


def _known(name: str) -> str:
    if name not in FILES:
        raise ValueError(f"a map's files are {', '.join(FILES)}")
    return name


FileName = Annotated[str, AfterValidator(_known), InPath(json_schema_extra={"enum": list(FILES)})]
Layer = Annotated[Literal["classes", "confidence", "scene"], Query(description="What the tiles show.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "A picture"}
}
_FILE_CONTENT = {
    kind: {"schema": {} if "json" in kind else {"type": "string", "format": "binary"}} for kind in set(FILES.values())
}
_FOREVER = "private, max-age=86400, immutable"


@router.get("/maps", responses=with_html(Maps))
def maps(
    request: Request, parts: PartsDep, caller: Reading, limit: Limit = 100, after: Id | None = None, f: Asked = None
) -> Response:
    """The caller's maps, in the order of their ids."""
    found = parts.store.maps.page(caller.owner, everyone=caller.everyone, after=after, limit=limit + 1)
    links = []
    if len(found) > limit:
        href = f"{base_url(request)}/maps?limit={limit}&after={found[limit - 1].id}"
        links.append(Link(href=href, rel="next", type="application/json"))
    body = Maps(maps=[map_entry(request, m) for m in found[:limit]], links=links)
    return answer(request, f, body, partial(pages.maps, request))


@router.get("/maps/{map_id}", responses=with_html(MapOut))
def one_map(map_id: Id, request: Request, parts: PartsDep, caller: Reading, f: Asked = None) -> Response:
    """A map: areas and shares of its classes, how it was made, and links to its files."""
    record = seen_map(parts, caller, map_id)
    entry = map_entry(request, record)
    here = f"{base_url(request)}/maps/{record.id}"
    folder = parts.store.maps.folder(record.id)
    links = [
        Link(href=f"{here}/{name}", rel="item", type=kind, title=name)
        for name, kind in FILES.items()
        if (folder / name).is_file()
    ]
    links.append(
        Link(
            href=f"{base_url(request)}/collections/{record.id}/tiles/WebMercatorQuad/tilejson.json",
            rel="tiles",
            type="application/json",
            title="polygons",
        )
    )
    links += [
        Link(href=f"{here}/tilejson.json?layer={layer}", rel="tiles", type="application/json", title=layer)
        for layer in ("classes", "confidence", "scene")
    ]
    if (folder / "item.json").is_file():
        links.append(Link(href=f"{here}/item.json", rel="describedby", type=GEOJSON, title="The map as a STAC Item"))
    summary = {**parts.features.layer(folder).summary, "scene": record.title}
    came_from = parts.store.queue.get(record.id).options.get("correct")
    body = MapOut(
        **entry.model_dump(exclude={"links"}),
        summary=summary,
        corrected_from=came_from["map"] if came_from else None,
        links=[*entry.links, *links],
    )
    colours = parts.catalog.colours(record.model)
    return answer(request, f, body, lambda data: pages.map_page(request, data, colours))


@router.delete("/maps/{map_id}", status_code=204)
async def delete_map(map_id: Id, parts: PartsDep, caller: Submitting) -> None:
    """Remove a map, its files and its job's record."""
    record = seen_map(parts, caller, map_id)
    await parts.write(parts.store.delete_map, record.id)
    parts.features.forget(parts.store.maps.folder(record.id))


@router.get("/maps/{map_id}/tilejson.json")
async def tilejson(
    map_id: Id, request: Request, parts: PartsDep, caller: Reading, layer: Layer = "classes"
) -> TileJson:
    """Where the map's tiles are, for map clients."""
    record = seen_map(parts, caller, map_id)
    asked = {"want": "zooms", "path": str(_raster(parts, caller, record, layer))}
    told, _ = await parts.read(caller.client, asked)
    tiles = f"{base_url(request)}/maps/{record.id}/tiles/{{z}}/{{x}}/{{y}}.png?layer={layer}"
    return TileJson(
        name=f"{record.title}: {layer}",
        tiles=[tiles],
        bounds=told["bounds"],
        center=told["center"],
        minzoom=told["minzoom"],
        maxzoom=told["maxzoom"],
    )


@router.get("/maps/{map_id}/tiles/{z}/{x}/{y}.png", response_class=Response, responses=_PNG)
async def tile(
    map_id: Id,
    z: Annotated[int, InPath(ge=0, le=24)],
    x: Annotated[int, InPath(ge=0, lt=2**24)],
    y: Annotated[int, InPath(ge=0, lt=2**24)],
    parts: PartsDep,
    caller: Reading,
    layer: Layer = "classes",
    only: Annotated[str | None, Query(alias="show", pattern=r"^([0-9]{1,3}(,[0-9]{1,3})*)?$", max_length=1100)] = None,
) -> Response:
    """A web-map tile (Web Mercator, 256 pixels) of the class map, the confidence or the scene.

    With `show`, class values with commas in between, the class map shows these classes alone.
    """
    record = seen_map(parts, caller, map_id)
    if max(x, y) >= 2**z:
        raise NotFoundError(f"zoom {z} has no tile {x}/{y}")
    request: dict[str, Any] = {
        "want": "tile",
        "path": str(_raster(parts, caller, record, layer)),
        "layer": layer,
        "z": z,
        "x": x,
        "y": y,
    }
    if only is not None:
        request["classes"] = [int(value) for value in only.split(",") if value]
    if layer == "scene":
        job = parts.store.queue.get(record.id)
        request["bands"] = job.options.get("bands")
    _, png = await parts.read(caller.client, request)
    return Response(png, media_type="image/png", headers={"Cache-Control": _FOREVER})


@router.get("/maps/{map_id}/point")
async def point(
    map_id: Id,
    parts: PartsDep,
    caller: Reading,
    lon: Annotated[float, Query(ge=-360, le=360, allow_inf_nan=False, description="Degrees; 190 is -170.")],
    lat: Annotated[float, Query(ge=-90, le=90, allow_inf_nan=False)],
) -> PointOut:
    """Class and confidence of the pixel at a place."""
    record = seen_map(parts, caller, map_id)
    folder = parts.store.maps.folder(record.id)
    paths = {name: str(folder / f"{name}.tif") for name in ("classes", "confidence")}
    lon = turned(lon)
    told, _ = await parts.read(caller.client, {"want": "point", "paths": paths, "lon": lon, "lat": lat})
    classes = parts.features.layer(folder).summary["classes"]
    value, confidence = told["classes"], told["confidence"]
    return PointOut(
        lon=lon,
        lat=lat,
        class_id=value,
        class_name=next((c["name"] for c in classes if c["value"] == value), None),
        confidence=None if confidence is None else confidence / 100,
    )


@router.get(
    "/maps/{map_id}/item.json",
    response_class=Response,
    responses={200: {"content": {GEOJSON: {"schema": {"type": "object"}}}, "description": "A STAC 1.1 Item"}},
)
def item(map_id: Id, request: Request, parts: PartsDep, caller: Reading) -> Response:
    """The map as a STAC Item; its assets are the map's files."""
    record = seen_map(parts, caller, map_id)
    path = parts.store.maps.folder(record.id) / "item.json"
    if not path.is_file():
        raise NotFoundError("this map has no item.json: it was made by an earlier version")
    stac = json.loads(path.read_text(encoding="utf-8"))
    base = base_url(request)
    here = f"{base}/maps/{record.id}"
    stac["id"] = record.id
    stac["properties"]["title"] = f"Land cover of {record.title}"
    stac["links"] = [
        {"rel": "self", "href": f"{here}/item.json", "type": GEOJSON},
        {"rel": "related", "href": here, "type": "application/json", "title": "The map"},
        {"rel": "related", "href": f"{base}/collections/{record.id}", "type": "application/json", "title": "Polygons"},
    ]
    for name, asset in stac["assets"].items():
        asset["href"] = f"{here}/{name}"
    return Response(json.dumps(stac), media_type=GEOJSON)


@router.get(
    "/maps/{map_id}/{file}",
    response_class=Response,
    responses={
        200: {"content": _FILE_CONTENT, "description": "The file"},
        206: {"content": _FILE_CONTENT, "description": "A part of it"},
        304: {"description": "What the client has is current"},
    },
)
def file(map_id: Id, file: FileName, request: Request, parts: PartsDep, caller: Reading) -> Response:
    """A file of the map, whole or in ranges; a Cloud Optimized GeoTIFF may be read in place."""
    record = seen_map(parts, caller, map_id)
    path = parts.store.maps.folder(record.id) / file
    if not path.is_file():
        raise NotFoundError(f"this map has no {file}: {_remedy(file)}")
    return _send(request, path, FILES[file], f"{Path(record.title).stem}-{file}")


def _remedy(file: str) -> str:
    """How to get a file that a map lacks."""
    if file == PROBABILITIES:
        return "ask for it with the job's option probabilities"
    if file.startswith("polygons."):
        return f"ask for it with the job's option formats, '{file.removeprefix('polygons.')}'"
    return "it was made without; map the scene again to have it"


def _send(request: Request, path: Path, kind: str, name: str) -> Response:
    stat = path.stat()
    headers = {
        "ETag": f'"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"',
        "Cache-Control": "private, no-cache",
        "Last-Modified": formatdate(stat.st_mtime, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    status = verdict(request.headers, headers["ETag"], stat.st_mtime)
    if status == 304:
        return Response(status_code=304, headers=headers)
    if status == 412:
        return problem(request, 412, "Precondition Failed", "the file is not the one that the request is about")
    if request.scope.get("head"):
        return Response(headers={**headers, "Content-Length": str(stat.st_size), "Content-Type": kind})
    ranges = satisfiable(request.headers.get("range", ""), stat.st_size)
    if ranges == "" and "if-range" not in request.headers:
        detail = f"the file has {stat.st_size} bytes, and none in this range"
        size = {"Content-Range": f"bytes */{stat.st_size}"}
        return problem(request, 416, "Range Not Satisfiable", detail, headers=size)
    return _File(ranges, path, media_type=kind, headers=headers, filename=name, stat_result=stat)


class _File(FileResponse):
    """A file, or of it the ranges that were found good; a Range header that says anything else does not count."""

    def __init__(self, ranges: str | None, path: Path, **given: Any) -> None:
        super().__init__(path, **given)
        self._ranges = ranges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        if self._ranges:
            headers.append((b"range", self._ranges.encode("latin-1")))
        await super().__call__({**scope, "headers": headers}, receive, send)


def _raster(parts: Parts, caller: Caller, record: MapRecord, layer: str) -> Path:
    if layer != "scene":
        return parts.store.maps.folder(record.id) / f"{layer}.tif"
    scene = parts.store.scenes.get(record.scene)
    if not caller.sees(scene):
        raise NotFoundError("the scene of this map is not there any more")
    return parts.store.scenes.pixels(scene.id)
