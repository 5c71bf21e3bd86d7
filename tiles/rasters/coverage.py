"""How much of each pixel a polygon covers, exactly.

Signed areas are accumulated edge by edge: an edge leaves in each cell that it crosses the area between itself and the
cell's right side, and what it passes on to the cells on its right; a running sum along each row then gives every
pixel's covered fraction. It is the way outline fonts are drawn with exact anti-aliasing (Levien, "font-rs", 2016).
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import shapely

Float64 = npt.NDArray[np.float64]


def coverage(polygon: shapely.Geometry, top: int, left: int, rows: int, columns: int) -> Float64:
    """The covered fraction of each pixel of a window: float64 (rows, columns) in 0-1.

    `polygon` is a valid Polygon or MultiPolygon whose coordinates are (column, row) of the raster, with (0, 0) at the
    upper-left corner of its first pixel; `top` and `left` place the window. An empty polygon covers nothing.
    """
    gathered = np.zeros((rows, columns + 2))
    oriented = shapely.orient_polygons(polygon)
    for part in shapely.get_parts(oriented):
        for ring in (part.exterior, *part.interiors):
            _add_ring(shapely.get_coordinates(ring) - (left, top), gathered)
    covered = np.abs(np.cumsum(gathered[:, :columns], axis=1))
    return np.clip(covered, 0.0, 1.0, out=covered)


@numba.njit(cache=True, nogil=True)
def _add_ring(points: Any, gathered: Any) -> None:
    for i in range(len(points) - 1):
        x0, y0, x1, y1 = points[i, 0], points[i, 1], points[i + 1, 0], points[i + 1, 1]
        if y0 < y1:
            _add_edge(x0, y0, x1, y1, 1.0, gathered)
        elif y0 > y1:
            _add_edge(x1, y1, x0, y0, -1.0, gathered)


@numba.njit(cache=True, nogil=True)
def _add_edge(x0: float, y0: float, x1: float, y1: float, sign: float, gathered: Any) -> None:
    """An edge that leads down (y0 < y1), row by row."""
    rows = gathered.shape[0]
    slope = (x1 - x0) / (y1 - y0)
    first, last = max(0, int(np.floor(y0))), min(rows, int(np.ceil(y1)))
    for y in range(first, last):
        above, below = max(float(y), y0), min(float(y + 1), y1)
        start, end = x0 + (above - y0) * slope, x0 + (below - y0) * slope
        _add_piece(min(start, end), max(start, end), (below - above) * sign, gathered[y])


@numba.njit(cache=True, nogil=True)
def _add_piece(start: float, end: float, height: float, row: Any) -> None:
    """The piece of an edge within one row, from `start` to `end`: outside the window it is cut off."""
    width = row.shape[0] - 2
    if start >= width:
        return  # what lies right of the window changes nothing in it
    if end <= 0:
        row[0] += height
        return
    if start < 0:
        row[0] += height * (-start) / (end - start)
        height *= end / (end - start)
        start = 0.0
    if end > width:
        height *= (width - start) / (end - start)
        end = float(width)
    column, last = int(start), int(np.ceil(end))
    if last <= column + 1:
        middle = 0.5 * (start + end) - column
        row[column] += height * (1 - middle)
        row[column + 1] += height * middle
        return
    share = height / (end - start)  # of the height in one whole column
    for x in range(column, last):
        a, b = max(start, float(x)), min(end, float(x + 1))
        middle = 0.5 * (a + b) - x
        row[x] += share * (b - a) * (1 - middle)
        row[x + 1] += share * (b - a) * middle
