"""What clients send: a job's options and the body that asks for a job."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import shapely
from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator
from shapely.geometry import shape

from geounet.options import described

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{20}$", examples=["5f1c0d9e8b7a65432100"])]
_MOST_VERTICES = 10_000
_EXAMPLE_AREA: dict[str, Any] = {
    "type": "Polygon",
    "coordinates": [[[-105.11, 40.16], [-105.1, 40.16], [-105.1, 40.17], [-105.11, 40.17], [-105.11, 40.16]]],
}


class Wire(BaseModel):
    """Root of the bodies that clients send: an unknown field is an error, not a silent loss."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Shape(Wire):
    """A GeoJSON Polygon or MultiPolygon."""

    type: Literal["Polygon", "MultiPolygon"]
    coordinates: list[Any]

    @field_validator("coordinates")
    @classmethod
    def _small(cls, value: list[Any]) -> list[Any]:
        if numbers_in(value) > 3 * _MOST_VERTICES:
            raise ValueError(f"an area may have {_MOST_VERTICES} vertices: simplify it")
        return value

    @model_validator(mode="after")
    def _sound(self) -> Self:
        area = self.polygon()
        if area.is_empty or area.area == 0:
            raise ValueError("the area covers no ground")
        if not area.is_valid:
            raise ValueError(f"the area is no valid polygon: {shapely.is_valid_reason(area)}")
        return self

    def polygon(self) -> shapely.Geometry:
        """The area as a shapely geometry. Raises ValueError."""
        try:
            return shapely.force_2d(shape({"type": self.type, "coordinates": self.coordinates}))
        except (ValueError, TypeError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
            raise ValueError("the coordinates make no polygon: see RFC 7946, section 3.1.6") from error


class Area(Shape):
    """A GeoJSON Polygon or MultiPolygon in longitude and latitude."""

    @model_validator(mode="after")
    def _on_earth(self) -> Self:
        west, south, east, north = self.polygon().bounds
        if not (-180 <= west < east <= 360 and east - west <= 360 and -90 <= south < north <= 90):
            raise ValueError("the area must be given in longitude and latitude and cover some ground")
        return self


class AreaBody(Wire):
    """An area to ask about: a GeoJSON polygon, or a Feature with one."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [_EXAMPLE_AREA]})

    type: Literal["Polygon", "MultiPolygon", "Feature"]
    coordinates: list[Any] | None = None
    geometry: Shape | None = None

    @model_validator(mode="after")
    def _one_polygon(self) -> Self:
        self.polygon()
        return self

    def polygon(self) -> shapely.Geometry:
        """The area as a shapely geometry."""
        if self.type == "Feature":
            if self.geometry is None:
                raise ValueError("a Feature needs a geometry: a Polygon or MultiPolygon")
            return self.geometry.polygon()
        return Shape.model_validate({"type": self.type, "coordinates": self.coordinates}).polygon()


def numbers_in(value: Any, depth: int = 0) -> int:
    """How many numbers nested coordinates hold. Raises ValueError where they hold anything else."""
    if depth > 4:
        raise ValueError("the coordinates are nested too deeply")
    if not isinstance(value, list):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e9:
            raise ValueError("coordinates are numbers")
        return 1
    return sum(numbers_in(v, depth + 1) for v in value)


def _chosen_by_clients() -> dict[str, Any]:
    """The options of a map that a client chooses, as `create_model` takes them; nothing is said of them here.

    But for one: a CRS comes as a code, for the text of one can lead PROJ to files and addresses.
    """
    found: dict[str, Any] = {
        name: (option.annotation, option.field.default) for name, option in described().items() if option.about.service
    }
    code = Annotated[str, Field(pattern=r"^(EPSG|epsg|ESRI|esri|IAU_2015|iau_2015):[0-9]{1,7}$")] | None
    found["assume_crs"] = (Annotated[code, *found["assume_crs"][0].__metadata__], None)
    return found


if TYPE_CHECKING:
    _Chosen = Wire
else:
    _Chosen = create_model("_Chosen", __base__=Wire, **_chosen_by_clients())


class JobOptions(_Chosen):
    """Everything that may be chosen about one map; what is left out is recommended. The GeoPackage is always made."""

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


class FitBody(Wire):
    """Body of POST /scenes/{id}/fit."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"options": {"bands": {"red": 5, "green": 3, "blue": 2}}}]},
    )

    model: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="Default: the recommended model."
    )
    options: JobOptions = JobOptions()
