"""What a polygon covers of a class raster: square metres and mean confidence a class, window by window."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import rasterize
from rasterio.windows import Window

from tiles.georef import Georef
from tiles.legend import NODATA

_SIDE = 1024
_STRIP = 128
_LEVELS = 102  # 0-100 %, and one for a confidence that is not known


@dataclass(frozen=True)
class Zone:
    """A class inside the polygon: pixels, square metres on the ellipsoid, mean confidence (0-1, None: not known)."""

    value: int
    pixels: int
    area_m2: float
    confidence: float | None


def zonal_counts(classes: Any, confidence: Any, georef: Georef, polygon: shapely.Geometry) -> tuple[Zone, ...]:
    """One `Zone` a value that occurs in `classes` inside `polygon`, 255 (no class) among them, by value.

    `classes` and `confidence` are open rasterio datasets on the grid `georef`; `polygon` is in pixels of that grid,
    (column, row) of the upper left corner (0, 0). A pixel counts where its centre lies inside. Areas are counted in
    strips of 128 rows and 1,024 columns, weighted with the area of the pixel at the strip's centre.
    """
    pixels = np.zeros((256, _LEVELS), np.int64)
    areas = np.zeros(256)
    for window, inside in _windows(polygon, georef.shape):
        codes = _codes(classes.read(1, window=window), confidence.read(1, window=window))
        for top in range(0, codes.shape[0], _STRIP):
            strip = codes[top : top + _STRIP]
            kept = strip.ravel() if inside is None else strip[inside[top : top + _STRIP]]
            counts = np.bincount(kept, minlength=256 * _LEVELS).reshape(256, _LEVELS)
            pixels += counts
            middle = (window.col_off + window.width / 2, window.row_off + top + strip.shape[0] / 2)
            areas += counts.sum(axis=1) * float(georef.pixel_area_m2(*middle))
    return tuple(_zone(int(v), pixels[v], areas[v]) for v in np.flatnonzero(pixels.any(axis=1)))


def _zone(value: int, levels: npt.NDArray[np.int64], area: float) -> Zone:
    known = levels[:101]
    mean = float(known @ np.arange(101) / known.sum() / 100) if value != NODATA and known.any() else None
    return Zone(value, int(levels.sum()), float(area), mean)


def _codes(classes: npt.NDArray[np.uint8], confidence: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Class and confidence of a pixel in one number."""
    return classes.astype(np.uint16) * np.uint16(_LEVELS) + np.minimum(confidence, _LEVELS - 1)


def _windows(
    polygon: shapely.Geometry, shape: tuple[int, int]
) -> Iterator[tuple[Window, npt.NDArray[np.bool_] | None]]:
    """The windows that the polygon touches, each with its pixels inside; None where that is all of them."""
    shapely.prepare(polygon)
    left, top, right, bottom = polygon.bounds
    rows, columns = shape
    for row in range(max(int(top // _SIDE), 0) * _SIDE, min(rows, int(np.ceil(bottom))), _SIDE):
        for column in range(max(int(left // _SIDE), 0) * _SIDE, min(columns, int(np.ceil(right))), _SIDE):
            width, height = min(_SIDE, columns - column), min(_SIDE, rows - row)
            box = shapely.box(column, row, column + width, row + height)
            if shapely.contains(polygon, box):
                yield Window(column, row, width, height), None
            elif shapely.intersects(polygon, box):
                yield Window(column, row, width, height), _inside(polygon, box, column, row, (height, width))


def _inside(
    polygon: shapely.Geometry, box: shapely.Geometry, column: int, row: int, shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    near = shapely.intersection(polygon, box.buffer(2))
    moved = shapely.transform(near, lambda xy: xy - (column, row))
    parts = [part for part in shapely.get_parts(moved) if part.geom_type.endswith("Polygon") and not part.is_empty]
    if not parts:
        return np.zeros(shape, bool)
    return np.asarray(rasterize(parts, out_shape=shape, dtype=np.uint8) == 1)
