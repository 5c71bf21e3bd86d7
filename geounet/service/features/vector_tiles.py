"""Vector tiles of a map's polygons: borders as fine as the zoom shows them, neighbours always sharing theirs."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS

from geounet.service.features.crs_uri import EVERYWHERE, named
from geounet.service.features.layer import FeatureLayer, Filter
from geounet.service.features.search_box import search_box
from geounet.service.features.transformers import Bounds, transformer
from tiles.vectors.mvt import EXTENT, TileFeatures, encode_tile

LAYER = "landcover"
FIELDS = {"class_id": "Number", "class_name": "String", "area_m2": "Number", "confidence": "Number"}
_WORLD = 20037508.342789244
_MERCATOR = CRS.from_epsg(3857)
_CROWD = 2000
"""With more polygons in a tile of average density, regions of pixels are shown in place of them."""
_MARGIN = 64
"""Units around a tile that its polygons reach into, so that no cut edge is seen: 8 pixels of a tile of 512."""
_TOLERANCE = 4.0
"""Square root of the area, in units, that a border may be off by: half a pixel."""
_DEEPEST = 22


def zooms(layer: FeatureLayer) -> tuple[int, int]:
    """(first zoom with single polygons, last zoom with anything new). Below the first, regions of pixels are shown."""
    bounds = layer.lonlat_bounds()
    if bounds is None:
        return 0, 0
    west, south, east, north = bounds
    grid = layer.summary["grid"]
    pixel = max((east - west) / max(grid["columns"], 1), 1e-9)
    last = min(max(math.ceil(math.log2(360 / (512 * pixel))), 0), _DEEPEST)
    wide, high = max((east - west) / 360, 1e-9), max(_row(south) - _row(north), 1e-9)
    crowded = max(layer.count * 1.0, 1.0) / (wide * high)  # polygons, were the whole world as dense
    first = 0 if layer.count <= _CROWD else max(math.ceil(math.log2(crowded / _CROWD) / 2), 0)
    return min(first, last), last


def vector_tile(layer: FeatureLayer, z: int, x: int, y: int) -> bytes:
    """The tile's polygons, simplified together to half a pixel; b"" for an empty tile.

    A border is simplified between the places where three polygons meet. All that touch the tile take part with the
    whole of their borders, so that the tiles beside it show the same line.
    """
    span = 2 * _WORLD / 2**z
    left, top = -_WORLD + x * span, _WORLD - y * span
    around = span * _MARGIN / EXTENT
    reach = (left - around, top - span - around, left + span + around, top + around)
    box = search_box(reach, named(EVERYWHERE[2]), layer.crs, layer.extent)
    shapes = layer.shapes(layer.matches(Filter(box)))
    if not len(shapes.ids):
        return b""
    drawn = _on_tile(shapes.geometries, layer.crs, left, top, EXTENT / span)
    if z < zooms(layer)[1]:
        drawn = shapely.coverage_simplify(drawn, _TOLERANCE)
    cut = shapely.clip_by_rect(drawn, *_frame())
    properties: dict[str, Sequence[int | float | str]] = {
        "class_id": shapes.class_id,
        "class_name": shapes.class_name,
        "area_m2": [round(float(v), 2) for v in shapes.area_m2],
        "confidence": [round(float(v or 0), 4) for v in shapes.confidence],
    }
    return encode_tile(LAYER, TileFeatures(cut, properties, shapes.ids))


def _frame() -> Bounds:
    return -_MARGIN, -_MARGIN, EXTENT + _MARGIN, EXTENT + _MARGIN


def _on_tile(
    geometries: npt.NDArray[np.object_], crs: CRS, left: float, top: float, scale: float
) -> npt.NDArray[np.object_]:
    """Geometries of a layer in units of a tile's grid, not yet whole ones, y down."""
    xy = shapely.get_coordinates(geometries)
    mercator = np.column_stack(transformer(crs, _MERCATOR).transform(xy[:, 0], xy[:, 1]))
    units = (mercator - (left, top)) * (scale, -scale)
    return np.asarray(shapely.set_coordinates(geometries.copy(), units), dtype=object)


def _row(latitude: float) -> float:
    """Where a latitude lies between the top (0) and the bottom (1) of the Web Mercator world."""
    held = math.radians(max(min(latitude, 85.05112878), -85.05112878))
    return (1 - math.asinh(math.tan(held)) / math.pi) / 2


def limits(layer: FeatureLayer) -> list[tuple[int, int, int, int]]:
    """(first column, first row, last column, last row) of the tiles with something in them, a zoom each from 0."""
    west, south, east, north = layer.lonlat_bounds() or (0.0, 0.0, 0.0, 0.0)
    found = []
    for z in range(zooms(layer)[1] + 1):
        corners = ((west + 180) / 360, _row(north), (east + 180) / 360, _row(south))
        left, top, right, bottom = (min(max(int(v * 2**z), 0), 2**z - 1) for v in corners)
        found.append((left, top, max(left, right), max(top, bottom)))
    return found
