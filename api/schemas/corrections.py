"""Corrections over HTTP: what clients send, what they get."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from api.schemas.common import Link
from api.schemas.requests import Wire, numbers_in
from geounet.service.tables.corrections import MOST_FEATURES

_MOST_NUMBERS = 100_000
ClassName = Annotated[str, Field(min_length=1, max_length=64)]
_EXAMPLE: dict[str, Any] = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [-105.104, 40.166]},
            "properties": {"class": "building"},
        }
    ],
}


class CorrectionShape(BaseModel):
    """A GeoJSON geometry in longitude and latitude."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"]
    coordinates: list[Any]

    @field_validator("coordinates")
    @classmethod
    def _small(cls, value: list[Any]) -> list[Any]:
        if numbers_in(value) > _MOST_NUMBERS:
            raise ValueError("a correction with so many vertices says no more than a simple one: simplify it")
        return value


class CorrectionProperties(BaseModel):
    """What is there: a class of the map by name or value, or a new name, which `color` may go with."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    class_: ClassName | int = Field(alias="class")
    color: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] | None = None


class CorrectionFeature(BaseModel):
    """One correction."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["Feature"]
    geometry: CorrectionShape
    properties: CorrectionProperties


class CorrectionsBody(BaseModel):
    """Body of POST /maps/{id}/corrections."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [_EXAMPLE]})

    type: Literal["FeatureCollection"]
    features: Annotated[list[CorrectionFeature], Field(min_length=1, max_length=MOST_FEATURES)]


class RevisionOut(BaseModel):
    """What one request added to a map's corrections."""

    revision: int
    corrections: int
    classes: dict[str, int]
    created: str


class RevisionMade(RevisionOut):
    """A new revision, and where to go from here."""

    links: list[Link]


class CorrectionsOut(BaseModel):
    """All corrections in force, as GeoJSON."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[dict[str, Any]]
    revisions: list[RevisionOut]


class SuggestionsOut(BaseModel):
    """Points to look at, the most useful first, as GeoJSON; properties: rank, class, confidence."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[dict[str, Any]]


class CorrectBody(Wire):
    """Body of POST /maps/{id}/correct: nothing to choose yet."""
