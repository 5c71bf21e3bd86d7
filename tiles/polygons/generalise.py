"""Merging regions below a mapping unit into their neighbours, before anything is traced.

The rule. Small is what has less area than the mapping unit. A small region that is smaller than every small neighbour
(by area, then by first pixel) takes the class it shares the longest boundary with - ties by the pixel edge that comes
first - and becomes one region with all its neighbours of that class; never nodata. This happens in rounds until no
small region is left but islands with nothing but nodata around them.

Why rounds need not be carried out. While a region waits for its turn none of its neighbours changes class (the small
ones are larger than it and wait for it), so what it will choose is fixed; and two regions whose turn it is are no
neighbours, so either may go first. The outcome is therefore the same for every order in which it is their turn. That
is what allows to work from top to bottom with a heap, and what makes the result independent of the strips.

A region whose turn depends on one that may still grow below waits, with all rows from its first on.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tiles.compiled import njit
from tiles.polygons.blocks import Band, Bytes, Codes, Kind, Rows, bands, nodata_of
from tiles.polygons.measure import PixelMetric
from tiles.polygons.regions import Ints, Longs, find, label_band, measure_regions, relabel
from tiles.polygons.scratch import scratch_array

_COMPACT_AT = 1 << 18


class _Book(NamedTuple):
    """What is known of regions by id, arrays of shape (ids,), and their boundaries as linked lists.

    `parent`: union-find; `area`, `first`, `value`: area in fixed point, first pixel, class; `open`: has pixels in the
    last row seen; `head`, `tail`: first and last boundary of a small region, -1 for none.
    Boundaries, arrays of shape (boundaries,): the neighbour's id, length in pixel edges, first edge, next in the list.
    """

    parent: Ints
    area: Longs
    first: Longs
    value: Codes
    open: Bytes
    head: Ints
    tail: Ints
    neighbour: Ints
    shared: Ints
    edge: Longs
    following: Ints


@njit(nogil=True)
def _count_boundaries(labels: Ints, small: Bytes) -> int:
    count = 0
    for r in range(1, labels.shape[0] - 1):
        for c in range(1, labels.shape[1] - 1):
            a = labels[r, c]
            if a < 0:
                continue
            for b in (labels[r, c - 1], labels[r - 1, c]):
                if b >= 0 and b != a:
                    count += small[a]
                    count += small[b]
    return count


@njit(nogil=True)
def _add_boundary(book: _Book, used: int, a: int, b: int, edge: int) -> int:
    last = book.tail[a]
    # A straight boundary adds to what was written for its previous pixel edge.
    if last >= 0 and book.neighbour[last] == b and last >= used - 2:
        book.shared[last] += 1
        return used
    book.neighbour[used], book.shared[used], book.edge[used], book.following[used] = b, 1, edge, -1
    if last >= 0:
        book.following[last] = used
    else:
        book.head[a] = used
    book.tail[a] = used
    return used + 1


@njit(nogil=True)
def _collect_boundaries(labels: Ints, small: Bytes, top: int, book: _Book, used: int) -> int:
    """Notes for small regions what they touch, each pixel edge once from either side; labels are ids."""
    width = labels.shape[1] - 2
    for r in range(1, labels.shape[0] - 1):
        for c in range(1, width + 1):
            a = labels[r, c]
            if a < 0:
                continue
            edge = ((top + r - 1) * width + c - 1) * 2
            for side in range(2):
                b = labels[r, c - 1] if side == 0 else labels[r - 1, c]
                if b >= 0 and b != a:
                    if small[a]:
                        used = _add_boundary(book, used, a, b, edge + side)
                    if small[b]:
                        used = _add_boundary(book, used, b, a, edge + side)
    return used


# The heap takes the two arrays it needs: handing over the whole book costs more than the comparison.


@njit(nogil=True, inline="always")
def _before(area: Longs, first: Longs, a: int, b: int) -> bool:
    """Whether it is the turn of small region `a` before that of small region `b`."""
    return bool(area[a] < area[b] or (area[a] == area[b] and first[a] < first[b]))


@njit(nogil=True)
def _push(heap: Ints, size: int, item: int, area: Longs, first: Longs) -> int:
    i = size
    while i > 0 and _before(area, first, item, heap[(i - 1) // 2]):
        heap[i] = heap[(i - 1) // 2]
        i = (i - 1) // 2
    heap[i] = item
    return size + 1


@njit(nogil=True)
def _pop(heap: Ints, size: int, area: Longs, first: Longs) -> int:
    """Takes the first out of a heap of `size`; the heap then holds one less."""
    top, item = int(heap[0]), heap[size - 1]
    i = 0
    while 2 * i + 1 < size - 1:
        child = 2 * i + 1
        if child + 1 < size - 1 and _before(area, first, heap[child + 1], heap[child]):
            child += 1
        if not _before(area, first, heap[child], item):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = item
    return top


@njit(nogil=True)
def _choose(book: _Book, region: int, small_below: int, shared: Longs, edges: Longs) -> int:
    """The class a region goes to; -1 if it is not its turn, -2 if it has no neighbour. Work arrays by class."""
    shared[:] = 0
    best, most = -2, 0
    k = book.head[region]
    while k >= 0:
        n = find(book.parent, book.neighbour[k])
        if n != region:
            if book.area[n] < small_below and _before(book.area, book.first, n, region):
                return -1
            v = book.value[n]
            if shared[v] == 0 or book.edge[k] < edges[v]:
                edges[v] = book.edge[k]
            shared[v] += book.shared[k]
            best, most = v, max(most, v)
        k = book.following[k]
    if best >= 0:
        for v in range(most + 1):
            if shared[v] > shared[best] or (shared[v] > 0 and shared[v] == shared[best] and edges[v] < edges[best]):
                best = v
    return best


@njit(nogil=True)
def _join(book: _Book, region: int, value: int) -> int:
    """Makes a region one with all its neighbours of class `value`; returns the id of the whole."""
    root = region
    k = book.head[region]
    last = book.tail[region]
    while k >= 0:
        n = find(book.parent, book.neighbour[k])
        if n != root and book.value[n] == value:
            book.parent[n] = root
            book.area[root] += book.area[n]
            book.first[root] = min(book.first[root], book.first[n])
            book.open[root] |= book.open[n]
            if book.head[n] >= 0:
                book.following[book.tail[root]] = book.head[n]
                book.tail[root] = book.tail[n]
                book.head[n] = book.tail[n] = -1
        if k == last:  # what follows was a neighbour's
            break
        k = book.following[k]
    book.value[root] = value
    return root


@njit(nogil=True)
def _merge(book: _Book, waiting: Ints, small_below: int) -> int:
    """Merges every small region whose turn comes; `waiting` holds complete small regions, and in the end those left.

    Returns how many are left. A region's area changes only while it is out of the heap, so the heap stays in order.
    """
    classes = 1 << 8 * book.value.itemsize
    shared, edges = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    heap, area, first = np.empty(len(waiting), np.int32), book.area, book.first
    size, left = 0, 0
    for region in waiting:
        size = _push(heap, size, region, area, first)
    while size > 0:
        region = _pop(heap, size, area, first)
        size -= 1
        if book.parent[region] != region:
            continue
        value = _choose(book, region, small_below, shared, edges)
        if value == -1:
            waiting[left] = region
            left += 1
        elif value >= 0:
            _join(book, region, value)
            if book.area[region] < small_below and not book.open[region]:
                size = _push(heap, size, region, area, first)
    return left


@njit(nogil=True)
def _repack(book: _Book, regions: Ints, neighbour: Ints, shared: Ints, edge: Longs, following: Ints) -> int:
    """Copies the boundaries of `regions` alone into fresh arrays; returns how many there are."""
    used = 0
    for region in regions:
        k = book.head[region]
        if k < 0:
            continue
        book.head[region] = used
        while k >= 0:
            neighbour[used], shared[used], edge[used] = (
                find(book.parent, book.neighbour[k]),
                book.shared[k],
                book.edge[k],
            )
            following[used] = used + 1
            used += 1
            k = book.following[k]
        following[used - 1] = -1
        book.tail[region] = used - 1
    return used


@njit(nogil=True)
def _boundary_count(book: _Book, regions: Ints) -> int:
    count = 0
    for region in regions:
        k = book.head[region]
        while k >= 0:
            count += 1
            k = book.following[k]
    return count


@njit(nogil=True)
def _join_above(book: _Book, ids: Ints, numbers: Ints, lookup: Ints) -> None:
    """Makes regions from above one where the band joins them; fills `lookup[number]` with their ids."""
    for i in range(len(ids)):
        region, other = ids[i], lookup[numbers[i]]
        if other < 0:
            lookup[numbers[i]] = region
            continue
        book.parent[region] = other
        book.area[other] += book.area[region]
        book.first[other] = min(book.first[other], book.first[region])
        if book.head[region] >= 0:
            if book.head[other] >= 0:
                book.following[book.tail[other]] = book.head[region]
            else:
                book.head[other] = book.head[region]
            book.tail[other] = book.tail[region]
            book.head[region] = book.tail[region] = -1


@njit(nogil=True)
def _paint(labels: Ints, first: int, last: int, parent: Ints, value: Codes, out: Codes) -> None:
    """Classes of rows first..last of a framed band of ids."""
    for r in range(first, last):
        for c in range(out.shape[1]):
            label = labels[r + 1, c + 1]
            if label >= 0:
                out[r - first, c] = value[find(parent, label)]


@njit(nogil=True)
def _mark(labels: Ints, used: Bytes) -> None:
    for r in range(1, labels.shape[0] - 1):
        for c in range(1, labels.shape[1] - 1):
            if labels[r, c] >= 0:
                used[labels[r, c]] = 1


@dataclass
class _Pending:
    """A labelled band (ids, framed) whose rows from `given` on have not been given out."""

    labels: Ints
    confidence: Bytes
    top: int
    given: int = 0

    def forget_given(self) -> None:
        """Lets go of rows that were given out, where that is worth a copy."""
        if 2 * self.given > len(self.confidence):
            self.labels = self.labels[self.given :].copy()
            self.confidence = self.confidence[self.given :].copy()
            self.top, self.given = self.top + self.given, 0


class _Merger:
    """Carries the book from band to band."""

    def __init__(
        self, shape: tuple[int, int], metric: PixelMetric, min_area_m2: float, budget: int, kind: Kind
    ) -> None:
        self._kind = kind
        self._shape = shape
        self._metric = metric
        self._small_below = round(min_area_m2 * metric.fixed_point)
        self._budget = budget
        self._book = _empty_book(kind)
        self._ids = 0
        self._boundaries = 0
        self._frontier = np.zeros(0, np.int32)
        self._last_row = np.full(shape[1] + 2, -1, np.int32)
        self._unsettled = np.zeros(0, np.int32)
        self._pending: list[_Pending] = []

    def take(self, band: Band) -> Iterator[Rows]:
        """Adds a band; gives out the rows that are settled."""
        labels, fresh = self._label(band)
        self._pending.append(_Pending(labels, band.confidence, band.top))
        self._note_boundaries(labels, band.top)
        self._book.open[self._frontier] = 0
        self._last_row = labels[-2].copy()
        self._find_frontier(is_last=band.is_last)
        self._merge(np.concatenate([self._unsettled, fresh]))
        self._find_frontier(is_last=band.is_last)
        yield from self._settled(self._shape[0] if band.is_last else band.top + len(band.confidence))
        self._tidy()

    def _label(self, band: Band) -> tuple[Ints, Ints]:
        """Ids of a band's pixels, framed, and the ids that are new in it."""
        waiting = sum(p.labels.nbytes + p.confidence.nbytes for p in self._pending)
        labels = scratch_array(band.pixels.shape, np.int32, on_disk=waiting > self._budget)
        labels[0] = np.where(self._last_row >= 0, np.searchsorted(self._frontier, self._last_row), -1)
        labels[-1], labels[:, 0], labels[:, -1] = -1, -1, -1
        numbers, count = label_band(band.pixels, labels, len(self._frontier))
        integers, area = np.zeros((count, 5), np.int64), np.zeros(count, np.int64)
        integers[:, 3] = np.iinfo(np.int64).max
        where = (self._metric.areas, *self._metric.step, self._metric.fixed_point)
        measure_regions(band.pixels, labels, band.confidence, band.top, *where, integers, area)
        lookup = np.full(count, -1, np.int32)
        _join_above(self._book, self._frontier, numbers, lookup)
        old, new = np.flatnonzero(lookup >= 0), np.flatnonzero(lookup < 0)
        self._book.area[lookup[old]] += area[old]
        fresh = self._add_ids(area[new], integers[new])
        lookup[new] = fresh
        relabel(labels[:-1], lookup)
        return labels, fresh

    def _add_ids(self, area: Longs, integers: Longs) -> Ints:
        ids = np.arange(self._ids, self._ids + len(area), dtype=np.int32)
        self._ids += len(area)
        book = self._book = _Book._make([*(_with_room(v, self._ids) for v in self._book[:7]), *self._book[7:]])
        book.parent[ids], book.area[ids], book.first[ids], book.value[ids] = ids, area, integers[:, 3], integers[:, 4]
        book.open[ids], book.head[ids], book.tail[ids] = 0, -1, -1
        return ids

    def _note_boundaries(self, labels: Ints, top: int) -> None:
        small = (self._book.area[: self._ids] < self._small_below).astype(np.uint8)
        room = self._boundaries + _count_boundaries(labels, small)
        self._book = _Book._make([*self._book[:7], *(_with_room(v, room) for v in self._book[7:])])
        self._boundaries = _collect_boundaries(labels, small, top, self._book, self._boundaries)

    def _find_frontier(self, *, is_last: bool) -> None:
        """Which regions have a pixel in the last row; `open` says so too."""
        there = self._last_row >= 0
        self._last_row[there] = _roots(self._book.parent, self._last_row[there])
        self._frontier = np.unique(self._last_row[there])
        self._book.open[self._frontier] = 0 if is_last else 1

    def _merge(self, candidates: Ints) -> None:
        book = self._book
        small = candidates[(book.parent[candidates] == candidates) & (book.area[candidates] < self._small_below)]
        waiting = small[book.open[small] == 0]
        left = _merge(book, waiting, self._small_below)
        grown = small[(book.parent[small] == small) & (book.area[small] < self._small_below) & (book.open[small] == 1)]
        self._unsettled = np.concatenate([waiting[:left], grown])

    def _settled(self, seen: int) -> Iterator[Rows]:
        """Rows above the first that an unsettled region touches; `seen` is the number of rows seen."""
        limit = seen
        if len(self._unsettled):
            limit = int(self._book.first[self._unsettled].min()) // self._shape[1]
        for part in self._pending:
            first, last = part.given, min(limit - part.top, len(part.confidence))
            if last > first:
                classes = np.full((last - first, self._shape[1]), nodata_of(self._kind), self._kind)
                _paint(part.labels, first, last, self._book.parent, self._book.value, classes)
                part.given = last
                yield classes, part.confidence[first:last]
        self._pending = [part for part in self._pending if part.given < len(part.confidence)]

    def _tidy(self) -> None:
        """Forgets boundaries and ids that nothing needs any more, and rows that were given out."""
        for part in self._pending:
            part.forget_given()
        book = self._book
        count = _boundary_count(book, self._unsettled)
        lists = tuple(np.empty(max(count, 1024), values.dtype) for values in book[7:])
        self._boundaries = _repack(book, self._unsettled, *lists)
        settled = np.ones(len(book.head), np.bool_)
        settled[self._unsettled] = False
        book.head[settled] = book.tail[settled] = -1
        self._book = _Book._make([*book[:7], *lists])
        if self._ids > _COMPACT_AT:
            self._compact()

    def _compact(self) -> None:
        book = self._book
        roots = _roots(book.parent, np.arange(self._ids, dtype=np.int32))
        used = np.zeros(self._ids, np.uint8)
        for part in self._pending:
            _mark(part.labels, used)
        used[roots[used == 1]] = 1
        for kept in (self._frontier, self._unsettled, book.neighbour[: self._boundaries]):
            used[kept] = 1
        is_root = (used == 1) & (roots == np.arange(self._ids))
        new = (np.cumsum(is_root) - 1).astype(np.int32)
        lookup = new[roots]  # of ids in use; the others are never looked up
        for part in self._pending:
            relabel(part.labels[1:-1], lookup)
        relabel(self._last_row[None], lookup)
        self._frontier, self._unsettled = lookup[self._frontier], lookup[self._unsettled]
        book.neighbour[: self._boundaries] = lookup[book.neighbour[: self._boundaries]]
        self._ids = int(is_root.sum())
        kept_values = tuple(values[: len(is_root)][is_root] for values in book[:7])
        self._book = _Book._make([*kept_values, *book[7:]])
        self._book.parent[:] = np.arange(self._ids)


@njit(nogil=True)
def _roots(parent: Ints, items: Ints) -> Ints:
    out = np.empty_like(items)
    for i in range(len(items)):
        out[i] = find(parent, items[i])
    return out


def _empty_book(kind: Kind) -> _Book:
    kinds = (
        np.int32,
        np.int64,
        np.int64,
        kind,
        np.uint8,
        np.int32,
        np.int32,
        np.int32,
        np.int32,
        np.int64,
        np.int32,
    )
    return _Book._make(np.zeros(0, kind) for kind in kinds)


def _with_room(values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    if count <= len(values):
        return values
    larger = np.empty(max(count, 2 * len(values)), values.dtype)
    larger[: len(values)] = values
    return larger


def merge_small_regions(
    rows: Iterable[Rows],
    shape: tuple[int, int],
    metric: PixelMetric,
    min_area_m2: float,
    height: int,
    *,
    budget: int,
    kind: Kind = np.uint8,
) -> Iterator[Rows]:
    """(classes, confidence) strips without regions below `min_area_m2` square metres, islands in nodata excepted.

    Confidence passes unchanged. Works in bands of `height` rows and gives out strips of any height; rows that wait
    for a region to end live on disk when they are more than `budget` bytes.
    """
    merger = _Merger(shape, metric, min_area_m2, budget, kind)
    for band in bands(rows, shape, height, kind):
        yield from merger.take(band)
