"""Everything a user may choose about one map."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

BAND_NAME = r"^[a-z][a-z0-9_]{0,31}$"
MOST_BANDS = 65_535
"""Bands that a TIFF can have."""
MOST_AREA_M2 = 1e12
MOST_SIMPLIFY_PX = 100.0
TTA = ("none", "flips", "d4", "scales", "all")


@dataclass(frozen=True)
class Options:
    """Everything a user may choose about one map; the defaults are the recommended map.

    `min_area_m2` and `simplify_px` of None generalise polygons for the map's own scale (docs/polygons.md); 0 and 0
    give polygons that are exactly the class raster. The rasters are never generalised. Where there would be more
    than `max_polygons` their smallest area is raised (`geounet.outputs.polygon_limit`). `trust` opens
    scenes that make GDAL open other files or addresses. `nodata` are the values of empty pixels, in place of the
    file's own.
    """

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
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    max_memory: int | None = None
    tta: str = "none"
    max_polygons: int | None = None
    trust: bool = False
    nodata: tuple[float, ...] = ()


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


def read_bands(bands: Mapping[str, int]) -> dict[str, int]:
    """Band numbers from 1 by name. Raises ValueError."""
    if not bands:
        raise ValueError("name at least one band, like red=5,green=3,blue=2")
    for name, number in bands.items():
        if not re.match(BAND_NAME, name):
            raise ValueError(f"'{name}' is no name of a band: a to z, digits and _, like red or nir")
        if not 1 <= number <= MOST_BANDS:
            raise ValueError(f"'{name}={number}': bands are counted from 1, to {MOST_BANDS} at most")
    return dict(bands)
