"""An example for every body that the service sends, in its own models, so that none can be wrong in its shape."""

from typing import Any

from pydantic import BaseModel

from api.schemas.common import Link
from api.schemas.corrections import CorrectionsOut, RevisionMade, RevisionOut, SuggestionsOut
from api.schemas.responses import (
    Accepted,
    Collection,
    Collections,
    Conformance,
    Extent,
    FeatureCollectionOut,
    FeatureOut,
    FitOut,
    Health,
    JobOut,
    Jobs,
    Landing,
    LegendEntry,
    MapEntry,
    MapOut,
    Maps,
    Me,
    ModelOut,
    Models,
    PointOut,
    ProgressOut,
    Quota,
    SceneOut,
    Scenes,
    Spatial,
    Statistics,
    TileJson,
    ZoneOut,
)
from api.schemas.tiles import TileLimits, Tileset, TilesetItem, Tilesets, VectorLayer, VectorTileJson
from geounet.model.bundle import Score
from geounet.service.features.crs_uri import CRS84, EVERYWHERE
from geounet.service.jobs import JobState
from geounet.service.keys import Scope

_AT = "http://127.0.0.1:8000"
_SCENE, _JOB = "5f1c0d9e8b7a65432100", "9a1be07c44d25518f3aa"
_UTM = "http://www.opengis.net/def/crs/EPSG/0/32613"
_WHEN = "2026-05-04T09:30:00.000000Z"


def _link(path: str, rel: str, kind: str = "application/json", title: str | None = None) -> Link:
    return Link(href=f"{_AT}{path}", rel=rel, type=kind, title=title)


SCENE = SceneOut(
    id=_SCENE,
    name="suburb.tif",
    bytes=12_583_456,
    sha256="8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92",
    created=_WHEN,
    info={
        "columns": 2048,
        "rows": 2048,
        "dtype": "uint8",
        "bands": [{"number": 1, "description": None, "color": "red", "nodata": None}],
        "crs": "EPSG:32613",
        "bounds": [-105.11, 40.16, -105.1, 40.17],
        "gsd_m": 0.5,
        "fit": {
            "model": "overhead-rgb",
            "fits": True,
            "map": {"rows": 2048, "columns": 2048},
            "checks": [{"topic": "resolution", "status": "ok", "text": "0.5 m a pixel", "remedy": ""}],
        },
    },
    links=[_link(f"/scenes/{_SCENE}", "self")],
)

QUEUED = JobOut(
    id=_JOB,
    state=JobState.QUEUED,
    scene=_SCENE,
    scene_name="suburb.tif",
    model="overhead-rgb",
    options={"min_area_m2": 10, "formats": ["gpkg", "geojson"]},
    created=_WHEN,
    started=None,
    finished=None,
    place=0,
    progress=None,
    error=None,
    cancelling=False,
    attempts=0,
    revision=1,
    links=[_link(f"/jobs/{_JOB}", "self"), _link(f"/jobs/{_JOB}/events", "monitor", "text/event-stream")],
)

RUNNING = QUEUED.model_copy(
    update={
        "state": JobState.RUNNING,
        "started": "2026-05-04T09:30:01.000000Z",
        "place": None,
        "progress": ProgressOut(stage="predict", done=1_048_576, total=4_194_304, mpx_per_s=2.3, seconds_left=1.4),
        "attempts": 1,
        "revision": 4,
    }
)

_SUMMARY: dict[str, Any] = {
    "scene": "suburb.tif",
    "classes": [
        {"value": 1, "name": "building", "area_m2": 104_857.6, "share": 0.1},
        {"value": 2, "name": "tree", "area_m2": 943_718.4, "share": 0.9},
    ],
    "nodata_share": 0.0,
}
_ENTRY: dict[str, Any] = {
    "id": _JOB,
    "title": "suburb.tif",
    "scene": _SCENE,
    "model": "overhead-rgb",
    "bytes": 9_437_184,
    "created": "2026-05-04T09:30:20.000000Z",
}
MAP = MapOut(
    **_ENTRY,
    summary=_SUMMARY,
    links=[_link(f"/maps/{_JOB}/classes.tif", "item", "image/tiff; application=geotiff", "classes.tif")],
)

_RING = [[-105.1, 40.16], [-105.0999, 40.16], [-105.0999, 40.1601], [-105.1, 40.1601], [-105.1, 40.16]]
FEATURE = FeatureOut(
    type="Feature",
    id=1234,
    geometry={"type": "Polygon", "coordinates": [_RING]},
    properties={
        "class_id": 1,
        "class_name": "building",
        "area_m2": 94.6,
        "perimeter_m": 39.2,
        "confidence": 0.91,
        "pixel_count": 378,
    },
    links=[_link(f"/collections/{_JOB}/items/1234", "self", "application/geo+json")],
)

_COLLECTION = Collection(
    id=_JOB,
    title="suburb.tif",
    description="Land cover of suburb.tif, made by overhead-rgb",
    extent=Extent(spatial=Spatial(bbox=[[-105.11, 40.16, -105.1, 40.17]], crs=CRS84)),
    crs=[*EVERYWHERE, _UTM],
    storageCrs=_UTM,
    links=[_link(f"/collections/{_JOB}/items", "items", "application/geo+json")],
)

_TILESET: dict[str, Any] = {
    "title": "Polygons of suburb.tif",
    "dataType": "vector",
    "crs": "http://www.opengis.net/def/crs/EPSG/0/3857",
    "links": [_link(f"/collections/{_JOB}/tiles/WebMercatorQuad", "self")],
}

_REVISION: dict[str, Any] = {
    "revision": 1,
    "corrections": 1,
    "classes": {"road": 1},
    "created": "2026-05-04T09:31:00Z",
}
_POINT: dict[str, Any] = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [-105.1412, 40.1391]}}
_BODIES: tuple[BaseModel, ...] = (
    Accepted(scene=SCENE, job=QUEUED),
    SCENE,
    Scenes(scenes=[SCENE], links=[]),
    RUNNING,
    Jobs(jobs=[RUNNING], links=[]),
    MAP,
    Maps(maps=[MapEntry(**_ENTRY, links=[_link(f"/maps/{_JOB}", "self")])], links=[]),
    PointOut(lon=-105.1, lat=40.16, class_id=1, class_name="building", confidence=0.91),
    Statistics(
        area_m2=4210.5,
        nodata_m2=0.0,
        confidence=0.88,
        classes=[ZoneOut(value=1, name="building", pixels=16842, area_m2=4210.5, share=1.0, confidence=0.88)],
    ),
    FitOut(model="overhead-rgb", fits=True, checks=SCENE.info["fit"]["checks"]),
    Me(
        key=None,
        name=None,
        scopes=[Scope.READ, Scope.SUBMIT],
        bytes=Quota(used=22_020_640, limit=None),
        pixels=Quota(used=4_194_304, limit=None),
        open_jobs=Quota(used=0, limit=None),
        keys_needed=False,
    ),
    Tilesets(tilesets=[TilesetItem(**_TILESET)], links=[_link(f"/collections/{_JOB}/tiles", "self")]),
    Tileset(
        **_TILESET,
        tileMatrixSetURI="http://www.opengis.net/def/tilematrixset/OGC/1.0/WebMercatorQuad",
        tileMatrixSetLimits=[
            TileLimits(tileMatrix="0", minTileRow=0, maxTileRow=0, minTileCol=0, maxTileCol=0),
        ],
    ),
    VectorTileJson(
        name="suburb.tif: polygons",
        tiles=[f"{_AT}/collections/{_JOB}/tiles/WebMercatorQuad/{{z}}/{{y}}/{{x}}.mvt"],
        bounds=[-105.11, 40.16, -105.1, 40.17],
        minzoom=0,
        maxzoom=17,
        detailzoom=14,
        vector_layers=[
            VectorLayer(id="landcover", fields={"class_id": "Number"}, description="", minzoom=0, maxzoom=17)
        ],
    ),
    TileJson(
        name="suburb.tif: classes",
        tiles=[f"{_AT}/maps/{_JOB}/tiles/{{z}}/{{x}}/{{y}}.png?layer=classes"],
        bounds=[-105.11, 40.16, -105.1, 40.17],
        center=[-105.105, 40.165, 14],
        minzoom=14,
        maxzoom=18,
    ),
    Models(
        models=[
            ModelOut(
                name="overhead-rgb",
                version="2",
                description="Land cover of aerial images",
                licence="Apache-2.0",
                bands=("red", "green", "blue"),
                gsd_m=(0.25, 1.5),
                legend=[LegendEntry(value=1, name="building", color=(200, 50, 50))],
                scores=(Score(data="a town left out of training", miou=0.53, iou={"building": 0.53}),),
                default=True,
            )
        ]
    ),
    Health(status="ok", checks={"database": "ok", "disk": "ok", "models": "ok"}),
    Landing(title="geounet", description="Land-cover maps and polygons.", links=[_link("/collections", "data")]),
    Conformance(conformsTo=["http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core"]),
    _COLLECTION,
    Collections(crs=list(EVERYWHERE), collections=[_COLLECTION], links=[_link("/collections", "self")]),
    FEATURE,
    FeatureCollectionOut(
        type="FeatureCollection",
        timeStamp="2026-05-04T09:31:00Z",
        numberMatched=20_000,
        numberReturned=1,
        features=[FEATURE.model_copy(update={"links": None})],
        links=[_link(f"/collections/{_JOB}/items?limit=1&after=1234", "next", "application/geo+json")],
    ),
    RevisionMade(**_REVISION, links=[_link(f"/maps/{_JOB}/corrections", "collection")]),
    CorrectionsOut(
        features=[{**_POINT, "properties": {"class": "road", "revision": 1}}], revisions=[RevisionOut(**_REVISION)]
    ),
    SuggestionsOut(features=[{**_POINT, "properties": {"rank": 1, "class": "building", "confidence": 0.41}}]),
)
BODIES: dict[str, Any] = {type(body).__name__: body.model_dump(mode="json") for body in _BODIES}
"""By the name of the model."""

PARAMETERS: dict[str, Any] = {
    "map_id": _JOB,
    "job_id": _JOB,
    "scene_id": _SCENE,
    "feature_id": 1234,
    "name": "suburb.tif",
    "file": "classes.tif",
    "z": 17,
    "x": 27261,
    "y": 49443,
    "lon": -105.1,
    "lat": 40.16,
    "bbox": [-105.11, 40.16, -105.1, 40.17],
    "class": ["building", "tree"],
    "show": "1,2",
    "size": 256,
    "band": 1,
    "crs": CRS84,
    "options": '{"min_area_m2": 10}',
    "Idempotency-Key": "5d3f9c1e",
    "prefer": "wait=30",
    "Last-Event-ID": "3",
}
"""By the name of the parameter."""

_STAC: dict[str, Any] = {
    "type": "Feature",
    "stac_version": "1.1.0",
    "id": _JOB,
    "geometry": FEATURE.geometry,
    "bbox": [-105.1, 40.16, -105.0999, 40.1601],
    "properties": {"datetime": "2021-06-05T10:20:30Z", "proj:code": "EPSG:32613"},
    "links": [],
    "assets": {"classes.tif": {"href": f"{_AT}/maps/{_JOB}/classes.tif", "roles": ["data"]}},
}
OTHERS: dict[tuple[str, str], Any] = {
    ("/jobs/events", "text/event-stream"): f"event: job\ndata: {RUNNING.model_dump_json()}\n\n",
    ("/jobs/{job_id}/events", "text/event-stream"): f"id: 4\nevent: running\ndata: {RUNNING.model_dump_json()}\n\n",
    ("/maps/{map_id}/item.json", "application/geo+json"): _STAC,
    ("/predict", "application/geo+json"): {
        "type": "FeatureCollection",
        "features": [FEATURE.model_dump(mode="json", exclude={"links"})],
    },
}
"""By path and media type, for bodies without a model."""
