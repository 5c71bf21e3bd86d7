"""Blend overlapping class probabilities into finished strips.

Every chip is weighted with a separable Hann window; per axis the weights of all chips that use a pixel are divided
by their sum, so that the normalised weights sum to one and blending is a plain weighted sum. A pixel that only one
chip uses has weight one exactly. Floats are kept only where chips overlap: the tail of the chip on the left, and the
rows that the next chip row will touch. All else becomes class and confidence at once, one byte each.

Scores may lie in NumPy arrays or, on a GPU, in another library's; strips come in the same. For NumPy there is a
compiled loop, for all else `tiles.chips.blend_arrays`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tiles.chips import blend_arrays
from tiles.chips.arrays import namespace
from tiles.chips.grid import Axis, Block, ChipGrid
from tiles.compiled import njit
from tiles.legend import NODATA, Legend
from tiles.window import Window

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """What the network says of one chip.

    `probabilities` is float32 (classes, chip, chip), or None where no pixel of the chip is valid;
    `valid` is (chip, chip). Both are arrays of one kind; NumPy's here stand for any.
    """

    row: int
    col: int
    window: Window
    probabilities: Float32 | None
    valid: Mask


@dataclass(frozen=True)
class Strip:
    """Finished rows from `top` on, as wide as the scene or, where blending went block by block, as the block.

    `classes` and `confidence` (0-100) are uint8 (rows, width), 255 where the scene is not valid;
    `probabilities` (0-100) is uint8 (classes, rows, width) where it was asked for. All are of the scores' kind.

    `pairs`, int64 (classes, classes), is the seam audit of the chips that finished these rows: `pairs[a, b]` counts
    pixels where two chips meet that the earlier one gave to channel `a` and the later one to `b`, before blending.
    """

    top: int
    classes: Bytes
    confidence: Bytes
    probabilities: Bytes | None = None
    pairs: Pairs = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))


def axis_weights(axis: Axis) -> tuple[Float32, ...]:
    """Normalised weights of every chip along one axis, for the pixels `axis.used(i)` in turn.

    The window is a periodic Hann taken at pixel centres, sin^2(pi (i + 1/2) / chip), so it is never zero.
    """
    window = np.sin(np.pi * (np.arange(axis.chip) + 0.5) / axis.chip) ** 2
    total = np.zeros(axis.length)
    raw = []
    for index, start in enumerate(axis.starts):
        first, end = axis.used(index)
        raw.append(window[first - start : end - start])
        total[first:end] += raw[-1]
    return tuple((part / total[slice(*axis.used(index))]).astype(np.float32) for index, part in enumerate(raw))


def blend(
    scores: Iterable[Scores],
    grid: ChipGrid,
    legend: Legend,
    *,
    first_row: int = 0,
    block: Block | None = None,
    probabilities: bool = False,
) -> Iterator[Strip]:
    """Blend scores, which come in the grid's row-major order from chip row `first_row` on, into finished strips.

    With a `block`, scores are those of its chips and strips those of its columns; they hold the same bytes as the
    same columns of whole strips.

    A blend that starts at a later chip row gives the same strips as a whole one from the first row on that no
    earlier chip row touches (`grid.rows.used(first_row - 1)[1]`). Where two classes tie, the earlier channel
    wins. Memory: width x overlap x classes floats, where the scores are.
    """
    block = block or grid.whole
    canvas = None
    for score in scores:
        if canvas is None:
            canvas = _Canvas(grid, block, legend, first_row, probabilities, score.valid)
        canvas.add(score)
        if score.col == block.last - 1:
            yield canvas.finish_row(score.row)


class _Canvas:
    """The floats that are still open: below (the next chip row touches them) and tail (the next chip does)."""

    def __init__(
        self, grid: ChipGrid, block: Block, legend: Legend, first_row: int, probabilities: bool, like: Any
    ) -> None:
        self.grid = grid
        self.block = block
        self.xp, self.device = namespace(like), like.device
        self.blend_chip = _kernel_for(self.xp)
        # Everything small goes to the device before the first chip: a copy in between would wait for all work there.
        self.values = self._placed(legend.values)
        self.wy, self.wx = ([self._placed(w) for w in axis_weights(axis)] for axis in (grid.rows, grid.cols))
        self.keep_probabilities = probabilities
        self.nothing = self._full((len(legend), 0, 0), 0, self.xp.float32)
        self.above = self._full((len(legend), 0, block.width), 0, self.xp.float32)
        self.above_class = self._full((0, block.width))
        self._start_row(first_row)

    def _placed(self, array: npt.NDArray[Any]) -> Any:
        return self.xp.asarray(array, device=self.device)

    def _full(self, shape: tuple[int, ...], value: int = NODATA, dtype: Any = None) -> Any:
        return self.xp.full(shape, value, dtype=dtype or self.xp.uint8, device=self.device)

    def _empty(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        return self.xp.empty(shape, dtype=dtype or self.xp.uint8, device=self.device)

    def _start_row(self, row: int) -> None:
        (top, end), (_, settled) = self.grid.rows.used(row), self.grid.rows.settled(row)
        width, classes, floats = self.block.width, len(self.values), self.xp.float32
        self.below = self._full((classes, end - settled, width), 0, floats)
        self.below_class = self._full((end - settled, width))
        self.classes = self._full((settled - top, width))
        self.confidence = self._full((settled - top, width))
        self.probabilities = self._full((classes if self.keep_probabilities else 0, settled - top, width))
        self.tail = self._empty((classes, end - top, 0), floats)
        self.tail_class = self._empty((end - top, 0))
        self.pairs = self._full((classes, classes), 0, self.xp.int64)

    def add(self, score: Scores) -> None:
        """Weigh one chip in and settle the columns that no later chip of its row touches."""
        rows, cols = self.grid.rows, self.grid.cols
        (top, bottom), (left, right) = rows.used(score.row), cols.used(score.col)
        settled = cols.settled(score.col)[1]
        window = score.window
        opens, open_classes, classes, confidence, planes = self._open_pixels(left, settled, bottom - top)
        tail = self._empty((len(self.values), bottom - top, right - settled), self.xp.float32)
        tail_class = self._empty((bottom - top, right - settled))
        down = slice(top - window.top, bottom - window.top)
        across = slice(left - window.left, right - window.left)
        scored = score.probabilities
        self.blend_chip(
            self.nothing if scored is None else scored[:, down, across],
            score.valid[down, across],
            self.wy[score.row],
            self.wx[score.col],
            self.values,
            (self.tail, tail),
            (self.tail_class, tail_class),
            opens,
            open_classes,
            classes,
            confidence,
            planes,
            self.pairs,
        )
        self.tail, self.tail_class = tail, tail_class

    def _open_pixels(self, left: int, right: int, height: int) -> tuple[Any, ...]:
        """The arrays that columns `left..right` go to; throw-away ones for a chip before the block's own."""
        if left >= self.block.left:
            cols = slice(left - self.block.left, right - self.block.left)
            return (
                (self.above[:, :, cols], self.below[:, :, cols]),
                (self.above_class[:, cols], self.below_class[:, cols]),
                self.classes[:, cols],
                self.confidence[:, cols],
                self.probabilities[:, :, cols],
            )
        width, settled = right - left, self.classes.shape[0]
        classes, floats = len(self.values), self.xp.float32
        return (
            (self._empty((classes, 0, width), floats), self._empty((classes, height - settled, width), floats)),
            (self._empty((0, width)), self._empty((height - settled, width))),
            self._empty((settled, width)),
            self._empty((settled, width)),
            self._empty((0, settled, width)),
        )

    def finish_row(self, row: int) -> Strip:
        """The finished strip of chip row `row`; what is open below it is kept for the next."""
        strip = Strip(
            self.grid.rows.used(row)[0],
            self.classes,
            self.confidence,
            self.probabilities if self.keep_probabilities else None,
            self.pairs,
        )
        self.above, self.above_class = self.below, self.below_class
        if row + 1 < len(self.grid.rows.starts):
            self._start_row(row + 1)
        return strip


def _kernel_for(xp: Any) -> Callable[..., None]:
    return _blend_chip if xp is np else blend_arrays.blend_chip


@njit(nogil=True, boundscheck=False)
def _blend_chip(
    scored: Any,
    valid: Any,
    wy: Any,
    wx: Any,
    values: Any,
    tails: Any,
    tail_classes: Any,
    opens: Any,
    open_classes: Any,
    classes: Any,
    confidence: Any,
    probabilities: Any,
    pairs: Any,
) -> None:
    """One chip, row by row: a row of all classes stays in the first-level cache."""
    height, width = valid.shape
    n = values.size
    old_tail, new_tail = tails
    old_tail_class, new_tail_class = tail_classes
    above, below = opens
    above_class, below_class = open_classes
    settled_rows = classes.shape[0]
    settled = classes.shape[1]
    has_scores = scored.shape[1] > 0
    row = np.empty((n, width), dtype=np.float32)
    best = np.empty(width, dtype=np.float32)
    chosen = np.empty(width, dtype=np.uint8)
    own = np.empty(width, dtype=np.uint8)
    for y in range(height):
        own[:] = 255
        if has_scores:
            for c in range(n):
                for x in range(width):
                    row[c, x] = scored[c, y, x]
            _argmax(row, best, own, width)
            for x in range(width):
                if not valid[y, x]:
                    own[x] = 255
            for c in range(n):
                for x in range(width):
                    row[c, x] *= wy[y] * wx[x]
        else:
            row[:, :] = 0.0
        for c in range(n):
            for x in range(old_tail.shape[2]):
                row[c, x] += old_tail[c, y, x]
        _count_pairs(old_tail_class[y], own, old_tail.shape[2], pairs)
        for c in range(n):
            for x in range(settled, width):
                new_tail[c, y, x - settled] = row[c, x]
        # Where three chips share a column the later one speaks for the audit, unless it has nothing to say.
        for x in range(old_tail.shape[2]):
            if own[x] == 255:
                own[x] = old_tail_class[y, x]
        for x in range(settled, width):
            new_tail_class[y, x - settled] = own[x]
        if y < above.shape[1]:
            for c in range(n):
                for x in range(settled):
                    row[c, x] += above[c, y, x]
            _count_pairs(above_class[y], own, settled, pairs)
            for x in range(settled):
                if own[x] == 255:
                    own[x] = above_class[y, x]
        if y >= settled_rows:
            for c in range(n):
                for x in range(settled):
                    below[c, y - settled_rows, x] = row[c, x]
            for x in range(settled):
                below_class[y - settled_rows, x] = own[x]
            continue
        _argmax(row, best, chosen, settled)
        for x in range(settled):
            if valid[y, x]:
                classes[y, x] = values[chosen[x]]
                confidence[y, x] = np.uint8(min(best[x] * np.float32(100.0) + np.float32(0.5), np.float32(100.0)))
        for c in range(probabilities.shape[0]):
            for x in range(settled):
                if valid[y, x]:
                    share = row[c, x] * np.float32(100.0) + np.float32(0.5)
                    probabilities[c, y, x] = np.uint8(min(share, np.float32(100.0)))


@njit(nogil=True, inline="always")
def _argmax(row: Any, best: Any, chosen: Any, width: int) -> None:
    """Largest of row[:, x] and its index, the first where several are equal."""
    for x in range(width):
        best[x] = row[0, x]
        chosen[x] = 0
    for c in range(1, row.shape[0]):
        for x in range(width):
            if row[c, x] > best[x]:
                best[x] = row[c, x]
                chosen[x] = c


@njit(nogil=True, inline="always")
def _count_pairs(earlier: Any, later: Any, width: int, pairs: Any) -> None:
    for x in range(width):
        if earlier[x] != 255 and later[x] != 255:
            pairs[earlier[x], later[x]] += 1
