"""Areas of classes by zone: any polygons in any CRS, border pixels by the exact share that is inside.

Areas are on the ellipsoid: a pixel counts with its own area there times its covered fraction.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from geounet.errors import StatisticsError
from geounet.statistics.vector_files import read_layer
from tiles.georef import Georef
from tiles.legend import NODATA, Legend
from tiles.rasters.coverage import coverage
from tiles.rasters.read import Categorical
from tiles.window import Window

Float64 = npt.NDArray[np.float64]

WHOLE = "whole map"
_BLOCK = 64
_WINDOW_PIXELS = 4 << 20
_EDGE_PIXELS = 32.0
"""Edges are cut to this length before they are brought to the map's CRS, in which they are no straight lines."""


@dataclass(frozen=True)
class Zone:
    """A polygon with a name, its geometry in (column, row) of the raster; None stands for the whole raster."""

    name: str
    pixels: shapely.Geometry | None = None
    given: shapely.Geometry | None = None


@dataclass(frozen=True)
class ZoneAreas:
    """What lies in one zone: square metres a class (in the legend's order), of nodata, and outside of the map.

    `confidence` is the mean probability (0-1) of the chosen class, weighted by area: over all classes, then a class;
    NaN where it is not known.
    """

    zone: str
    classes: Float64
    nodata: float
    outside: float
    confidence: float
    class_confidence: Float64

    @property
    def mapped(self) -> float:
        """Square metres that have a class."""
        return float(self.classes.sum())


@dataclass
class _Sums:
    """What is added up over a zone's windows."""

    classes: int
    area: Float64 = field(init=False)
    sure: Float64 = field(init=False)
    known: Float64 = field(init=False)

    def __post_init__(self) -> None:
        self.area, self.sure, self.known = (np.zeros(self.classes + 1) for _ in range(3))


def zones_of(path: Path, georef: Georef, attribute: str | None = None) -> tuple[list[Zone], CRS]:
    """The polygons of a vector file, brought to the raster's pixels, and the file's CRS.

    `attribute` names the column with the zones' names; without it they are numbered from 1. Raises StatisticsError
    for a file that is none, has no CRS or no polygons, or of which nothing lies on the raster.
    """
    frame = read_layer(path, "zones")
    if attribute is not None and attribute not in frame.columns:
        columns = ", ".join(c for c in frame.columns if c != "geometry") or "none"
        raise StatisticsError(f"{path} has no field '{attribute}': its fields are {columns}")
    names = _names(frame, attribute)
    shapes = [_polygons(geometry, path, name) for geometry, name in zip(frame.geometry, names, strict=True)]
    crs = CRS.from_user_input(frame.crs)
    zones = zones_on(dict(zip(names, shapes, strict=True)), crs, georef)
    if not any(_touches(zone.pixels, georef) for zone in zones):
        raise StatisticsError(f"{path}: none of its {len(zones)} zones lies on the map: check its CRS ({crs.name})")
    return zones, crs


def zones_on(shapes: Mapping[str, shapely.Geometry], crs: CRS, georef: Georef) -> list[Zone]:
    """Polygons in any CRS as zones of a raster. Raises StatisticsError for one that cannot be brought to its CRS."""
    same = crs.equals(georef.proj_crs, ignore_axis_order=True)
    transformer = None if same else Transformer.from_crs(crs, georef.proj_crs, always_xy=True)
    found = []
    for name, shape in shapes.items():
        cut = shape if transformer is None else shapely.segmentize(shape, _edge_length(shape, crs, georef))
        try:
            moved = cut if transformer is None else shapely.transform(cut, _mover(transformer))
        except ProjError as error:
            raise StatisticsError(f"zone '{name}' cannot be brought to the map's CRS: {error}") from error
        pixels = shapely.transform(moved, _to_pixels(georef))
        found.append(Zone(name, _areas_only(shapely.make_valid(pixels)), shape))
    return found


def zone_areas(raster: Categorical, zone: Zone) -> ZoneAreas:
    """Areas by class inside one zone, read window by window. Raises SceneError where the raster is damaged."""
    georef, legend = raster.georef, raster.legend
    sums = _Sums(len(legend))
    channel = channels(raster)
    for window in _windows(zone, georef):
        covered = _covered(zone, window)
        if not covered.any():
            continue
        classes, confidence = raster.read(window)
        weight = covered * _pixel_areas(georef, window)
        codes = channel[classes].ravel()
        sums.area += np.bincount(codes, weight.ravel(), len(legend) + 1)
        told = np.where(confidence == NODATA, 0.0, weight)
        sums.known += np.bincount(codes, told.ravel(), len(legend) + 1)
        sums.sure += np.bincount(codes, (told * np.minimum(confidence, 100) / 100).ravel(), len(legend) + 1)
    return _areas(zone, sums, georef)


def channels(raster: Categorical) -> npt.NDArray[np.intp]:
    """The place in the legend of each code that `raster` is read in; one behind the last for nodata."""
    order = {c.value: i for i, c in enumerate(raster.legend.classes)}
    table = np.full(256 if len(raster.values) <= NODATA else 65_536, len(order), np.intp)
    table[: len(raster.values)] = [order[int(value)] for value in raster.values]
    return table


def _areas(zone: Zone, sums: _Sums, georef: Georef) -> ZoneAreas:
    nothing = np.full(sums.classes, np.nan)
    each = np.divide(sums.sure[:-1], sums.known[:-1], out=nothing, where=sums.known[:-1] > 0)
    known = sums.known[:-1].sum()
    return ZoneAreas(
        zone.name,
        sums.area[:-1],
        float(sums.area[-1]),
        _outside(zone, georef, float(sums.area.sum())),
        float(sums.sure[:-1].sum() / known) if known else math.nan,
        each,
    )


def _outside(zone: Zone, georef: Georef, inside: float) -> float:
    """Square metres of the zone that are not on the raster: the zone's area in pixels tells, at its usual size."""
    if zone.pixels is None:
        return 0.0
    rows, columns = georef.shape
    beyond = shapely.difference(zone.pixels, shapely.box(0, 0, columns, rows))
    if beyond.is_empty or beyond.area < 1e-9 * max(zone.pixels.area, 1):
        return 0.0
    centre = shapely.get_coordinates(beyond.centroid)[0]
    return float(beyond.area * georef.pixel_area_m2(centre[0], centre[1]))


def _windows(zone: Zone, georef: Georef) -> Iterator[Window]:
    """The windows that hold the zone, each of a bounded size, whole rows of blocks where it is the whole raster."""
    rows, columns = georef.shape
    x0, y0, x1, y1 = (0, 0, columns, rows) if zone.pixels is None else shapely.bounds(zone.pixels)
    if not math.isfinite(x0):  # an empty polygon
        return
    left, right = max(math.floor(x0), 0), min(math.ceil(x1), columns)
    top, bottom = max(math.floor(y0), 0), min(math.ceil(y1), rows)
    if left >= right or top >= bottom:
        return
    height = max(_WINDOW_PIXELS // (right - left) // _BLOCK, 1) * _BLOCK
    for row in range(top, bottom, height):
        yield Window(row, left, min(height, bottom - row), right - left)


def _covered(zone: Zone, window: Window) -> Float64:
    if zone.pixels is None:
        return np.ones((window.height, window.width))
    return coverage(zone.pixels, window.top, window.left, window.height, window.width)


def _pixel_areas(georef: Georef, window: Window) -> Float64:
    """Square metres of each pixel, (rows, columns): that of the pixel at the middle of its block of 64 x 64."""
    rows = np.arange(window.top, window.top + window.height)
    columns = np.arange(window.left, window.left + window.width)
    blocks_down, blocks_along = np.unique(rows // _BLOCK), np.unique(columns // _BLOCK)
    y, x = np.meshgrid((blocks_down + 0.5) * _BLOCK, (blocks_along + 0.5) * _BLOCK, indexing="ij")
    each = georef.pixel_area_m2(x.ravel(), y.ravel()).reshape(y.shape)
    return np.asarray(each[rows // _BLOCK - blocks_down[0]][:, columns // _BLOCK - blocks_along[0]])


def _names(frame: Any, attribute: str | None) -> list[str]:
    plain = [str(n) for n in range(1, len(frame) + 1)] if attribute is None else [str(v) for v in frame[attribute]]
    seen: dict[str, int] = {}
    unique = []
    for name in plain:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _polygons(geometry: Any, path: Path, name: str) -> shapely.Geometry:
    if geometry is None or geometry.is_empty or geometry.geom_type not in ("Polygon", "MultiPolygon"):
        kind = "nothing" if geometry is None or geometry.is_empty else f"a {geometry.geom_type}"
        raise StatisticsError(f"{path}: zone '{name}' is {kind}: zones are polygons")
    return shapely.force_2d(geometry)


def _areas_only(shape: shapely.Geometry) -> shapely.Geometry:
    """The polygons of a geometry that was made valid, which may have left lines and points."""
    parts = shapely.get_parts(shape)
    if shape.geom_type == "GeometryCollection":
        parts = np.concatenate([shapely.get_parts(part) for part in parts]) if len(parts) else parts
    return shapely.union_all([p for p in parts if p.geom_type == "Polygon"])


def _edge_length(shape: shapely.Geometry, crs: CRS, georef: Georef) -> float:
    metres = _EDGE_PIXELS * georef.gsd
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    length = math.degrees(metres / 6_371_000.0) if crs.is_geographic else metres / float(unit or 1.0)
    x0, y0, x1, y1 = shapely.bounds(shape)
    return float(max(length, max(x1 - x0, y1 - y0) / 20_000))  # a country round a small map needs no million vertices


def _mover(transformer: Transformer) -> Any:
    return lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1], errcheck=True))


def _to_pixels(georef: Georef) -> Any:
    back = ~georef.transform

    def move(xy: Float64) -> Float64:
        x, y = xy[:, 0], xy[:, 1]
        return np.column_stack((back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f))

    return move


def _touches(shape: shapely.Geometry | None, georef: Georef) -> bool:
    rows, columns = georef.shape
    return shape is None or bool(shapely.intersects(shape, shapely.box(0, 0, columns, rows)))


def records(areas: Sequence[ZoneAreas], legend: Legend) -> list[dict[str, Any]]:
    """A row a zone and class, ready for a table: areas in square metres, shares of the zone's mapped area."""
    return [
        {
            "zone": found.zone,
            "class_id": c.value,
            "class_name": c.name,
            "area_m2": round(float(area), 3),
            "share": round(float(area) / found.mapped, 6) if found.mapped else 0.0,
            "confidence": None if math.isnan(sure) else round(float(sure), 4),
            "zone_mapped_m2": round(found.mapped, 3),
            "zone_nodata_m2": round(found.nodata, 3),
            "zone_outside_m2": round(found.outside, 3),
        }
        for found in areas
        for c, area, sure in zip(legend.classes, found.classes, found.class_confidence, strict=True)
    ]
