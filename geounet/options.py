"""Everything a user may choose about one map."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Everything a user may choose about one map; the defaults are the recommended map.

    `min_area_m2` and `simplify_px` of None generalise polygons for the map's own scale (docs/polygons.md); 0 and 0
    give polygons that are exactly the class raster. The rasters are never generalised. Beyond `max_polygons` the pass
    over the polygons stops: the caller has to make them again, fewer (`geounet.outputs.polygon_limit`). `trust` opens
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
