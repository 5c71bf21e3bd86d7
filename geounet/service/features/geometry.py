"""Geometries on their way out: GeoPackage blobs to shapely, into another CRS, cut at a box, to GeoJSON text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS, Transformer

from geounet.service.errors import BadRequestError
from geounet.service.features.crs_uri import CRS84, named
from geounet.service.features.transformers import Geometries, transformer
from tiles.errors import VectorError

_ENVELOPE_BYTES = (0, 32, 48, 48, 64)


def read_geometries(blobs: Sequence[bytes]) -> Geometries:
    """GeoPackage geometry blobs (header, envelope, WKB; section 2.1.3 of the standard) as shapely geometries."""
    return np.atleast_1d(
        shapely.from_wkb(np.array([b[8 + _ENVELOPE_BYTES[(b[3] >> 1) & 7] :] for b in blobs], dtype=object))
    )


@dataclass(frozen=True)
class _Grid:
    """What `tiles.vectors.wgs84.ToWgs84` asks of a raster's georeference, from a map's summary."""

    proj_crs: CRS
    transform: Affine
    shape: tuple[int, int]


class Carrier:
    """Brings geometries of one layer into one CRS, axis order included. For one thread."""

    def __init__(self, layer: CRS, grid: Mapping[str, Any], uri: str) -> None:
        """`grid` is the one of the map's summary: transform (six numbers), rows, columns."""
        self.target = named(uri)
        self._layer, self._grid = layer, grid
        self._prepared = False
        self._lonlat: Any = None
        self.transformer: Transformer | None = None

    def prepare(self) -> None:
        """Make what brings geometries over; it takes a while. Raises BadRequestError where nothing can."""
        if self._prepared:
            return
        self._prepared = True
        layer, target = self._layer, self.target.crs
        if target.equals(layer, ignore_axis_order=True) and not layer.is_geographic:
            return
        if self.target.uri == CRS84 or target.to_epsg() == 4326:
            self._lonlat = _to_wgs84(layer, self._grid)
        else:
            self.transformer = transformer(layer, target)

    def to_geojson(self, geometries: Geometries) -> list[str | None]:
        """GeoJSON geometries as text; None for an empty one. Raises what `prepare` raises."""
        self.prepare()
        moved = self._moved(geometries)
        kept = ~shapely.is_empty(moved)
        # Most maps have their rings the way RFC 7946 wants them, and looking is cheaper than turning.
        if not shapely.is_ccw(shapely.get_exterior_ring(shapely.get_parts(moved))).all():
            moved = shapely.orient_polygons(moved)
        return [t if k else None for t, k in zip(np.atleast_1d(shapely.to_geojson(moved)), kept, strict=True)]

    def _moved(self, geometries: Geometries) -> Geometries:
        if self._lonlat is not None:
            moved = _all_polygons(geometries, self._lonlat.polygons)
            return _swap(moved) if self.target.swapped else moved
        xy = shapely.get_coordinates(geometries)
        if self.transformer is not None:
            xy = np.column_stack(self.transformer.transform(xy[:, 0], xy[:, 1]))
            if not np.isfinite(xy).all():
                raise BadRequestError(f"the features cannot be shown in {self.target.uri}: ask for another crs", "crs")
        xy = np.round(xy, self.target.decimals)
        return _with(geometries, xy[:, ::-1] if self.target.swapped else xy)


def _all_polygons(geometries: Geometries, change: Any) -> Geometries:
    """Apply a function that knows polygons only to a mixture with multipolygons, as clipping makes."""
    if (shapely.get_type_id(geometries) == 3).all():
        return np.asarray(change(geometries))
    parts, owner = shapely.get_parts(geometries, return_index=True)
    moved, inner = shapely.get_parts(change(parts), return_index=True)
    owner = owner[inner]
    out = np.empty(len(geometries), dtype=object)
    for i in range(len(geometries)):
        mine = moved[owner == i]
        out[i] = mine[0] if len(mine) == 1 else shapely.MultiPolygon(list(mine))
    return out


def _with(geometries: Geometries, xy: npt.NDArray[np.float64]) -> Geometries:
    return np.asarray(shapely.set_coordinates(geometries.copy(), xy), dtype=object)


def _swap(geometries: Geometries) -> Geometries:
    return _with(geometries, shapely.get_coordinates(geometries)[:, ::-1])


def _to_wgs84(layer: CRS, grid: Mapping[str, Any]) -> Any:
    from tiles.vectors.wgs84 import ToWgs84

    georef: Any = _Grid(layer, Affine(*grid["transform"]), (grid["rows"], grid["columns"]))
    try:
        return ToWgs84(georef)
    except VectorError as error:
        raise BadRequestError(f"{error}; here: ask for the layer's own CRS", "crs") from error
