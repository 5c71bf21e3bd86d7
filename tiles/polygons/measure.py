"""Metres and square metres on the ellipsoid, per pixel of a raster.

Areas and lengths come from the first fundamental form of the map from pixels to the ellipsoid (any textbook of
differential geometry; radii of curvature as in Snyder, "Map Projections - A Working Manual", 1987, eq. 4-18 to 4-20),
taken at control points and interpolated between them: exact to about 1e-7, for every CRS, rotated grids included,
and far cheaper than geodesic polygons.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tiles.georef import Georef

_CONTROL_METRES = 5000.0
_MOST_CONTROLS = 512

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PixelMetric:
    """Squared lengths on the ellipsoid at control points, spread evenly over the raster.

    `form` has shape (control rows, control columns, 3): E, F, G in m2 per pixel squared, so that a step of
    (dc columns, dr rows) is sqrt(E dc^2 + 2 F dc dr + G dr^2) metres long. `step` is the distance between control
    points in (rows, columns) of pixels; the first lies at the raster's upper-left corner.
    """

    form: Floats
    step: tuple[float, float]

    @classmethod
    def of(cls, georef: Georef) -> "PixelMetric":
        """The metric of a raster's grid."""
        down, along = georef.metres_per_pixel()
        rows = _controls(georef.shape[0], down)
        cols = _controls(georef.shape[1], along)
        grid_c, grid_r = np.meshgrid(cols, rows)
        return cls(_form(georef, grid_c, grid_r), (float(rows[1]), float(cols[1])))

    @cached_property
    def areas(self) -> Floats:
        """Square metres per pixel at the control points, shape (control rows, control columns)."""
        e, f, g = np.moveaxis(self.form, -1, 0)
        return np.asarray(np.sqrt(np.maximum(e * g - f * f, 0.0)), dtype=np.float64)

    @cached_property
    def fixed_point(self) -> float:
        """Integer units per square metre: a million to an average pixel, so that sums of areas can be exact."""
        return 2.0**20 / max(float(self.areas.mean()), 1e-300)

    def area(self, rows: npt.ArrayLike, cols: npt.ArrayLike) -> Floats:
        """Square metres of a pixel centred at fractional positions, bilinear between control points."""
        r = np.asarray(rows, dtype=np.float64) / self.step[0]
        c = np.asarray(cols, dtype=np.float64) / self.step[1]
        table = self.areas
        i = np.clip(r.astype(np.int64), 0, table.shape[0] - 2)
        j = np.clip(c.astype(np.int64), 0, table.shape[1] - 2)
        u, v = r - i, c - j
        top = table[i, j] * (1 - v) + table[i, j + 1] * v
        bottom = table[i + 1, j] * (1 - v) + table[i + 1, j + 1] * v
        return np.asarray(top * (1 - u) + bottom * u, dtype=np.float64)

    def row_areas(self, row: int, width: int) -> Floats:
        """Square metres of every pixel of a row, shape (width,)."""
        return self.area(np.full(width, row + 0.5), np.arange(width) + 0.5)


def _controls(length: int, metres: float) -> Floats:
    step = max(_CONTROL_METRES / max(metres, 1e-9), 1.0)
    count = int(min(np.ceil(length / step), _MOST_CONTROLS)) + 1
    return np.linspace(0.0, length, max(count, 2))


def _form(georef: Georef, cols: Floats, rows: Floats) -> Floats:
    half = 0.5
    lon_e, lat_e = georef.lonlat(cols + half, rows)
    lon_w, lat_w = georef.lonlat(cols - half, rows)
    lon_s, lat_s = georef.lonlat(cols, rows + half)
    lon_n, lat_n = georef.lonlat(cols, rows - half)
    lat = np.radians((lat_e + lat_w) / 2)
    flat = georef.geod
    square = flat.es
    denominator = 1 - square * np.sin(lat) ** 2
    meridian = flat.a * (1 - square) / denominator**1.5
    parallel = flat.a / np.sqrt(denominator) * np.cos(lat)
    along = np.stack([_turn(lon_e - lon_w) * parallel, np.radians(lat_e - lat_w) * meridian])
    down = np.stack([_turn(lon_s - lon_n) * parallel, np.radians(lat_s - lat_n) * meridian])
    form = np.stack([(along * along).sum(0), (along * down).sum(0), (down * down).sum(0)], axis=-1)
    return np.asarray(np.where(np.isfinite(form), form, 0.0), dtype=np.float64)


def _turn(degrees: Floats) -> Floats:
    """Difference of longitudes in radians, the short way round."""
    return np.asarray(np.radians((degrees + 180.0) % 360.0 - 180.0), dtype=np.float64)
