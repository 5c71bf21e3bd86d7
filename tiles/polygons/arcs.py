"""Arcs: the boundaries between regions, traced once each along pixel edges.

A corner is a point of the pixel grid. An arc runs from node to node; nodes are corners where three or more edges
meet and, on the lines between two bands, every corner with a vertical edge: so each arc lies within one band, and
where the bands lie depends on the raster's shape alone. An arc without nodes is a loop; its start stands for one.

Directions are 0 east, 1 south, 2 west, 3 north; an arc's left and right are those of its direction of travel.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tiles.compiled import njit

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8 | np.uint16]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NODE = 16
_SEEN = 32
OWN = 64
_EAST, _SOUTH, _WEST, _NORTH = 1, 2, 4, 8


class Arcs(NamedTuple):
    """Arcs of a band; arrays of shape (n,) but for the points.

    `points` (vertices, 2): column, row of the raster's pixel grid; arc i holds points[offsets[i]:offsets[i + 1]].
    `left`, `right`: regions beside the arc, -1 for nodata and outside. `start`, `end`: node * 4 + direction in which
    the arc leaves its first node and arrives at its last; a node is row * (columns + 1) + column.
    `soft`: bit 1 (start) and 2 (end): the node only stands on a line between bands, in the middle of a straight edge.
    """

    points: Ints
    offsets: Longs
    left: Ints
    right: Ints
    start: Longs
    end: Longs
    soft: Bytes


@njit(nogil=True)
def mark_corners(pixels: Codes, corners: Bytes, cut_above: bool, cut_below: bool) -> None:
    """Edges and nodes of every corner of a framed band: `corners` has shape (rows + 1, columns + 1).

    Edges of the band above and those on the lower line, which belong to the band below, are left out.
    """
    lines, width = corners.shape
    for i in range(lines):
        cut = (i == 0 and cut_above) or (i == lines - 1 and cut_below)
        for j in range(width):
            nw, ne = pixels[i, j], pixels[i, j + 1]
            sw, se = pixels[i + 1, j], pixels[i + 1, j + 1]
            if nw == ne and nw == sw and nw == se:
                corners[i, j] = 0
                continue
            e, s, w, n = ne != se, sw != se, nw != sw, nw != ne
            value = e * _EAST + s * _SOUTH + w * _WEST + n * _NORTH
            if int(e) + int(s) + int(w) + int(n) > 2 or (cut and (n or s)):
                value |= NODE
                if cut and n and s and not e and not w:
                    value |= _SEEN  # soft; a node needs the bit for nothing else
            if cut and i == 0:
                value &= ~_NORTH
            elif cut:
                value &= ~(_EAST | _SOUTH | _WEST)
            corners[i, j] = value


@njit(nogil=True)
def _grown(points: Ints) -> Ints:
    larger = np.empty((2 * points.shape[0], 2), np.int32)
    larger[: points.shape[0]] = points
    return larger


@njit(nogil=True)
def _count_arcs(corners: Bytes) -> tuple[int, int]:
    """Upper bounds: (arcs, points)."""
    ends, turns = 0, 0
    for i in range(corners.shape[0]):
        for j in range(corners.shape[1]):
            b = corners[i, j]
            if b & NODE:
                ends += (b & 1) + (b >> 1 & 1) + (b >> 2 & 1) + (b >> 3 & 1)
            elif b == 3:
                ends += 2  # perhaps the start of a loop
                turns += 2
            elif b == 6 or b == 9 or b == 12:
                turns += 1
    return ends // 2 + 1, turns + ends + 2


@njit(nogil=True)
def _trace(
    corners: Bytes,
    labels: Ints,
    top: int,
    points: Ints,
    offsets: Longs,
    sides: Ints,
    ends: Longs,
    soft: Bytes,
) -> int:
    """Follows every arc of the band; returns how many there are."""
    lines, width = corners.shape
    step_i = np.array([0, 1, 0, -1])
    step_j = np.array([1, 0, -1, 0])
    # Pixels left and right of an edge that leaves corner (i, j), as framed indices, by direction.
    left_i, left_j = np.array([0, 1, 1, 0]), np.array([1, 1, 0, 0])
    right_i, right_j = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])
    arcs, used = 0, 0
    for loops in range(2):
        for i0 in range(lines):
            for j0 in range(width):
                b = corners[i0, j0]
                if (b & NODE == 0) if loops == 0 else (b != 3):
                    continue
                for d0 in range(4 if loops == 0 else 1):
                    if not corners[i0, j0] >> d0 & 1:
                        continue
                    i, j, d = i0, j0, d0
                    offsets[arcs] = used
                    sides[arcs, 0] = labels[i + left_i[d], j + left_j[d]]
                    sides[arcs, 1] = labels[i + right_i[d], j + right_j[d]]
                    ends[arcs, 0] = ((top + i) * width + j) * 4 + d
                    points[used, 0], points[used, 1] = j, top + i
                    used += 1
                    flags = 0
                    if loops == 0:
                        flags = corners[i, j] >> 5 & 1
                        corners[i, j] ^= 1 << d
                    while True:
                        i += step_i[d]
                        j += step_j[d]
                        b = corners[i, j]
                        if b & NODE:
                            flags |= (b >> 5 & 1) << 1
                            corners[i, j] ^= 1 << ((d + 2) & 3)
                            break
                        if loops == 1 and i == i0 and j == j0:
                            break
                        if b >> d & 1:
                            continue
                        if b & 15 == 3:
                            corners[i, j] |= _SEEN
                        d = (d + 1) & 3 if b >> ((d + 1) & 3) & 1 else (d + 3) & 3
                        points[used, 0], points[used, 1] = j, top + i
                        used += 1
                    if loops == 1:
                        corners[i, j] |= _SEEN
                    points[used, 0], points[used, 1] = j, top + i
                    used += 1
                    ends[arcs, 1] = ((top + i) * width + j) * 4 + d
                    soft[arcs] = flags
                    arcs += 1
    offsets[arcs] = used
    return arcs


def trace_band(pixels: Codes, labels: Ints, top: int, *, cut_above: bool, cut_below: bool) -> tuple[Arcs, Bytes]:
    """All arcs of a framed, labelled band, and its corners, shape (rows + 1, columns + 1).

    `top` is the raster row of the band's first row; `cut_above` and `cut_below` say whether other bands lie there.
    After tracing a corner's bits tell vertices: `NODE`, or two edges that turn.
    """
    corners = np.empty((pixels.shape[0] - 1, pixels.shape[1] - 1), np.uint8)
    mark_corners(pixels, corners, cut_above, cut_below)
    most, most_points = _count_arcs(corners)
    points = np.empty((most_points, 2), np.int32)
    offsets = np.empty(most + 1, np.int64)
    sides = np.empty((most, 2), np.int32)
    ends = np.empty((most, 2), np.int64)
    soft = np.empty(most, np.uint8)
    n = _trace(corners, labels, top, points, offsets, sides, ends, soft)
    used = int(offsets[n])
    # Copies of the part in use: the bounds were generous, and the arcs outlive the band.
    return Arcs(
        points[:used].copy(),
        offsets[: n + 1].copy(),
        sides[:n, 0].copy(),
        sides[:n, 1].copy(),
        ends[:n, 0].copy(),
        ends[:n, 1].copy(),
        soft[:n].copy(),
    ), corners


@njit(nogil=True)
def measure_arcs(
    points: Ints, offsets: Longs, form: Floats, step_r: float, step_c: float, cross: Longs, length: Floats
) -> None:
    """Twice the signed area under each arc in pixels, and its length in metres on the ellipsoid.

    `form` and the steps are those of `PixelMetric`; the length of each segment is taken at its middle.
    """
    for a in range(len(offsets) - 1):
        total, metres = np.int64(0), 0.0
        for k in range(offsets[a], offsets[a + 1] - 1):
            x, y = np.int64(points[k, 0]), np.int64(points[k, 1])
            dx, dy = points[k + 1, 0] - x, points[k + 1, 1] - y
            total += x * dy - y * dx
            r, c = (y + dy / 2) / step_r, (x + dx / 2) / step_c
            i, j = min(int(r), form.shape[0] - 2), min(int(c), form.shape[1] - 2)
            u, v = r - i, c - j
            square = 0.0
            for part, weight in ((0, dx * dx), (1, 2 * dx * dy), (2, dy * dy)):
                if weight:
                    upper = form[i, j, part] * (1 - v) + form[i, j + 1, part] * v
                    lower = form[i + 1, j, part] * (1 - v) + form[i + 1, j + 1, part] * v
                    square += weight * (upper * (1 - u) + lower * u)
            metres += np.sqrt(max(square, 0.0))
        cross[a] = total
        length[a] = metres
