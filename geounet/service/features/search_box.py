"""A box in any CRS, brought to the map's own CRS so that its index can answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from geounet.service.errors import BadRequestError
from geounet.service.features.crs_uri import NamedCrs
from geounet.service.features.transformers import Bounds, Geometries, transformer
from tiles.longitudes import halves, turned_extent

_EDGE_POINTS = 33


@dataclass(frozen=True)
class Side:
    """The half-plane `x * easting + y * northing >= least`."""

    x: float
    y: float
    least: float


@dataclass(frozen=True)
class BoxPart:
    """One piece of a search box in the layer's CRS: its polygon, and the box around it.

    What lies on the good side of all `sides` is surely inside; without any, nothing is sure.
    """

    polygon: shapely.Geometry
    outer: Bounds
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class SearchBox:
    """A client's box in the layer's CRS; of two parts where it crosses the antimeridian."""

    parts: tuple[BoxPart, ...]

    def cut(self, geometries: Geometries) -> Geometries:
        """The polygonal part of each geometry inside the box; empty where only a line or a point is."""
        area = shapely.union_all([part.polygon for part in self.parts])
        shapely.prepare(area)
        out = geometries.copy()
        across = ~shapely.contains_properly(area, geometries)
        for i in np.flatnonzero(across):
            pieces = shapely.get_parts(shapely.intersection(geometries[i], area))
            flat = shapely.get_parts(pieces)
            polygons = [p for p in flat if p.geom_type == "Polygon" and not p.is_empty]
            out[i] = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
        return out


def search_box(bounds: Bounds, crs: NamedCrs, layer: CRS, extent: Bounds | None) -> SearchBox:
    """A box given in the axis order of `crs` as a polygon in `layer`, its edges bent as the projection bends them.

    Of the box, only what lies around the layer's `extent` is kept: edges that go around the world cannot be bent
    well, and parts far away may have no place in the layer's CRS. Raises BadRequestError where it is upside down.
    """
    x0, y0, x1, y1 = (bounds[1], bounds[0], bounds[3], bounds[2]) if crs.swapped else bounds
    if crs.crs.is_geographic:
        x0, x1 = turned_extent(x0, x1)
    if y0 > y1 or (x0 > x1 and not crs.crs.is_geographic):
        raise BadRequestError("bbox must be lower left, then upper right", "bbox")
    if extent is None:
        return SearchBox(())
    pieces = [(west, y0, east, y1) for west, east in halves(x0, x1)]
    if crs.crs.equals(layer, ignore_axis_order=True):
        parts = [_part(piece, None) for piece in pieces]
    else:
        near = [n for piece in pieces for n in _near(piece, _around(extent, layer, crs.crs))]
        parts = [_part(piece, transformer(crs.crs, layer)) for piece in near]
    return SearchBox(tuple(_all_turns(parts, extent) if layer.is_geographic else parts))


def _all_turns(parts: Sequence[BoxPart], extent: Bounds) -> list[BoxPart]:
    """The parts as they lie in a layer in degrees, whose own longitudes may run past 180 or -180."""
    turns = [_turned_by(part, turn) for part in parts for turn in (-360.0, 0.0, 360.0)]
    found = [part for part in turns if part.outer[0] <= extent[2] and part.outer[2] >= extent[0]]
    return found or list(parts)


def _turned_by(part: BoxPart, degrees: float) -> BoxPart:
    if degrees == 0.0:
        return part
    west, south, east, north = part.outer
    return BoxPart(
        shapely.transform(part.polygon, lambda xy: xy + np.array([degrees, 0.0])),
        (west + degrees, south, east + degrees, north),
        tuple(Side(side.x, side.y, side.least + side.x * degrees) for side in part.sides),
    )


def _around(extent: Bounds, layer: CRS, crs: CRS) -> list[Bounds]:
    """The layer's extent in another CRS with a margin, of two pieces across the antimeridian; [] where unknown."""
    try:
        west, south, east, north = transformer(layer, crs).transform_bounds(*extent)
    except ProjError:
        return []
    if not np.isfinite([west, south, east, north]).all():
        return []
    wide = east - west if west <= east else east + 360 - west
    dx, dy = 0.02 * wide, 0.02 * (north - south)
    south, north = south - dy, north + dy
    if not crs.is_geographic or (west <= east and west - dx >= -180 and east + dx <= 180):
        return [(west - dx, south, east + dx, north)]
    south, north = max(south, -90.0), min(north, 90.0)
    if wide + 2 * dx >= 360:
        return [(-180.0, south, 180.0, north)]
    west, east = (west - dx + 180) % 360 - 180, (east + dx + 180) % 360 - 180
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _near(piece: Bounds, around: list[Bounds]) -> list[Bounds]:
    """The parts of a box that lie around the layer."""
    if not around:
        return [piece]
    parts = []
    for west, south, east, north in around:
        part = (max(piece[0], west), max(piece[1], south), min(piece[2], east), min(piece[3], north))
        if part[0] <= part[2] and part[1] <= part[3]:
            parts.append(part)
    return parts


def _part(bounds: Bounds, to_layer: Transformer | None) -> BoxPart:
    x0, y0, x1, y1 = bounds
    if to_layer is None:
        sides = (Side(1.0, 0.0, x0), Side(0.0, 1.0, y0), Side(-1.0, 0.0, -x1), Side(0.0, -1.0, -y1))
        return BoxPart(_box(x0, y0, x1, y1), bounds, sides)
    east, north = np.linspace(x0, x1, _EDGE_POINTS), np.linspace(y0, y1, _EDGE_POINTS)
    edges = [
        to_layer.transform(x, y)
        for x, y in (
            (east, np.full(_EDGE_POINTS, y0)),
            (np.full(_EDGE_POINTS, x1), north),
            (east[::-1], np.full(_EDGE_POINTS, y1)),
            (np.full(_EDGE_POINTS, x0), north[::-1]),
        )
    ]
    x, y = np.concatenate([e[0] for e in edges]), np.concatenate([e[1] for e in edges])
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.all():
        # Part of the box lies where the projection has no place for it: search everything that is not surely out.
        outer = _reachable(bounds, to_layer)
        return BoxPart(_box(*outer), outer, ())
    polygon = shapely.make_valid(shapely.polygons(np.column_stack([x, y])))
    return BoxPart(polygon, _bounds(*shapely.bounds(polygon)), _sides(polygon, [np.column_stack(e) for e in edges]))


def _sides(polygon: shapely.Geometry, edges: Sequence[npt.NDArray[np.float64]]) -> tuple[Side, ...]:
    """Straight sides inside the bent edges of a box, each edge an array of points (n, 2), counterclockwise; or ()."""
    sides = []
    for points in edges:
        dx, dy = points[-1] - points[0]
        length = np.hypot(dx, dy)
        if length == 0.0:
            return ()
        x, y = float(-dy / length), float(dx / length)
        least = float((points @ (x, y)).max())
        sides.append(Side(x, y, least + 1e-9 * max(abs(least), 1.0)))  # clear of the edge by more than rounding
    corners = [_crossing(a, b) for a, b in zip(sides, (*sides[1:], sides[0]), strict=True)]
    sure = np.isfinite(corners).all() and bool(shapely.contains(polygon, shapely.Polygon(corners)))
    return tuple(sides) if sure else ()


def _crossing(a: Side, b: Side) -> tuple[float, float]:
    """Where the borders of two half-planes meet; infinitely far away for parallel ones."""
    turn = a.x * b.y - a.y * b.x
    if turn == 0.0:
        return np.inf, np.inf
    return (a.least * b.y - a.y * b.least) / turn, (a.x * b.least - a.least * b.x) / turn


def _reachable(bounds: Bounds, to_layer: Transformer) -> Bounds:
    try:
        found = to_layer.transform_bounds(*bounds)
    except ProjError:
        found = (np.inf,) * 4
    if not np.isfinite(found).all():
        limit = 1e15
        return (-limit, -limit, limit, limit)
    return _bounds(*found)


def _bounds(x0: float, y0: float, x1: float, y1: float) -> Bounds:
    return float(x0), float(y0), float(x1), float(y1)


def _box(x0: float, y0: float, x1: float, y1: float) -> shapely.Geometry:
    if x0 == x1 or y0 == y1:
        return shapely.LineString([(x0, y0), (x1, y1)]) if (x0, y0) != (x1, y1) else shapely.Point(x0, y0)
    return shapely.box(x0, y0, x1, y1)
