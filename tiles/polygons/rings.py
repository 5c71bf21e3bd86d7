"""Arcs -> rings -> polygons, region by region, as soon as a region is complete.

Around a region every arc is followed with the region on the left. Where the region touches itself at a corner, the
way leads around the pixel that is not its own (the rightmost turn): so each ring is simple, and what is cut off is a
hole that touches another ring at a point, as the Simple Features standard wants it.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tiles.compiled import njit
from tiles.polygons.arcs import Arcs, Bytes, Floats, Ints, Longs
from tiles.polygons.scratch import scratch_array


class Halves(NamedTuple):
    """Arcs with a direction, each seen from one of its regions; arrays of shape (n,), grouped by region.

    `begin` and `size`: vertices in the arc store; `back`: whether to read them backwards; `leave` and `arrive`:
    node * 4 + direction; `soft`: as in `Arcs`, in this direction; `cross`, `length`: as in `measure_arcs`.
    """

    region: Ints
    begin: Longs
    size: Ints
    back: Bytes
    leave: Longs
    arrive: Longs
    soft: Bytes
    cross: Longs
    length: Floats


@njit(nogil=True)
def _slot(key: int, mask: int) -> np.int64:
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((h >> np.uint64(20)) & np.uint64(mask))


@njit(nogil=True)
def _link(leave: Longs, arrive: Longs, region: Ints, table: Ints, follow: Ints) -> None:
    """For each half arc the one that goes on from its end. `table` holds -1, its size is a power of two."""
    mask = len(table) - 1
    for h in range(len(leave)):
        s = _slot(leave[h], mask)
        while table[s] >= 0:
            s = (s + 1) & mask
        table[s] = h
    for h in range(len(leave)):
        node, d = arrive[h] >> 2, arrive[h] & 3
        for turn in (1, 0, 3):  # right, straight on, left
            key = node * 4 + ((d + turn) & 3)
            s = _slot(key, mask)
            found = -1
            while table[s] >= 0:
                if leave[table[s]] == key:
                    found = table[s]
                    break
                s = (s + 1) & mask
            if found >= 0 and region[found] == region[h]:
                follow[h] = found
                break


@njit(nogil=True)
def _walk(
    region: Ints, count: Ints, soft: Bytes, cross: Longs, follow: Ints, starts: Ints, sizes: Ints, areas: Longs
) -> int:
    """Rings in order of their first half arc: (that half arc, vertices, twice the area, negative for exteriors)."""
    seen = np.zeros(len(follow), np.uint8)
    rings = 0
    for h in range(len(follow)):
        if seen[h]:
            continue
        size, area, k, before = 0, np.int64(0), h, -1
        while not seen[k]:
            seen[k] = 1
            size += count[k] - 1
            area += cross[k]
            before = k
            k = follow[k]
            if soft[before] & 2 and soft[k] & 1:
                size -= 1
        starts[rings], sizes[rings], areas[rings] = h, size + 1, area
        rings += 1
    return rings


@njit(nogil=True)
def _fill(
    points: Ints,
    order: Longs,
    starts: Ints,
    sizes: Ints,
    begin: Longs,
    count: Ints,
    back: Bytes,
    soft: Bytes,
    follow: Ints,
    transform: Floats,
    out: Floats,
) -> None:
    """Coordinates of all rings, in `order`, each closed by its first vertex."""
    a, b, c, d, e, f = transform
    used = 0
    for ring in order:
        h = starts[ring]
        first = used
        before = -1
        k = h
        while True:  # the half arc before the first says whether the first vertex may go
            before = k
            k = follow[k]
            if k == h:
                break
        for _ in range(len(follow)):
            skip = 1 if soft[before] & 2 and soft[k] & 1 else 0
            for i in range(skip, count[k] - 1):
                at = begin[k] + (count[k] - 1 - i if back[k] else i)
                x, y = points[at, 0], points[at, 1]
                out[used, 0] = a * x + b * y + c
                out[used, 1] = d * x + e * y + f
                used += 1
            before = k
            k = follow[k]
            if k == h:
                break
        out[used] = out[first]
        used += 1


class Rings(NamedTuple):
    """Polygons as ragged arrays: see `shapely.from_ragged_array`; and by polygon pixels and metres."""

    xy: Floats
    ring_offsets: Longs
    polygon_offsets: Longs
    pixels: Floats
    length: Floats

    def part(self, polygons: slice) -> "Rings":
        """Some of the polygons, in a row; coordinates are not copied."""
        outer = self.polygon_offsets[polygons.start : polygons.stop + 1]
        inner = self.ring_offsets[outer[0] : outer[-1] + 1]
        return Rings(
            self.xy[inner[0] : inner[-1]],
            inner - inner[0],
            outer - outer[0],
            self.pixels[polygons],
            self.length[polygons],
        )


def assemble(halves: Halves, points: Ints, regions: int, transform: tuple[float, ...]) -> Rings:
    """Polygons of complete regions 0..regions-1, exteriors first, counter-clockwise on a north-up map.

    `transform` holds a, b, c, d, e, f of the affine map from (column, row) to coordinates.
    """
    n = len(halves.region)
    follow = np.empty(n, np.int32)
    table = np.full(1 << max(int(2 * n - 1).bit_length(), 1), -1, np.int32)
    _link(halves.leave, halves.arrive, halves.region, table, follow)
    starts, sizes, areas = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int64)
    rings = _walk(halves.region, halves.size, halves.soft, halves.cross, follow, starts, sizes, areas)
    starts, sizes, areas = starts[:rings], sizes[:rings], areas[:rings]
    owner = halves.region[starts]
    order = np.lexsort((np.arange(rings), areas > 0, owner))
    ring_offsets = np.concatenate([[0], np.cumsum(sizes[order], dtype=np.int64)])
    xy = np.empty((int(ring_offsets[-1]), 2))
    matrix = np.array(transform, np.float64)
    _fill(
        points,
        order,
        starts,
        sizes,
        halves.begin,
        halves.size,
        halves.back,
        halves.soft,
        follow,
        matrix,
        xy,
    )
    polygon_offsets = np.searchsorted(owner[order], np.arange(regions + 1)).astype(np.int64)
    pixels = np.bincount(owner, -areas / 2, regions)
    length = np.bincount(halves.region, halves.length, regions)
    return Rings(xy, ring_offsets, polygon_offsets, pixels.astype(np.float64), length.astype(np.float64))


@njit(nogil=True)
def _pack(points: Ints, begin: Longs, count: Ints, out: Ints) -> None:
    used = 0
    for a in range(len(begin)):
        n = count[a]
        out[used : used + n] = points[begin[a] : begin[a] + n]
        begin[a] = used
        used += n


def _empty_arcs() -> dict[str, npt.NDArray[Any]]:
    kinds: dict[str, type[np.generic]] = {
        "left": np.int32,
        "right": np.int32,
        "start": np.int64,
        "end": np.int64,
        "begin": np.int64,
        "count": np.int32,
        "soft": np.uint8,
        "cross": np.int64,
        "length": np.float64,
    }
    return {name: np.zeros(0, kind) for name, kind in kinds.items()}


@dataclass
class ArcStore:
    """Arcs that unfinished regions still need.

    Vertices lie in one array that is packed when half of it is no longer needed, and in a temporary file, mapped
    into memory, when they are more than `budget` bytes.
    """

    budget: int
    _arcs: dict[str, npt.NDArray[Any]] = field(default_factory=_empty_arcs)
    _points: Ints = field(default_factory=lambda: np.zeros((1024, 2), np.int32))
    _used: int = 0

    def add(self, arcs: Arcs, cross: Longs, length: Floats) -> None:
        """Takes the arcs of a band."""
        counts = np.diff(arcs.offsets)
        self._reserve(len(arcs.points))
        self._points[self._used : self._used + len(arcs.points)] = arcs.points
        more = {
            "left": arcs.left,
            "right": arcs.right,
            "start": arcs.start,
            "end": arcs.end,
            "begin": arcs.offsets[:-1] + self._used,
            "count": counts.astype(np.int32),
            "soft": arcs.soft,
            "cross": cross,
            "length": length,
        }
        self._used += len(arcs.points)
        self._arcs = {name: np.concatenate([values, more[name]]) for name, values in self._arcs.items()}

    def _reserve(self, extra: int) -> None:
        if self._used + extra <= len(self._points):
            return
        live = int(self._arcs["count"].sum())
        points = self._allocate(max(2 * (live + extra), 1024))
        _pack(self._points, self._arcs["begin"], self._arcs["count"], points)
        self._points, self._used = points, live

    def _allocate(self, rows: int) -> Ints:
        return scratch_array((rows, 2), np.int32, on_disk=rows * 8 > self.budget)

    def rename(self, numbers: Ints) -> None:
        """Gives the regions of all arcs new numbers: `numbers[old]`."""
        for name in ("left", "right"):
            side = self._arcs[name]
            self._arcs[name] = np.where(side >= 0, numbers[np.maximum(side, 0)], np.int32(-1)).astype(np.int32)

    def take(self, done: npt.NDArray[np.bool_]) -> tuple[Halves, Ints]:
        """Half arcs of the regions for which `done[number]`, grouped by region, and the vertices they point into.

        Arcs that no region needs any more are dropped; the vertices stay valid until the next `add`.
        """
        arcs = self._arcs
        left = np.flatnonzero(_chosen(arcs["left"], done))
        right = np.flatnonzero(_chosen(arcs["right"], done))
        region = np.concatenate([arcs["left"][left], arcs["right"][right]])
        order = np.argsort(region, kind="stable")
        both = np.concatenate([left, right])[order]
        back = np.repeat(np.array([0, 1], np.uint8), [len(left), len(right)])[order]
        soft = arcs["soft"][both]
        swapped = ((soft & 1) << 1 | soft >> 1).astype(np.uint8)
        leave, arrive = arcs["start"][both], arcs["end"][both]
        halves = Halves(
            region=region[order],
            begin=arcs["begin"][both],
            size=arcs["count"][both],
            back=back,
            leave=np.where(back, arrive ^ 2, leave),  # the opposite of direction d is d ^ 2
            arrive=np.where(back, leave ^ 2, arrive),
            soft=np.where(back, swapped, soft).astype(np.uint8),
            cross=np.where(back, -arcs["cross"][both], arcs["cross"][both]),
            length=arcs["length"][both],
        )
        arcs["left"][left] = -1
        arcs["right"][right] = -1
        needed = (arcs["left"] >= 0) | (arcs["right"] >= 0)
        self._arcs = {name: values[needed] for name, values in arcs.items()}
        return halves, self._points


def _chosen(side: npt.NDArray[Any], done: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.append(done, False)  # what index -1 (nodata) finds
    return np.asarray(padded[side], dtype=np.bool_)
