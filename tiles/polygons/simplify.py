"""Simplifying the arcs of a band so that they still fit each other.

Each arc is simplified alone by D. H. Douglas and T. K. Peucker (1973), and a stretch of it becomes one segment only
if no vertex of any other stretch lies between the stretch and the segment, or on the segment. If two stretches obey
that, their segments cannot cross: a segment that crosses another enters the area between that one and its stretch,
cannot end there, and would have to leave through the stretch, whose vertices then lie on the wrong side of it (the
argument of M. de Berg, M. van Kreveld and S. Schirra, "Topologically correct subdivision simplification", 1998).
So the outcome does not depend on any order, nothing has to be repaired, and only unsimplified arcs are looked at.

Two arcs between the same nodes could still become the same segment: each of them keeps its farthest vertex.
"""

import numpy as np

from tiles.compiled import njit
from tiles.polygons.arcs import NODE, OWN, Arcs, Bytes, Ints, Longs


@njit(nogil=True)
def _farthest(points: Ints, first: int, last: int) -> tuple[int, float]:
    """The inner vertex farthest from the segment between two vertices, and its squared distance; -1 without any."""
    ax, ay = float(points[first, 0]), float(points[first, 1])
    dx, dy = points[last, 0] - ax, points[last, 1] - ay
    square = dx * dx + dy * dy
    best, distance = -1, -1.0
    for k in range(first + 1, last):
        px, py = points[k, 0] - ax, points[k, 1] - ay
        along = px * dx + py * dy
        if square == 0.0 or along <= 0.0:
            d = px * px + py * py
        elif along >= square:
            d = (px - dx) ** 2 + (py - dy) ** 2
        else:
            d = (px * dy - py * dx) ** 2 / square
        if d > distance:
            best, distance = k, d
    return best, distance


@njit(nogil=True)
def _weaves(points: Ints, first: int, last: int) -> bool:
    """Whether a stretch crosses its segment's line in another order than it meets it along the way.

    Only then can loops between stretch and segment lie inside each other, where counting crossings is no test of
    being inside. When in doubt: yes.
    """
    ax, ay = points[first, 0], points[first, 1]
    dx, dy = np.int64(points[last, 0] - ax), np.int64(points[last, 1] - ay)
    before, reached = np.int64(0), 0.0
    for k in range(first + 1, last + 1):
        px, py = np.int64(points[k, 0] - ax), np.int64(points[k, 1] - ay)
        side = dx * py - dy * px
        along = float(px * dx + py * dy)
        if side == 0 or (side > 0) != (before > 0):
            place = along
            if side != 0 and before != 0:
                qx, qy = np.int64(points[k - 1, 0] - ax), np.int64(points[k - 1, 1] - ay)
                share = abs(before) / (abs(before) + abs(side))
                place = float(qx * dx + qy * dy) * (1.0 - share) + along * share
            if side == 0 or before != 0:
                if place <= reached + 1e-9 * reached:
                    return True
                reached = place
        before = side
    return False


@njit(nogil=True)
def _between(points: Ints, first: int, last: int, x: int, y: int) -> bool:
    """Whether a corner lies on the segment or in the area between a stretch that does not weave and its segment."""
    ax, ay = np.int64(points[first, 0]), np.int64(points[first, 1])
    bx, by = np.int64(points[last, 0]), np.int64(points[last, 1])
    side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
    if side == 0 and min(ax, bx) <= x <= max(ax, bx) and min(ay, by) <= y <= max(ay, by):
        return True
    inside = False
    for k in range(first, last):
        y0, y1 = points[k, 1], points[k + 1, 1]
        if (y0 <= y) != (y1 <= y) and points[k, 0] > x:
            inside = not inside
    if (ay <= y) != (by <= y) and (side > 0) == (by > ay):
        inside = not inside
    return inside


@njit(nogil=True)
def _free(points: Ints, first: int, last: int, corners: Bytes, top: int, tolerance: float) -> bool:
    """Whether a stretch within `tolerance` of its segment may become that segment."""
    ax, ay = points[first, 0], points[first, 1]
    dx, dy = points[last, 0] - ax, points[last, 1] - ay
    low_x, high_x, low_y, high_y = ax, ax, ay, ay
    for k in range(first, last + 1):
        low_x, high_x = min(low_x, points[k, 0]), max(high_x, points[k, 0])
        low_y, high_y = min(low_y, points[k, 1]), max(high_y, points[k, 1])
        corners[points[k, 1] - top, points[k, 0]] |= OWN
    reach = tolerance * np.sqrt(float(dx) * dx + float(dy) * dy)
    free, looked = True, False
    for y in range(low_y, high_y + 1):
        x0, x1 = low_x, high_x
        if dy != 0:  # only what lies within the tolerance of the line
            centre, half = ax + (y - ay) * dx / dy, reach / abs(dy) + 1e-6
            x0, x1 = max(x0, int(np.ceil(centre - half))), min(x1, int(np.floor(centre + half)))
        for x in range(x0, x1 + 1):
            b = corners[y - top, x]
            if b & OWN or (b & NODE == 0 and (b & 15 == 0 or b & 15 == 5 or b & 15 == 10)):
                continue
            if not looked:
                looked = True
                if _weaves(points, first, last):
                    free = False
                    break
            if _between(points, first, last, x, y):
                free = False
                break
        if not free:
            break
    for k in range(first, last + 1):
        corners[points[k, 1] - top, points[k, 0]] &= 255 - OWN
    return free


@njit(nogil=True)
def _keep(
    points: Ints, offsets: Longs, fixed: Bytes, twin: Bytes, corners: Bytes, top: int, tolerance: float, kept: Bytes
) -> None:
    """Marks the vertices that stay; `fixed` arcs stay whole, `twin` arcs share both nodes with another."""
    stack = [(0, 0, 0)]
    for a in range(len(offsets) - 1):
        first, last = offsets[a], offsets[a + 1] - 1
        if fixed[a]:
            kept[first : last + 1] = 1
            continue
        kept[first] = kept[last] = 1
        if last - first < 2:
            continue
        must = 1 if twin[a] else 0  # how many more times a stretch has to be divided whatever lies near
        if points[first, 0] == points[last, 0] and points[first, 1] == points[last, 1]:
            must = 2
        stack.append((first, last, must))
        while len(stack) > 1:
            first, last, must = stack.pop()
            if last - first < 2:
                continue
            middle, square = _farthest(points, first, last)
            if must == 0 and square <= tolerance * tolerance and _free(points, first, last, corners, top, tolerance):
                continue
            kept[middle] = 1
            more = max(must - 1, 0)
            stack.append((middle, last, more))
            stack.append((first, middle, more))


@njit(nogil=True)
def _compress(points: Ints, offsets: Longs, kept: Bytes, new_points: Ints, new_offsets: Longs, soft: Bytes) -> None:
    used = 0
    for a in range(len(offsets) - 1):
        new_offsets[a] = used
        for k in range(offsets[a], offsets[a + 1]):
            if kept[k]:
                new_points[used] = points[k]
                used += 1
        # A node in the middle of a straight edge may go only if the edge is still straight.
        begin = new_offsets[a]
        if new_points[begin, 0] != new_points[begin + 1, 0]:
            soft[a] &= 2
        if new_points[used - 2, 0] != new_points[used - 1, 0]:
            soft[a] &= 1
    new_offsets[len(offsets) - 1] = used


def simplify_arcs(arcs: Arcs, corners: Bytes, top: int, tolerance: float) -> Arcs:
    """The arcs of a band with fewer vertices, none farther than `tolerance` pixels from where the arc ran.

    Nodes stay; arcs beside nodata or outside stay whole. `corners` and `top` are those of `trace_band`.
    """
    if len(arcs.left) == 0:
        return arcs
    width = corners.shape[1]
    nodes = np.sort(np.column_stack([arcs.start // 4, arcs.end // 4]) - top * width, axis=1)
    _, which, times = np.unique(nodes[:, 0] * corners.size + nodes[:, 1], return_inverse=True, return_counts=True)
    # On a line between bands the twin may belong to the other band.
    row = nodes // width
    same_line = (row[:, 0] == row[:, 1]) & ((row[:, 0] == 0) | (row[:, 0] == corners.shape[0] - 1))
    twin = ((times[which] > 1) | same_line).astype(np.uint8)
    fixed = ((arcs.left < 0) | (arcs.right < 0)).astype(np.uint8)
    kept = np.zeros(len(arcs.points), np.uint8)
    _keep(arcs.points, arcs.offsets, fixed, twin, corners, top, tolerance, kept)
    points = np.empty((int(kept.sum()), 2), np.int32)
    offsets = np.empty_like(arcs.offsets)
    soft = arcs.soft.copy()
    _compress(arcs.points, arcs.offsets, kept, points, offsets, soft)
    return arcs._replace(points=points, offsets=offsets, soft=soft)
