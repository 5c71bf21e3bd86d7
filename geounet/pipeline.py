"""The whole product on one screen: a scene becomes a land-cover map."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """Everything a user may choose about one map; the defaults are the recommended map."""

    bands: Mapping[str, int] | None = None
    assume_crs: str | None = None
    stretch: str | None = None
    force: bool = False
    min_area_m2: float | None = None
    simplify_px: float | None = None
    formats: tuple[str, ...] = ("gpkg", "geojson")
    probabilities: bool = False
    chip_size: int | None = None
    overlap: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a map is: the stage's name, pixels done of all, megapixels a second, seconds left."""

    stage: str
    done: int
    total: int
    rate: float
    seconds_left: float | None


@dataclass(frozen=True)
class LandCoverMap:
    """A finished map: its folder and its `summary.json`."""

    folder: Path
    summary: dict[str, Any]


OnProgress = Callable[[Progress], None]
