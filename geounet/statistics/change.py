"""What became what between two maps of one place.

The finer map is brought to the grid of the coarser one: a pixel there has the class that most of it has. Two maps are
never registered to a fraction of a pixel, and a border that lies a pixel further is no change of the land: a change is
kept only where it cannot be a shift, which is where the new class was not within `tolerance` pixels before, or the old
one is not within that distance any more.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from geounet.errors import StatisticsError
from geounet.statistics.grids import Aligned, aligned
from tiles.georef import Georef
from tiles.legend import NODATA, LandClass, Legend

Bytes = npt.NDArray[np.uint8]

UNCHANGED = 0
"""Value of pixels that are what they were."""
_MOST_CLASSES = 16
_STRIP_ROWS = 512


@dataclass(frozen=True)
class ChangeRules:
    """What counts as change: the shift in pixels that is forgiven, and how sure it must be (0-1)."""

    tolerance: int = 1
    confidence: float = 0.0


@dataclass(frozen=True)
class ChangeStrip:
    """Rows of change: codes of `change_legend` (0 unchanged, 255 nodata), confidence 0-100 (255 unknown)."""

    top: int
    codes: Bytes
    confidence: Bytes


@dataclass(frozen=True)
class Change:
    """Two maps on one grid, ready to be compared strip by strip."""

    georef: Georef
    before: Legend
    after: Legend
    legend: Legend
    resampled: str | None
    _maps: tuple[Aligned, Aligned]
    _rules: ChangeRules

    def strips(self, totals: "Totals | None" = None) -> Iterator[ChangeStrip]:
        """The changes from top to bottom; `totals` counts them on the way. Raises SceneError as reading does."""
        rows = self.georef.shape[0]
        halo = self._rules.tolerance
        for top in range(0, rows, _STRIP_ROWS):
            bottom = min(top + _STRIP_ROWS, rows)
            first, last = max(top - halo, 0), min(bottom + halo, rows)
            (old, sure_old), (new, sure_new) = (m.rows(first, last) for m in self._maps)
            codes = np.empty(old.shape, np.uint8)
            table = code_table(len(self.before), len(self.after), same_names(self.before, self.after))
            compare_pixels(old, new, table, halo, codes)
            confidence = _both(sure_old, sure_new)
            if self._rules.confidence > 0:
                unsure = (confidence <= 100) & (confidence < math.ceil(100 * self._rules.confidence))
                codes[(codes != NODATA) & unsure] = UNCHANGED
            kept = slice(top - first, bottom - first)
            strip = ChangeStrip(top, codes[kept], confidence[kept])
            if totals is not None:
                totals.add(strip, old[kept], new[kept])
            yield strip


@dataclass(frozen=True)
class Totals:
    """Square metres by class before (rows) and after (columns), filled while the strips pass.

    `as_mapped` is what the two maps say, `kept` what the rules leave: a pixel whose change was forgiven stays what it
    was.
    """

    georef: Georef
    same: npt.NDArray[np.intp]
    as_mapped: npt.NDArray[np.float64]
    kept: npt.NDArray[np.float64]

    @classmethod
    def of(cls, change: Change) -> "Totals":
        """Nothing counted yet."""
        shape = (len(change.before), len(change.after))
        return cls(change.georef, same_names(change.before, change.after), np.zeros(shape), np.zeros(shape))

    def add(self, strip: ChangeStrip, old: Bytes, new: Bytes) -> None:
        """Count a strip; `old` and `new` are the places of the classes in their legends, 255 for nodata."""
        weight = self._weights(strip)
        known = (old != NODATA) & (new != NODATA)
        was, now = old[known].astype(np.intp), new[known].astype(np.intp)
        stayed = np.where(self.same[was] >= 0, self.same[was], now)
        _add(self.as_mapped, was, now, weight[known])
        _add(self.kept, was, np.where(strip.codes[known] == UNCHANGED, stayed, now), weight[known])

    def changed(self, matrix: npt.NDArray[np.float64]) -> float:
        """Square metres of `matrix` that are another class afterwards."""
        stayed = sum(matrix[old, new] for old, new in enumerate(self.same) if new >= 0)
        return float(matrix.sum() - stayed)

    def _weights(self, strip: ChangeStrip) -> npt.NDArray[np.float64]:
        """Square metres of each pixel: those of the pixel at the middle of its 64 columns."""
        rows, columns = strip.codes.shape
        middle = np.minimum(np.arange(32, columns + 32, 64), columns)
        areas = self.georef.pixel_area_m2(middle, np.full(len(middle), strip.top + rows / 2))
        return np.broadcast_to(np.repeat(areas, 64)[:columns], strip.codes.shape)


def _add(matrix: npt.NDArray[np.float64], rows: Any, columns: Any, weight: Any) -> None:
    width = matrix.shape[1]
    matrix += np.bincount(rows * width + columns, weight, matrix.size).reshape(matrix.shape)


def change_legend(before: Legend, after: Legend) -> Legend:
    """`unchanged`, then `tree -> building` for every pair of classes that differ, in the colour of what came.

    Raises StatisticsError where there are too many classes for one byte.
    """
    if max(len(before), len(after)) > _MOST_CLASSES:
        raise StatisticsError(f"maps of more than {_MOST_CLASSES} classes have too many kinds of change for a raster")
    classes = [LandClass(UNCHANGED, "unchanged", (238, 238, 238))]
    for old in before.classes:
        for new in after.classes:
            if new.name != old.name:
                classes.append(LandClass(len(classes), f"{old.name} -> {new.name}", new.color))
    if len(classes) > NODATA:
        raise StatisticsError(f"{len(classes)} kinds of change are too many for a raster: merge classes first")
    return Legend(tuple(classes))


def code_table(before: int, after: int, same: npt.NDArray[np.intp]) -> Bytes:
    """The value of a pair (place before, place after) in `change_legend`, (before, after)."""
    table = np.zeros((before, after), np.uint8)
    code = 0
    for old in range(before):
        for new in range(after):
            if same[old] != new:
                code += 1
                table[old, new] = code
    return table


def same_names(before: Legend, after: Legend) -> npt.NDArray[np.intp]:
    """For each class before, the place of the class of its name after; -1 where there is none."""
    places = {c.name: i for i, c in enumerate(after.classes)}
    return np.array([places.get(c.name, -1) for c in before.classes], np.intp)


def _both(one: Bytes, other: Bytes) -> Bytes:
    """The probability that both maps are right, as if they erred independently; unknown where either is."""
    product = np.rint(one.astype(np.float64) * other / 100)
    return np.where((one <= 100) & (other <= 100), product, NODATA).astype(np.uint8)


@numba.njit(cache=True, nogil=True)
def compare_pixels(old: Any, new: Any, table: Any, tolerance: int, codes: Any) -> None:
    """Fill `codes` from the places of classes before and after (255: nodata), all (rows, columns), by `code_table`."""
    rows, columns = old.shape
    for y in range(rows):
        for x in range(columns):
            was, now = old[y, x], new[y, x]
            if was == 255 or now == 255:
                codes[y, x] = 255
                continue
            codes[y, x] = table[was, now]
            if table[was, now] == 0 or tolerance == 0:
                continue
            before = after = False
            for v in range(max(y - tolerance, 0), min(y + tolerance + 1, rows)):
                for u in range(max(x - tolerance, 0), min(x + tolerance + 1, columns)):
                    # Classes are compared by their pair: `table` is 0 where a class stayed what it was.
                    if old[v, u] != 255 and table[old[v, u], now] == 0:
                        before = True
                    if new[v, u] != 255 and table[was, new[v, u]] == 0:
                        after = True
            if before and after:
                codes[y, x] = 0


@contextmanager
def compare(one: Path, other: Path, rules: ChangeRules) -> Iterator[Change]:
    """Two maps, the earlier one first, as `Change`. Raises StatisticsError where they do not lie on each other."""
    with aligned(one, other) as (maps, georef, resampled):
        before, after = maps[0].legend, maps[1].legend
        legend = change_legend(before, after)
        if not set(before.names) & set(after.names):
            names = f"{', '.join(before.names)} and {', '.join(after.names)}"
            raise StatisticsError(f"{one} and {other} have no class in common: {names}")
        yield Change(georef, before, after, legend, resampled, maps, rules)
