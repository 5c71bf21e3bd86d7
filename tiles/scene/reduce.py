"""A layer at a coarser grid: area-weighted averages of the valid pixels under each coarse pixel.

Done here rather than by a warped view: a window's pixels depend on nothing but their place, and validity follows the
same rules as at full resolution (GDAL's warper would take near infrared tagged as alpha for a mask).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tiles.compiled import njit
from tiles.scene.window_reader import Layer, Pixels
from tiles.window import Window

_BATCH_BYTES = 32_000_000


@dataclass(frozen=True)
class Reduction:
    """Fine pixels per coarse pixel (down, across), both >= 1, over a fine raster of `fine` (rows, columns)."""

    fine: tuple[int, int]
    factors: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the coarse raster: it covers the fine one and ends less than a pixel beyond it."""
        rows, cols = (max(1, math.ceil(n / f - 1e-6)) for n, f in zip(self.fine, self.factors, strict=True))
        return rows, cols

    def under(self, window: Window) -> Window:
        """The fine pixels that a coarse window touches."""
        top, bottom = self._span(0, window.top, window.bottom)
        left, right = self._span(1, window.left, window.right)
        return Window(top, left, bottom - top, right - left)

    def _span(self, axis: int, first: int, end: int) -> tuple[int, int]:
        factor, length = self.factors[axis], self.fine[axis]
        return min(int(first * factor), length - 1), min(math.ceil(end * factor), length)


class ReducedLayer:
    """`base` seen through a `Reduction`."""

    def __init__(self, base: Layer, reduction: Reduction, shape: tuple[int, int] | None = None) -> None:
        self.base = base
        self.reduction = reduction
        self._shape = shape or reduction.shape

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts: that of the fine ones."""
        return self.base.dtype

    def cache_bytes(self, columns: int) -> int:
        """What the fine pixels under so many columns take: GDAL's cache, a batch of them and its averages."""
        return self.base.cache_bytes(math.ceil(columns * self.reduction.factors[1])) + 3 * _BATCH_BYTES

    def read(self, window: Window) -> Pixels:
        """Averages over the coarse window. A coarse pixel is valid where at least half of what it covers is."""
        parts = [self._averaged(part) for part in self._batches(window)]
        if len(parts) == 1:
            return parts[0]
        return Pixels(np.concatenate([p.values for p in parts], axis=1), np.concatenate([p.valid for p in parts]))

    def _batches(self, window: Window) -> list[Window]:
        """Rows in batches, so that a coarse strip never holds all its fine pixels at once."""
        bytes_a_row = window.width * self.reduction.factors[0] * self.reduction.factors[1] * self.dtype.itemsize * 3
        rows = max(1, int(_BATCH_BYTES / bytes_a_row))
        starts = range(window.top, window.bottom, rows)
        return [Window(top, window.left, min(rows, window.bottom - top), window.width) for top in starts]

    def _averaged(self, window: Window) -> Pixels:
        under = self.reduction.under(window)
        fine = self.base.read(under)
        down, across = self.reduction.factors
        row_edges = _edges(window.top, window.height, down, under.top, under.height)
        col_edges = _edges(window.left, window.width, across, under.left, under.width)
        means, valid = _average(fine.values, fine.valid, row_edges, col_edges)
        if self.dtype.kind != "f":
            np.rint(means, out=means)
        return Pixels(means.astype(self.dtype), valid)


def _edges(first: int, count: int, factor: float, start: int, length: int) -> npt.NDArray[np.float64]:
    """Borders of coarse pixels in fine pixels of the part that was read, shape (count + 1,)."""
    edges = np.arange(first, first + count + 1, dtype=np.float64) * factor
    near = np.rint(edges)
    edges = np.where(np.abs(edges - near) < 1e-6, near, edges)
    return np.clip(edges - start, 0.0, float(length))


@njit(nogil=True)
def _average(
    values: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    row_edges: npt.NDArray[np.float64],
    col_edges: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    bands = values.shape[0]
    rows, cols = len(row_edges) - 1, len(col_edges) - 1
    means = np.zeros((bands, rows, cols), dtype=np.float64)
    kept = np.zeros((rows, cols), dtype=np.bool_)
    sums = np.zeros(bands, dtype=np.float64)
    for i in range(rows):
        top, bottom = row_edges[i], row_edges[i + 1]
        for j in range(cols):
            left, right = col_edges[j], col_edges[j + 1]
            weight = 0.0
            sums[:] = 0.0
            for r in range(int(top), min(int(np.ceil(bottom)), valid.shape[0])):
                high = min(bottom, r + 1.0) - max(top, float(r))
                for c in range(int(left), min(int(np.ceil(right)), valid.shape[1])):
                    if valid[r, c]:
                        share = high * (min(right, c + 1.0) - max(left, float(c)))
                        weight += share
                        for b in range(bands):
                            sums[b] += share * values[b, r, c]
            if weight > 0.0 and 2.0 * weight >= (bottom - top) * (right - left) * (1.0 - 1e-9):
                kept[i, j] = True
                for b in range(bands):
                    means[b, i, j] = sums[b] / weight
    return means, kept
