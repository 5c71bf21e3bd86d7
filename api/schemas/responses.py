"""What goes over the wire, as JSON."""

from typing import Annotated, Any, Literal

import shapely
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from shapely.geometry import shape

from geounet.model.bundle import Score
from geounet.service.jobs import JobState

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{20}$", examples=["5f1c0d9e8b7a65432100"])]
BandName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
BandNumber = Annotated[int, Field(ge=1, le=65535)]
Format = Literal["gpkg", "geojson", "geojsonl", "fgb", "parquet"]
_MOST_VERTICES = 10_000


class Wire(BaseModel):
    """Root of the bodies that clients send: an unknown field is an error, not a silent loss."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Link(BaseModel):
    """A way on."""

    href: str
    rel: str
    type: str | None = None
    title: str | None = None


_EXAMPLE_PROBLEM: dict[str, Any] = {
    "type": "urn:problem-type:geounet:unfit-scene",
    "title": "The scene does not suit the model",
    "status": 422,
    "detail": "scene.tif has 8 bands without names: say which is which, with the option bands",
    "instance": "/jobs",
    "request_id": "c1a9f0e2b4d87365",
    "errors": [{"field": "options.bands", "detail": "say which is which"}],
}


class Problem(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_PROBLEM]})

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = None
    errors: list[dict[str, str]] | None = None


class Area(Wire):
    """A GeoJSON Polygon or MultiPolygon in longitude and latitude."""

    type: Literal["Polygon", "MultiPolygon"]
    coordinates: list[Any]

    @field_validator("coordinates")
    @classmethod
    def _small(cls, value: list[Any]) -> list[Any]:
        if _numbers(value, 0) > 3 * _MOST_VERTICES:
            raise ValueError(f"an area may have {_MOST_VERTICES} vertices: simplify it")
        return value

    @model_validator(mode="after")
    def _sound(self) -> "Area":
        try:
            area = shape({"type": self.type, "coordinates": self.coordinates})
        except (ValueError, TypeError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
            raise ValueError("the coordinates make no polygon: see RFC 7946, section 3.1.6") from error
        west, south, east, north = area.bounds if not area.is_empty else (1.0, 1.0, 0.0, 0.0)
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise ValueError("the area must be given in longitude and latitude and cover some ground")
        if not area.is_valid:
            raise ValueError(f"the area is no valid polygon: {shapely.is_valid_reason(area)}")
        return self


def _numbers(value: Any, depth: int) -> int:
    if depth > 4:
        raise ValueError("the coordinates are nested too deeply")
    if not isinstance(value, list):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e6:
            raise ValueError("coordinates are numbers in degrees")
        return 1
    return sum(_numbers(v, depth + 1) for v in value)


class JobOptions(Wire):
    """Everything that may be chosen about one map; what is left out is recommended."""

    bands: Annotated[dict[BandName, BandNumber], Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="Which band of the file is which, from 1.",
        examples=[{"red": 5, "green": 3, "blue": 2}],
    )
    assume_crs: Annotated[str, Field(pattern=r"^(EPSG|ESRI|IAU_2015):[0-9]{1,7}$")] | None = Field(
        default=None, description="CRS of a scene that has none.", examples=["EPSG:32613"]
    )
    stretch: Annotated[str, Field(pattern=r"^(none|auto|-?[0-9.]{1,20},-?[0-9.]{1,20})$")] | None = Field(
        default=None, description="LO,HI: these counts become dark and bright; none: counts are 0-255 already."
    )
    force: bool = Field(default=False, description="Go on where resolution or values do not fit the model.")
    min_area_m2: Annotated[float, Field(ge=0, le=1e12)] | None = Field(
        default=None, description="Smallest polygon; smaller ones join a neighbour."
    )
    simplify_px: Annotated[float, Field(ge=0, le=100)] | None = Field(
        default=None, description="Tolerance in pixels by which polygon borders may be simplified."
    )
    formats: Annotated[list[Format], Field(max_length=5)] = Field(
        default=["gpkg", "geojson"], description="Polygon files; the GeoPackage is always made."
    )
    probabilities: bool = Field(default=False, description="Also write probabilities.tif.")
    tta: Literal["none", "flips", "d4", "scales", "all"] = Field(
        default="none",
        description="Average views of every chip: 4 (flips) or 8 (d4) turned and mirrored, 3 sizes (scales), or all.",
    )
    area: Area | None = Field(default=None, description="Map only this part of the scene.")


_EXAMPLE_JOB: dict[str, Any] = {
    "scene": "5f1c0d9e8b7a65432100",
    "options": {"bands": {"red": 5, "green": 3, "blue": 2}, "min_area_m2": 10, "formats": ["gpkg", "geojson"]},
}


class JobRequestBody(Wire):
    """Body of POST /jobs."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra={"examples": [_EXAMPLE_JOB]})

    scene: Id
    model: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="Default: the recommended model."
    )
    options: JobOptions = JobOptions()


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


class TileJson(BaseModel):
    """TileJSON 3.0.0."""

    tilejson: str = "3.0.0"
    name: str
    tiles: list[str]
    bounds: list[float]
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
