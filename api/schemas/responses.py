"""What goes over the wire, as JSON."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.schemas.common import Link
from api.schemas.requests import Id
from geounet.model.bundle import Score
from geounet.service.jobs import JobState
from geounet.service.keys import Scope


class SceneOut(BaseModel):
    """An accepted upload."""

    id: Id
    name: str
    bytes: int
    sha256: str
    created: str
    info: dict[str, Any] = Field(description="What the header says: size, bands, CRS, resolution; `fit`: the model.")
    links: list[Link]


class ProgressOut(BaseModel):
    """How far a job is."""

    stage: str
    done: int
    total: int
    mpx_per_s: float
    seconds_left: float | None


class JobOut(BaseModel):
    """A job as it is now."""

    id: Id
    state: JobState
    scene: str
    scene_name: str | None = Field(description="Null once the scene is deleted.")
    model: str
    options: dict[str, Any]
    created: str
    started: str | None
    finished: str | None
    place: int | None = Field(description="Jobs ahead in the queue; null unless queued.")
    progress: ProgressOut | None
    error: dict[str, str] | None
    cancelling: bool
    attempts: int
    revision: int
    links: list[Link]


class Accepted(BaseModel):
    """Answer to an upload or a job request."""

    scene: SceneOut
    job: JobOut | None


class Scenes(BaseModel):
    """One page of scenes."""

    scenes: list[SceneOut]
    links: list[Link]


class Jobs(BaseModel):
    """One page of jobs, the newest first."""

    jobs: list[JobOut]
    links: list[Link]


class MapOut(BaseModel):
    """A finished map."""

    id: Id
    title: str
    scene: str
    model: str
    bytes: int
    created: str
    corrected_from: Id | None = Field(default=None, description="The map that this one is a correction of.")
    summary: dict[str, Any]
    links: list[Link]


class MapEntry(BaseModel):
    """A finished map in a list."""

    id: Id
    title: str
    scene: str
    model: str
    bytes: int
    created: str
    links: list[Link]


class Maps(BaseModel):
    """One page of maps."""

    maps: list[MapEntry]
    links: list[Link]


class PointOut(BaseModel):
    """Class and confidence at a place; null where the map has none."""

    lon: float
    lat: float
    class_id: int | None
    class_name: str | None
    confidence: float | None


class ZoneOut(BaseModel):
    """What an area holds of one class."""

    value: int
    name: str
    pixels: int
    area_m2: float
    share: float = Field(description="Of the mapped part of the area, 0-1.")
    confidence: float | None = Field(description="Mean, 0-1.")


class Statistics(BaseModel):
    """What an area holds of a map, from its class raster: a pixel counts where its centre lies inside."""

    area_m2: float = Field(description="The mapped part of the area.")
    nodata_m2: float
    confidence: float | None
    classes: list[ZoneOut]


class TileJson(BaseModel):
    """TileJSON 3.0.0."""

    tilejson: str = "3.0.0"
    name: str
    tiles: list[str]
    bounds: list[float]
    center: list[float]
    minzoom: int
    maxzoom: int
    scheme: str = "xyz"


class LegendEntry(BaseModel):
    """One land class."""

    value: int
    name: str
    color: tuple[int, int, int]


class ModelOut(BaseModel):
    """A model that jobs may name."""

    name: str
    version: str
    description: str
    licence: str
    bands: tuple[str, ...]
    gsd_m: tuple[float, float]
    legend: list[LegendEntry]
    scores: tuple[Score, ...]
    default: bool


class Models(BaseModel):
    """All models."""

    models: list[ModelOut]


class Quota(BaseModel):
    """What a caller uses of its share; null is no limit."""

    used: int
    limit: int | None


class Me(BaseModel):
    """Who is calling, and what it may do."""

    key: str | None = Field(description="The key's id; null where the service asks for none.")
    name: str | None
    scopes: list[Scope]
    bytes: Quota
    pixels: Quota
    open_jobs: Quota
    keys_needed: bool


class FitOut(BaseModel):
    """The pre-flight of a scene for a model with options: whether it fits, and a line a check."""

    model: str
    fits: bool
    why: str | None = None
    field: str | None = None
    checks: list[dict[str, str]]


class Health(BaseModel):
    """Whether the service works."""

    status: Literal["ok", "failing"]
    checks: dict[str, str] = {}


class Landing(BaseModel):
    """OGC API landing page."""

    title: str
    description: str
    links: list[Link]


class Conformance(BaseModel):
    """OGC API conformance classes."""

    conformsTo: list[str]  # noqa: N815 - the standard's spelling


class Spatial(BaseModel):
    """Where a collection lies."""

    bbox: list[list[float]]
    crs: str


class Extent(BaseModel):
    """Where a collection lies."""

    spatial: Spatial


class Collection(BaseModel):
    """OGC API collection: the polygons of one map."""

    id: str
    title: str
    description: str
    itemType: Literal["feature"] = "feature"  # noqa: N815
    extent: Extent | None
    crs: list[str]
    storageCrs: str | None  # noqa: N815
    links: list[Link]


class Collections(BaseModel):
    """OGC API collections."""

    crs: list[str]
    collections: list[Collection]
    links: list[Link]


class FeatureOut(BaseModel):
    """One polygon with its class, as GeoJSON."""

    type: Literal["Feature"]
    id: int
    geometry: dict[str, Any]
    properties: dict[str, Any]
    links: list[Link] | None = None


class FeatureCollectionOut(BaseModel):
    """One page of polygons, as GeoJSON."""

    type: Literal["FeatureCollection"]
    timeStamp: str  # noqa: N815
    numberMatched: int  # noqa: N815
    numberReturned: int  # noqa: N815
    features: list[FeatureOut]
    links: list[Link]
