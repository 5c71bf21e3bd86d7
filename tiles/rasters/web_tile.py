"""The pixels of a raster under one web-map tile, on the tile's own grid, at a cost that no zoom raises.

What lies under the tile is read from an overview at about twice the tile's resolution, and its
pixels are looked up from the tile's. A warped view of the whole raster, which costs what the raster has pixels, is
never made.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.windows import Window

_HALF = math.pi * 6_378_137.0
_FINER = 2.0
_MARGIN = 2.0
_NODES = 65

Coordinates = npt.NDArray[Any]
Box = tuple[float, float, float, float]
"""West, south, east, north."""


@dataclass(frozen=True)
class WebTile:
    """Values, shape (bands, side, side), and where there is data, shape (side, side)."""

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


def web_tile(dataset: Any, place: tuple[int, int, int], bands: tuple[int, ...], side: int = 256) -> WebTile | None:
    """The tile `place` (x, y, z of the Web Mercator scheme) of an open rasterio dataset; None where it has no pixel.

    Nearest pixels of the overview that fits. Raises RasterioError where the file is damaged.
    """
    tile = _tile_bounds(*place)
    shared = _shared(tile, _in_mercator(dataset))
    window = None if shared is None else _window(dataset, shared)
    if shared is None or window is None:
        return None
    across = (shared[2] - shared[0]) / (tile[2] - tile[0]) * side
    down = (shared[3] - shared[1]) / (tile[3] - tile[1]) * side
    scale = min(1.0, _FINER * max(across, down, 1.0) / max(window.width, window.height))
    shape = max(1, math.ceil(window.height * scale)), max(1, math.ceil(window.width * scale))
    values = dataset.read(list(bands), window=window, out_shape=(len(bands), *shape))
    mask = dataset.dataset_mask(window=window, out_shape=shape)
    rows, cols = _places(dataset, tile, shared, side)
    rows, cols = (rows - window.row_off) * shape[0] / window.height, (cols - window.col_off) * shape[1] / window.width
    seen = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])  # false for NaN
    row, col = rows[seen].astype(np.intp), cols[seen].astype(np.intp)
    made = WebTile(np.zeros((len(bands), side, side), dtype=values.dtype), np.zeros((side, side), dtype=np.bool_))
    made.values[:, seen] = values[:, row, col]
    made.valid[seen] = mask[row, col] > 0
    return made


def _places(dataset: Any, tile: Box, shared: Box, side: int) -> tuple[Coordinates, Coordinates]:
    """(row, column) in the raster of the centre of every pixel of the tile, each (side, side); NaN outside `shared`.

    Exact at nodes a 64th of the shared part apart, interpolated between them: a fraction of a pixel off even where the
    tile is the whole world.
    """
    step = (tile[2] - tile[0]) / side
    x = tile[0] + (np.arange(side) + 0.5) * step
    y = tile[3] - (np.arange(side) + 0.5) * step
    inside = np.flatnonzero((x > shared[0]) & (x < shared[2])), np.flatnonzero((y > shared[1]) & (y < shared[3]))
    rows, cols = np.full((2, side, side), np.nan)
    if not (inside[0].size and inside[1].size):
        return rows, cols
    xs, ys = x[inside[0]], y[inside[1]]
    nodes = [v if v.size <= _NODES else np.linspace(v[0], v[-1], _NODES) for v in (xs, ys)]
    east, north = _from_mercator(_wkt(dataset)).transform(*np.meshgrid(*nodes))
    back = ~dataset.transform
    found = (
        back.d * east + back.e * north + back.f,
        back.a * east + back.b * north + back.c,
    )
    place = np.ix_(inside[1], inside[0])
    rows[place], cols[place] = (_between(np.asarray(v), nodes, xs, ys) for v in found)
    return rows, cols


def _between(at: Coordinates, nodes: list[Coordinates], xs: Coordinates, ys: Coordinates) -> Coordinates:
    """Values at nodes (y, x), linearly interpolated to a grid; infinity becomes NaN."""
    at = np.where(np.isfinite(at), at, np.nan)
    for axis, (known, wanted) in enumerate(zip((nodes[1], nodes[0]), (ys, xs), strict=True)):
        if known.size == wanted.size:
            continue
        share = np.linspace(0, known.size - 1, wanted.size)
        low = np.minimum(share.astype(np.intp), known.size - 2)
        part = share - low
        part = part[:, None] if axis == 0 else part[None, :]
        at = np.take(at, low, axis) * (1 - part) + np.take(at, low + 1, axis) * part
    return at


@lru_cache(maxsize=64)
def _from_mercator(wkt: str) -> Transformer:
    return Transformer.from_crs("EPSG:3857", wkt, always_xy=True)


@lru_cache(maxsize=64)
def _to_mercator(wkt: str) -> Transformer:
    return Transformer.from_crs(wkt, "EPSG:3857", always_xy=True)


def _wkt(dataset: Any) -> str:
    return str(dataset.crs.to_wkt())


def _tile_bounds(x: int, y: int, z: int) -> Box:
    span = 2 * _HALF / 2**z
    return -_HALF + x * span, _HALF - (y + 1) * span, -_HALF + (x + 1) * span, _HALF - y * span


def _in_mercator(dataset: Any) -> Box:
    """The raster's bounds in Web Mercator; the whole plane where they have none, as around a pole."""
    try:
        left, bottom, right, top = dataset.bounds
        found = _to_mercator(_wkt(dataset)).transform_bounds(left, bottom, right, top, densify_pts=21)
    except (ProjError, ValueError):
        return -_HALF, -_HALF, _HALF, _HALF
    limits = (-_HALF, -_HALF, _HALF, _HALF)
    west, south, east, north = (v if math.isfinite(v) else n for v, n in zip(found, limits, strict=True))
    return west, south, east, north


def _shared(one: Box, other: Box) -> Box | None:
    box = max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])
    return box if box[0] < box[2] and box[1] < box[3] else None


def _window(dataset: Any, box: Box) -> Window | None:
    """The pixels under a box in Web Mercator, with a small margin; None where there are none."""
    try:
        west, south, east, north = _from_mercator(_wkt(dataset)).transform_bounds(
            box[0], box[1], box[2], box[3], densify_pts=21
        )
    except (ProjError, ValueError):
        return Window(0, 0, dataset.width, dataset.height)
    if not all(math.isfinite(v) for v in (west, south, east, north)):
        return Window(0, 0, dataset.width, dataset.height)
    back = ~dataset.transform
    corners = ((west, north), (east, north), (west, south), (east, south))
    columns = [back.a * x + back.b * y + back.c for x, y in corners]
    rows = [back.d * x + back.e * y + back.f for x, y in corners]
    left, top = (max(0, math.floor(min(v) - _MARGIN)) for v in (columns, rows))
    right, bottom = (
        min(dataset.width, math.ceil(max(columns) + _MARGIN)),
        min(dataset.height, math.ceil(max(rows) + _MARGIN)),
    )
    return Window(left, top, right - left, bottom - top) if right > left and bottom > top else None
