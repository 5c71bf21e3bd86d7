"""Everything a user may choose about one map: written once here, read by command line, service and pipeline.

A field's type says which values it takes and its `About` how it is offered. The options of `geounet predict`, `batch`
and `info` (`geounet.cli.options`) and the `options` of a job (`api.schemas.requests`) are made from the two.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import Field as DataclassField
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from geounet.errors import OptionError

EngineName = Literal["auto", "torch", "openvino", "onnxruntime"]
PrecisionName = Literal["auto", "f32", "bf16", "fp16"]
TtaName = Literal["none", "flips", "d4", "scales", "all"]
FormatName = Literal["gpkg", "geojson", "geojsonl", "fgb", "parquet"]

ENGINES: tuple[str, ...] = get_args(EngineName)
PRECISIONS: tuple[str, ...] = get_args(PrecisionName)
TTA: tuple[str, ...] = get_args(TtaName)
"""Names of test-time augmentations; `geounet.engines.views.VIEWS` says what they are."""


@dataclass(frozen=True)
class About:
    """How an option is offered: to whom, under which flag, what its default is called."""

    flag: str = ""
    default: str | Literal[False] | None = None
    command: bool = True
    service: bool = False
    """Whether a client of the service chooses it; the rest is how the machine is used, the operator's."""


def read_stretch(text: str) -> str | None:
    """`none`, `match` or `LO,HI` as they are kept; None for `auto`. Raises ValueError for anything else."""
    word = re.sub(r"\s", "", text.lower())
    if word in ("none", "match"):
        return word
    if word == "auto":
        return None
    try:
        low, high = (float(part) for part in word.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"'{text}' is not understood: give LO,HI (for example 0,2047), none, match or auto")
    return word


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


_BandName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
_BandNumber = Annotated[int, Field(ge=1, le=65_535)]  # as many as a TIFF can have

_Bands = Annotated[
    Annotated[Mapping[_BandName, _BandNumber], Field(min_length=1, max_length=64)] | None,
    Field(description="Which band of the file is which, from 1.", examples=[{"red": 5, "green": 3, "blue": 2}]),
    About(default=False, service=True),
]
_AssumeCrs = Annotated[
    Annotated[str, Field(max_length=20_000)] | None,
    Field(description="CRS of a scene that has none.", examples=["EPSG:32613"]),
    About(default=False, service=True),
]
_Nodata = Annotated[
    Annotated[tuple[float, ...], Field(max_length=64)],
    AfterValidator(_once),
    Field(
        description="Values of empty pixels, in place of the file's own: 0 or 0,255; a mask in the file still counts.",
        examples=[[0, 255]],
    ),
    About(default="the file's", service=True),
]
_Stretch = Annotated[
    Annotated[str, Field(max_length=100), AfterValidator(read_stretch)] | None,
    Field(
        description="LO,HI: these counts become dark and bright; none: counts are 0-255 already; match: quantiles as "
        "in training; auto: match, but for 8-bit counts none.",
        examples=["0,2047"],
    ),
    About(default="auto", service=True),
]
_Area = Annotated[
    Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] | None,
    Field(description="Smallest polygon in square metres; smaller ones join a neighbour. 0: none do."),
    About(flag="--min-area", default="16 pixels", service=True),
]
_Tolerance = Annotated[
    Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None,
    Field(description="Tolerance in pixels by which polygon borders may be simplified. 0: they follow the pixels."),
    About(flag="--simplify", default="1.25", service=True),
]
_Formats = Annotated[
    Annotated[tuple[FormatName, ...], Field(max_length=5)],
    AfterValidator(_once),
    Field(description="Polygon files, any of gpkg, geojson, geojsonl, fgb, parquet."),
    About(service=True),
]
_Tta = Annotated[
    TtaName,
    Field(
        description="Score every chip in several views and average them (test-time augmentation): none, flips (4), d4 "
        "(8), scales (3), all (24). Takes that many times as long."
    ),
    About(service=True),
]
_Device = Annotated[
    Annotated[str, Field(pattern=r"^(auto|cpu|mps|coreml|(cuda|tensorrt|directml)(:[0-9]{1,2})?)$")],
    Field(description="Where the network runs: auto, cpu, cuda, cuda:1, mps; onnxruntime: tensorrt, coreml, directml."),
    About(),
]
_Force = Annotated[bool, Field(description="Go on where the resolution does not fit the model."), About(service=True)]
_Trust = Annotated[
    bool,
    Field(description="Open a scene that makes GDAL open other files or addresses: you know its maker."),
    About(),
]


@dataclass(frozen=True)
class Options:
    """Everything a user may choose about one map; the defaults are the recommended map.

    `min_area_m2` and `simplify_px` of None generalise polygons for the map's own scale (docs/polygons.md); 0 and 0
    give polygons that are exactly the class raster. The rasters are never generalised. Beyond `max_polygons` the pass
    over the polygons stops: the caller has to make them again, fewer (`geounet.outputs.polygon_limit`). `trust` opens
    scenes that make GDAL open other files or addresses. `nodata` are the values of empty pixels, in place of the
    file's own.

    Raises OptionError for a value that an option does not take.
    """

    bands: _Bands = None
    assume_crs: _AssumeCrs = None
    nodata: _Nodata = ()
    stretch: _Stretch = None
    force: _Force = False
    trust: _Trust = False
    min_area_m2: _Area = None
    simplify_px: _Tolerance = None
    formats: _Formats = ("gpkg", "geojson")
    probabilities: Annotated[
        bool, Field(description="Also write probabilities.tif, a band a class."), About(service=True)
    ] = False
    chip_size: Annotated[
        Annotated[int, Field(ge=32)] | None, Field(description="Pixels a chip side."), About(default="auto")
    ] = None
    overlap: Annotated[
        Annotated[int, Field(ge=0)] | None, Field(description="Pixels that chips share."), About(default="the model's")
    ] = None
    engine: Annotated[EngineName, Field(description=f"What runs the network: {', '.join(ENGINES)}."), About()] = "auto"
    device: _Device = "auto"
    precision: Annotated[PrecisionName, Field(description=f"{', '.join(PRECISIONS)}."), About()] = "auto"
    max_memory: Annotated[
        Annotated[int, Field(gt=0)] | None,
        Field(description="Most memory to take: 800MB, 4GB."),
        About(default="about 1.4GB"),
    ] = None
    tta: _Tta = "none"
    max_polygons: Annotated[
        Annotated[int, Field(gt=0)] | None, Field(description="Most polygons of a map."), About(command=False)
    ] = None

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            try:
                value = kind.validate_python(getattr(self, name))
            except ValidationError as error:
                raise OptionError(_told(name, getattr(self, name), error), option=name) from None
            object.__setattr__(self, name, value)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], **more: Any) -> Self:
        """The options that a record names, such as those of a job; None is the default. Raises OptionError."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in record.items() if k in known and v is not None}, **more)


@dataclass(frozen=True)
class Described:
    """An option as its surfaces need it."""

    field: DataclassField[Any]
    annotation: Any
    """`Annotated[type, ...]` with pydantic's constraints."""
    about: About
    text: str
    """What it does, in a sentence."""

    @property
    def flag(self) -> str:
        """What the command line calls it."""
        return self.about.flag or f"--{self.field.name.replace('_', '-')}"


@cache
def described() -> dict[str, Described]:
    """Every option in order, by name."""
    found = {}
    hints = get_type_hints(Options, include_extras=True)
    for field in fields(Options):
        notes = hints[field.name].__metadata__
        about = next(note for note in notes if isinstance(note, About))
        text = next(note.description for note in notes if getattr(note, "description", None))
        found[field.name] = Described(field, hints[field.name], about, text)
    return found


@cache
def _kinds() -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(option.annotation) for name, option in described().items()}


_WORDS = {
    "literal_error": "choose one of: {expected}",
    "greater_than_equal": "it must be {ge:g} or more",
    "greater_than": "it must be more than {gt:g}",
    "less_than_equal": "it must be {le:g} or less",
    "finite_number": "it must be a number",
    "too_short": "name at least one",
}
_PATTERNS = {
    "bands": "a band's name is a to z, digits and _, like red or nir",
    "device": "give auto, cpu, mps, cuda, one of several GPUs as cuda:1, or tensorrt, coreml, directml",
}


def _told(name: str, value: object, error: ValidationError) -> str:
    """What is wrong with an option's value, without its name: who tells it knows how the user calls the option."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    context = dict(first.get("ctx", {}))
    if first["type"] == "literal_error":
        context["expected"] = str(context["expected"]).replace("'", "").replace(" or ", ", ")
    words = _PATTERNS.get(name, "") if first["type"] == "string_pattern_mismatch" else _WORDS.get(first["type"], "")
    blamed = first["input"] if name in ("bands", "formats", "nodata") and first["loc"] else value
    return f"'{blamed}': {words.format(**context) or first['msg'][:1].lower() + first['msg'][1:]}"
