"""Where a raster lies on the Earth: CRS, transform, shape."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import CRS as ProjCRS
from pyproj import Geod, Transformer
from rasterio.crs import CRS


@dataclass(frozen=True)
class Georef:
    """The grid of a raster.

    `transform` maps (column, row) of a pixel's upper-left corner to coordinates of `crs`;
    `shape` is (rows, columns).
    """

    crs: CRS
    transform: Affine
    shape: tuple[int, int]

    @cached_property
    def proj_crs(self) -> ProjCRS:
        """The CRS as pyproj knows it."""
        return ProjCRS.from_user_input(self.crs.to_wkt())

    @cached_property
    def geod(self) -> Geod:
        """The ellipsoid of the CRS, WGS 84 where it names none."""
        return self.proj_crs.get_geod() or Geod(ellps="WGS84")

    @cached_property
    def _to_lonlat(self) -> Transformer:
        geodetic = self.proj_crs.geodetic_crs or ProjCRS.from_epsg(4326)
        return Transformer.from_crs(self.proj_crs, geodetic, always_xy=True)

    @cached_property
    def _degrees(self) -> float:
        """Degrees in one angle of the geodetic CRS: French ones count in gradians."""
        geodetic = self.proj_crs.geodetic_crs
        unit = math.degrees(geodetic.axis_info[0].unit_conversion_factor) if geodetic else 1.0
        return 1.0 if math.isclose(unit, 1.0, rel_tol=1e-9) else unit  # WKT rounds a degree

    def lonlat(
        self, cols: npt.ArrayLike, rows: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Longitude and latitude in degrees, on the CRS's own datum and meridian, of fractional pixel positions."""
        c, r = np.asarray(cols, dtype=np.float64), np.asarray(rows, dtype=np.float64)
        t = self.transform
        lon, lat = self._to_lonlat.transform(t.a * c + t.b * r + t.c, t.d * c + t.e * r + t.f)
        return np.asarray(lon, dtype=np.float64) * self._degrees, np.asarray(lat, dtype=np.float64) * self._degrees

    def metres_per_pixel(self) -> tuple[float, float]:
        """(down a column, along a row): metres on the ellipsoid covered by one pixel at the raster's centre."""
        rows, cols = self.shape
        half = 0.5
        c, r = cols / 2, rows / 2
        lon, lat = self.lonlat([c, c, c - half, c + half], [r - half, r + half, r, r])
        _, _, down = self.geod.inv(lon[0], lat[0], lon[1], lat[1])
        _, _, along = self.geod.inv(lon[2], lat[2], lon[3], lat[3])
        return float(down), float(along)

    @property
    def gsd(self) -> float:
        """Ground sampling distance in metres: geometric mean of both directions at the raster's centre."""
        down, along = self.metres_per_pixel()
        return math.sqrt(down * along)

    def pixel_area_m2(self, cols: npt.ArrayLike, rows: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Area on the ellipsoid, in square metres, of one pixel centred at each fractional position.

        The cross product of the pixel's sides on the tangent plane, with the meridional radius of curvature M and
        the prime-vertical one N (Snyder, Map Projections - A Working Manual, 1987, eqs. 4-18 to 4-21).
        """
        c, r = np.asarray(cols, dtype=np.float64), np.asarray(rows, dtype=np.float64)
        half = 0.5
        lon, lat = self.lonlat(np.stack([c, c, c - half, c + half]), np.stack([r - half, r + half, r, r]))
        phi = np.radians(lat.mean(axis=0))
        bend = 1.0 - self.geod.es * np.sin(phi) ** 2
        north = self.geod.a * (1.0 - self.geod.es) / bend**1.5
        east = self.geod.a / np.sqrt(bend) * np.cos(phi)
        turn = np.remainder(np.diff(lon[0:2], axis=0)[0] + 180.0, 360.0) - 180.0
        across = np.remainder(np.diff(lon[2:4], axis=0)[0] + 180.0, 360.0) - 180.0
        down = np.radians(np.stack([turn * east, (lat[1] - lat[0]) * north]))
        along = np.radians(np.stack([across * east, (lat[3] - lat[2]) * north]))
        return np.asarray(np.abs(down[0] * along[1] - down[1] * along[0]), dtype=np.float64)

    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the CRS, of all four corners, rotation included."""
        rows, cols = self.shape
        t = self.transform
        xs = [t.a * c + t.b * r + t.c for r in (0, rows) for c in (0, cols)]
        ys = [t.d * c + t.e * r + t.f for r in (0, rows) for c in (0, cols)]
        return min(xs), min(ys), max(xs), max(ys)
