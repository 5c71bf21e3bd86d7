"""Polygons of a raster in WGS 84 longitude and latitude, as RFC 7946 wants them."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer

from tiles.errors import VectorError
from tiles.georef import Georef

_DECIMALS = 7
_MOST_DEVIATION_PX = 0.1

Floats = npt.NDArray[np.float64]
Objects = npt.NDArray[np.object_]


class ToWgs84:
    """Carries polygons from a raster's CRS to WGS 84.

    Edges too long to stay within a tenth of a pixel of the raster's grid are divided first, the same way for both
    neighbours; coordinates are rounded to 7 decimals (a centimetre) and stay inside the raster's own bounds;
    polygons across the antimeridian are cut there. Raises VectorError for a raster that holds a pole.
    """

    def __init__(self, georef: Georef) -> None:
        self._georef = georef
        self._transformer = Transformer.from_crs(georef.proj_crs, CRS.from_epsg(4326), always_xy=True)
        self._inverse = ~georef.transform
        self._centre = 0.0
        rows, cols = georef.shape
        self._centre = float(self._lonlat(np.array([cols / 2]), np.array([rows / 2]))[0][0])
        self._refuse_poles()

    def _refuse_poles(self) -> None:
        rows, cols = self._georef.shape
        back = Transformer.from_crs(CRS.from_epsg(4326), self._georef.proj_crs, always_xy=True)
        if self._georef.proj_crs.is_geographic:
            return
        for pole in (-90.0, 90.0):
            x, y = back.transform(self._centre, pole)
            if not np.isfinite([x, y]).all():
                continue
            col, row = self._pixels(x, y)
            lat = self._transformer.transform(x, y)[1]
            if 0 <= col <= cols and 0 <= row <= rows and abs(lat - pole) < 1e-6:
                raise VectorError(
                    "the raster holds a pole, where longitude has no value: GeoJSON cannot hold its polygons;"
                    " choose gpkg, fgb or parquet"
                )

    def _lonlat(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Longitude (within 180 degrees of the raster's centre, so that no edge jumps) and latitude of pixels."""
        t = self._georef.transform
        return self._unwrapped(t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f)

    def _pixels(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Fractional columns and rows of coordinates in the raster's CRS."""
        t, easting, northing = self._inverse, np.asarray(x, np.float64), np.asarray(y, np.float64)
        return t.a * easting + t.b * northing + t.c, t.d * easting + t.e * northing + t.f

    def _unwrapped(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        lon, lat = self._transformer.transform(x, y)
        lon = np.asarray(lon, dtype=np.float64)
        around = self._centre + np.remainder(lon - self._centre + 180.0, 360.0) - 180.0
        # Where nothing wraps the value stays as it came: the remainder costs digits.
        return np.where(np.abs(around - lon) < 1.0, lon, around), np.asarray(lat, dtype=np.float64)

    @cached_property
    def longest_edge(self) -> float:
        """Pixels an edge may be long before its straight line in WGS 84 leaves the grid by a tenth of a pixel."""
        rows, cols = self._georef.shape
        length = float(max(rows, cols))
        while length > 1.0 and self._deviation(length) > _MOST_DEVIATION_PX:
            length /= 2
        return length

    def _deviation(self, length: float) -> float:
        """Largest distance in pixels between the middle of an edge and the middle of its image, over the raster."""
        rows, cols = self._georef.shape
        c, r = np.meshgrid(np.linspace(0, cols, 5), np.linspace(0, rows, 5))
        worst = 0.0
        for dc, dr in ((length, 0.0), (0.0, length)):
            a, b = max(min(dc, cols), 0.0) / 2, max(min(dr, rows), 0.0) / 2
            lon1, lat1 = self._lonlat(c - a, r - b)
            lon2, lat2 = self._lonlat(c + a, r + b)
            x, y = self._transformer.transform((lon1 + lon2) / 2, (lat1 + lat2) / 2, direction="INVERSE")
            col, row = self._pixels(x, y)
            off = np.hypot(col - c, row - r)
            if np.isfinite(off).any():
                worst = max(worst, float(off[np.isfinite(off)].max()))
        return worst

    @cached_property
    def _outline(self) -> tuple[Floats, Floats]:
        rows, cols = self._georef.shape
        along, down = np.linspace(0, cols, 257), np.linspace(0, rows, 257)
        c = np.concatenate([along, np.full(257, cols), along, np.zeros(257)])
        r = np.concatenate([np.zeros(257), down, np.full(257, rows), down])
        return self._lonlat(c, r)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the raster's outline in degrees, unwrapped around the raster's centre."""
        lon, lat = self._outline
        return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())

    @property
    def crosses_antimeridian(self) -> bool:
        """Whether the raster lies on both sides of 180 degrees."""
        west, _, east, _ = self.bounds
        return west < -180.0 or east > 180.0

    def polygons(self, geometries: Objects) -> Objects:
        """Polygons in the raster's CRS, shape (n,) -> polygons (multipolygons where cut) in WGS 84, shape (n,)."""
        if len(geometries) == 0:
            return geometries
        kind, xy, offsets = shapely.to_ragged_array(geometries, include_z=False)
        xy, rings = self._divided(xy, offsets[0])
        lon, lat = self._unwrapped(xy[:, 0], xy[:, 1])
        moved = shapely.from_ragged_array(kind, self._rounded(lon, lat), (rings, *offsets[1:]))
        return _cut(moved) if self.crosses_antimeridian else moved

    def _rounded(self, lon: Floats, lat: Floats) -> Floats:
        west, south, east, north = self.bounds
        scale = 10.0**_DECIMALS
        lon = np.clip(np.rint(lon * scale), np.ceil(west * scale), np.floor(east * scale)) / scale
        lat = np.clip(np.rint(lat * scale), np.ceil(south * scale), np.floor(north * scale)) / scale
        return np.column_stack([lon, lat])

    def _divided(self, xy: Floats, rings: Any) -> tuple[Floats, Any]:
        """Adds equally spaced points to long edges of rings given as offsets into `xy`."""
        col, row = self._pixels(xy[:, 0], xy[:, 1])
        length = np.hypot(np.diff(col), np.diff(row))
        length[np.asarray(rings[1:-1], dtype=np.int64) - 1] = 0.0  # from one ring to the next is no edge
        parts = np.maximum(np.ceil(length / self.longest_edge - 1e-9), 1).astype(np.int64)
        if (parts == 1).all():
            return xy, rings
        begin = np.concatenate([[0], np.cumsum(parts)])
        edge = np.repeat(np.arange(len(parts)), parts)
        share = (np.arange(begin[-1]) - begin[edge]) / parts[edge]
        start, end = xy[:-1][edge], xy[1:][edge]
        # Both neighbours must get the very same points: always count from the smaller end.
        swap = (start[:, 0] > end[:, 0]) | ((start[:, 0] == end[:, 0]) & (start[:, 1] > end[:, 1]))
        low, high = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
        share = np.where(swap & (share > 0), 1.0 - share, np.where(swap, 1.0, share))[:, None]
        points = np.where(share == 1.0, high, low + (high - low) * share)
        offsets = begin[np.minimum(np.asarray(rings, dtype=np.int64), len(parts))]
        offsets[-1] = begin[-1] + 1
        return np.concatenate([points, xy[-1:]]), offsets


def _cut(geometries: Objects) -> Objects:
    """Cuts polygons at +-180 degrees and brings each part back into -180..180."""
    out = geometries.copy()
    west, _, east, _ = shapely.bounds(geometries).T
    for i in np.flatnonzero((west < -180.0) | (east > 180.0)):
        parts = []
        for turn in (-360.0, 0.0, 360.0):
            world = shapely.box(-180.0 - turn, -90.0, 180.0 - turn, 90.0)
            part = shapely.intersection(geometries[i], world)
            moved = shapely.transform(part, lambda xy, by=turn: xy + np.array([by, 0.0]))
            parts += [p for p in shapely.get_parts(moved) if p.geom_type == "Polygon" and not p.is_empty]
        out[i] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return out
