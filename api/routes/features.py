"""OGC API - Features, Part 1 (core, GeoJSON, HTML, OpenAPI 3) and Part 2 (CRS): every map is a collection."""

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from api.dependencies import Parts, PartsDep, Reading, seen_map
from api.pages import render as pages
from api.pages.negotiate import HTML_TYPE, Format, answer, wants_html, with_html
from api.routes import tiles
from api.schemas.common import Link
from api.schemas.records import base_url
from api.schemas.requests import Id
from api.schemas.responses import (
    Collection,
    Collections,
    Conformance,
    Extent,
    FeatureCollectionOut,
    FeatureOut,
    Landing,
    Spatial,
)
from geounet.outputs.files import GEOJSON
from geounet.service.errors import BadRequestError, NotFoundError
from geounet.service.features.crs_uri import CRS84, EVERYWHERE, named, uri_of, uris_of
from geounet.service.features.layer import BATCH, FeatureLayer, Filter, Page
from geounet.service.features.search_box import SearchBox, search_box
from geounet.service.tables.maps import MapRecord

router = APIRouter(tags=["features"])


CONFORMS_TO = [
    f"http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/{name}" for name in ("core", "geojson", "html", "oas30")
] + ["http://www.opengis.net/spec/ogcapi-features-2/1.0/conf/crs", *tiles.CONFORMS_TO]
_OPENAPI = "application/vnd.oai.openapi+json;version=3.0"


def _one(value: Any) -> Any:
    """`bbox` and `class` are lists with commas in between, in one parameter."""
    if isinstance(value, list):
        value = ",".join(str(v) for v in value)
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _time(text: str | None) -> str | None:
    """A date-time, or two with a slash in between of which one may be open (OGC 17-069r4, section 7.15.4)."""
    if text is None:
        return None
    ends = [None if end in ("", "..") else _instant(end) for end in text.split("/")]
    if len(ends) > 2 or (len(ends) == 1 and ends[0] is None):
        raise ValueError(_NO_TIME)
    if len(ends) == 2 and ends[0] is not None and ends[1] is not None and ends[0] > ends[1]:
        raise ValueError("must end after it begins (RFC 3339)")
    return text


def _instant(text: str) -> datetime:
    if not _DATE_TIME.match(text):
        raise ValueError(_NO_TIME)
    try:
        return datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError as error:
        raise ValueError(_NO_TIME) from error


_DATE_TIME = re.compile(
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
_NO_TIME = (
    "must be a date with a time and its zone, as RFC 3339 has it, or two of them as BEGIN/END, '..' for an open end"
)
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]


class Plain(BaseModel):
    """Parameters of pages that have none but the format. Unknown parameters are refused, as the standard asks."""

    model_config = ConfigDict(extra="forbid")

    f: Format | None = Field(default=None, description="json or html, instead of the Accept header.")


class Listed(Plain):
    """Parameters of the list of collections."""

    limit: int = Field(default=1000, ge=1, le=1000)
    after: Id | None = None


class ItemsQuery(Plain):
    """Parameters of a page of features."""

    bbox: Annotated[
        list[Finite] | None,
        BeforeValidator(_one),
        Field(description="Lower left, upper right, in the axis order of bbox-crs.", min_length=4, max_length=6),
    ] = None
    bbox_crs: str = Field(default=CRS84, alias="bbox-crs", max_length=200)
    crs: str = Field(default=CRS84, max_length=200)
    limit: int = Field(default=100, ge=1, lt=2**63, description="Features of the page; the service caps it.")
    classes: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]] | None,
        BeforeValidator(_one),
        Field(alias="class", description="Class names or values.", max_length=255),
    ] = None
    min_area: float | None = Field(default=None, ge=0, le=1e15, allow_inf_nan=False, description="Square metres.")
    clip: bool = Field(default=False, description="Cut polygons at the box instead of sending them whole.")
    after: int | None = Field(default=None, ge=-1, lt=2**63, description="From a `next` link: the id before the page.")
    datetime_: Annotated[str | None, AfterValidator(_time)] = Field(
        default=None,
        alias="datetime",
        max_length=100,
        description="An instant or an interval (RFC 3339). Polygons have no time of their own: all of them match.",
        examples=["2018-02-12T00:00:00Z/.."],
    )


class ItemQuery(Plain):
    """Parameters of one feature."""

    crs: str = Field(default=CRS84, max_length=200)


@router.get("/", responses=with_html(Landing))
def landing(request: Request, parts: PartsDep, q: Annotated[Plain, Query()]) -> Response:
    """What there is and where."""
    base = base_url(request)
    body = Landing(
        title="geounet",
        description="Land-cover maps and polygons from satellite and aerial images.",
        links=[
            Link(href=f"{base}/", rel="self", type="application/json", title="This document"),
            Link(href=f"{base}/?f=html", rel="alternate", type=HTML_TYPE, title="This document as a page"),
            Link(href=f"{base}/openapi.json", rel="service-desc", type=_OPENAPI, title="The API"),
            Link(href=f"{base}/conformance", rel="conformance", type="application/json", title="Conformance"),
            Link(href=f"{base}/collections", rel="data", type="application/json", title="Collections"),
            Link(href=f"{base}/maps", rel="item", type="application/json", title="Maps"),
            Link(href=f"{base}/jobs", rel="item", type="application/json", title="Jobs"),
            Link(href=f"{base}/scenes", rel="item", type="application/json", title="Scenes"),
            Link(href=f"{base}/models", rel="item", type="application/json", title="Models"),
        ],
    )
    if wants_html(request, q.f):
        parts.readers.warm()
    return answer(request, q.f, body, lambda _: pages.app(request, parts.settings))


@router.get("/web/{name:path}", include_in_schema=False)
def asset(name: str) -> Response:
    """What the pages need beside themselves."""
    found = pages.assets().get(name)
    if found is None:
        raise NotFoundError("the pages have no such file")
    return Response(found.content, media_type=found.kind, headers={"Cache-Control": found.keep})


@router.get("/conformance", responses=with_html(Conformance))
def conformance(request: Request, q: Annotated[Plain, Query()]) -> Response:
    """The parts of the standards that this service keeps to."""
    body = Conformance(conformsTo=CONFORMS_TO)
    return answer(request, q.f, body, partial(pages.document, request, "Conformance"))


@router.get("/collections", responses=with_html(Collections))
def collections(request: Request, parts: PartsDep, caller: Reading, q: Annotated[Listed, Query()]) -> Response:
    """The caller's maps, each a collection of polygons."""
    base = base_url(request)
    found = parts.store.maps.page(caller.owner, everyone=caller.everyone, after=q.after, limit=q.limit + 1)
    links = [Link(href=f"{base}/collections", rel="self", type="application/json")]
    if len(found) > q.limit:
        href = f"{base}/collections?limit={q.limit}&after={found[q.limit - 1].id}"
        links.append(Link(href=href, rel="next", type="application/json"))
    body = Collections(
        crs=list(EVERYWHERE), collections=[_collection(request, parts, m) for m in found[: q.limit]], links=links
    )
    return answer(request, q.f, body, partial(pages.document, request, "Collections"))


@router.get("/collections/{map_id}", responses=with_html(Collection))
def collection(
    map_id: Id, request: Request, parts: PartsDep, caller: Reading, q: Annotated[Plain, Query()]
) -> Response:
    """One map as a collection."""
    record = seen_map(parts, caller, map_id)
    page = partial(pages.document, request, record.title)
    return answer(request, q.f, _collection(request, parts, record), page)


def _collection(request: Request, parts: Parts, record: MapRecord) -> Collection:
    layer = _layer(parts, record)
    here = f"{base_url(request)}/collections/{record.id}"
    bounds = layer.lonlat_bounds()
    return Collection(
        id=record.id,
        title=record.title,
        description=f"Land cover of {record.title}, made by {record.model}",
        extent=Extent(spatial=Spatial(bbox=[bounds], crs=CRS84)) if bounds else None,
        crs=list(uris_of(layer.crs)),
        storageCrs=uri_of(layer.crs),
        links=[
            Link(href=here, rel="self", type="application/json"),
            Link(href=f"{here}/items", rel="items", type=GEOJSON, title="The polygons"),
            Link(href=f"{here}/items?f=html", rel="items", type=HTML_TYPE, title="The polygons as a page"),
            Link(
                href=f"{here}/tiles",
                rel="http://www.opengis.net/def/rel/ogc/1.0/tilesets-vector",
                type="application/json",
                title="The polygons as vector tiles",
            ),
            Link(href=f"{base_url(request)}/maps/{record.id}", rel="related", type="application/json", title="The map"),
        ],
    )


@router.get("/collections/{map_id}/items", responses=with_html(FeatureCollectionOut, GEOJSON))
async def items(
    map_id: Id, request: Request, parts: PartsDep, caller: Reading, q: Annotated[ItemsQuery, Query()]
) -> Response:
    """Polygons of a map, page by page in the order of their ids."""
    record = seen_map(parts, caller, map_id)
    work = partial(_items, request, parts, record, q)
    plain = q.bbox is None and q.classes is None and q.min_area is None and q.crs == CRS84
    if plain and q.limit <= BATCH and not wants_html(request, q.f) and _is_quick(parts, record):
        return work()
    return await run_in_threadpool(work)


def _is_quick(parts: Parts, record: MapRecord) -> bool:
    """Whether a look-up by ids is over sooner than another thread has begun: it need not leave the event loop."""
    layer = parts.features.opened(parts.store.maps.folder(record.id))
    return layer is not None and layer.has_texts


def _items(request: Request, parts: Parts, record: MapRecord, q: ItemsQuery) -> Response:
    layer = _layer(parts, record)
    box = _box(layer, q)
    if q.clip and box is None:
        raise BadRequestError("clip needs a bbox to cut at", "clip")
    wanted = Filter(box, _class_values(layer, q.classes), q.min_area)
    limit = min(q.limit, parts.settings.page_limit)
    page = layer.page(wanted, q.after, limit, parts.features.get)
    carrier = layer.carrier(_crs(layer, q.crs, "crs"))
    links = _page_links(request, page)
    headers = {"Content-Crs": f"<{carrier.target.uri}>", "Vary": "Accept"}
    head = (
        f'{{"type":"FeatureCollection","timeStamp":"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",'
        f'"numberMatched":{page.matched},"numberReturned":{len(page.ids)},'
        f'"links":{json.dumps([link.model_dump(exclude_none=True) for link in links])},"features":['
    ).encode()
    body = layer.geojson(page.ids, carrier, box if q.clip else None)
    if wants_html(request, q.f):
        shown = json.loads(head + b"".join(body) + b"]}")
        return HTMLResponse(pages.features(request, record.title, shown), headers=headers)
    if len(page.ids) <= BATCH:
        return Response(head + b"".join(body) + b"]}", media_type=GEOJSON, headers=headers)
    return StreamingResponse(_streamed(head, body), media_type=GEOJSON, headers=headers)


@router.get("/collections/{map_id}/items/{feature_id}", responses=with_html(FeatureOut, GEOJSON))
async def item(
    map_id: Id,
    feature_id: Annotated[int, InPath(ge=0, lt=2**63)],
    request: Request,
    parts: PartsDep,
    caller: Reading,
    q: Annotated[ItemQuery, Query()],
) -> Response:
    """One polygon."""
    record = seen_map(parts, caller, map_id)
    work = partial(_item, request, parts, record, feature_id, q)
    return work() if _is_quick(parts, record) else await run_in_threadpool(work)


def _item(request: Request, parts: Parts, record: MapRecord, feature_id: int, q: ItemQuery) -> Response:
    layer = _layer(parts, record)
    carrier = layer.carrier(_crs(layer, q.crs, "crs"))
    text = layer.one(feature_id, carrier)
    here = f"{base_url(request)}/collections/{record.id}"
    links = [
        {"href": f"{here}/items/{feature_id}", "rel": "self", "type": GEOJSON},
        {"href": here, "rel": "collection", "type": "application/json"},
    ]
    headers = {"Content-Crs": f"<{carrier.target.uri}>", "Vary": "Accept"}
    body = text[:-1] + b',"links":' + json.dumps(links).encode() + b"}"
    if wants_html(request, q.f):
        return HTMLResponse(pages.document(request, f"{record.title}: {feature_id}", json.loads(body)), headers=headers)
    return Response(body, media_type=GEOJSON, headers=headers)


def _layer(parts: Parts, record: MapRecord) -> FeatureLayer:
    return parts.features.layer(parts.store.maps.folder(record.id))


def _streamed(head: bytes, body: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from body
    yield b"]}"


def _crs(layer: FeatureLayer, uri: str, field: str) -> str:
    known = uris_of(layer.crs)
    if uri not in known:
        raise BadRequestError(f"{field} must be one of {', '.join(known)}", field)
    return uri


def _box(layer: FeatureLayer, q: ItemsQuery) -> SearchBox | None:
    if q.bbox is None:
        _crs(layer, q.bbox_crs, "bbox-crs")
        return None
    if len(q.bbox) not in (4, 6):
        raise BadRequestError("bbox has four numbers, or six with heights", "bbox")
    v = q.bbox if len(q.bbox) == 4 else [*q.bbox[:2], *q.bbox[3:5]]
    crs = named(_crs(layer, q.bbox_crs, "bbox-crs"))
    if crs.crs.is_geographic and not _on_earth(v, crs.swapped):
        raise BadRequestError(
            "bbox lies outside -180..180 (or 0..360) and -90..90: mind the axis order of bbox-crs", "bbox"
        )
    return search_box((v[0], v[1], v[2], v[3]), crs, layer.crs, layer.extent)


def _on_earth(v: list[float], swapped: bool) -> bool:
    lon, lat = ((v[1], v[3]), (v[0], v[2])) if swapped else ((v[0], v[2]), (v[1], v[3]))
    return all(math.fabs(x) <= 360 for x in lon) and all(math.fabs(y) <= 90 for y in lat)


def _class_values(layer: FeatureLayer, names: list[str] | None) -> tuple[int, ...]:
    """Raster values of classes given by name or value. Raises BadRequestError for one that the map has not."""
    known = {c["name"]: int(c["value"]) for c in layer.summary["classes"]}
    known |= {str(value): value for value in known.values()}
    if unknown := [name for name in names or () if name not in known]:
        choice = ", ".join(c["name"] for c in layer.summary["classes"])
        raise BadRequestError(f"the map has no class '{unknown[0]}', choose from: {choice}", "class")
    return tuple(sorted({known[name] for name in names or ()}))


def _page_links(request: Request, page: Page) -> list[Link]:
    here = f"{base_url(request)}{request.url.path.removeprefix(request.scope.get('root_path', ''))}"
    given = list(request.query_params.multi_items())
    asked = [(k, v) for k, v in given if k != "after"]
    as_page = urlencode([*((k, v) for k, v in given if k != "f"), ("f", "html")])
    links = [
        Link(href=f"{here}?{urlencode(given)}" if given else here, rel="self", type=GEOJSON),
        Link(href=f"{here}?{as_page}", rel="alternate", type=HTML_TYPE),
        Link(href=here.removesuffix("/items"), rel="collection", type="application/json"),
    ]
    if page.more and len(page.ids):
        following = urlencode([*asked, ("after", int(page.ids[-1]))])
        links.append(Link(href=f"{here}?{following}", rel="next", type=GEOJSON))
    return links
