"""The pixels that corrections speak for."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import rasterize

from geounet.correction.read import Corrections
from geounet.errors import CorrectionError
from tiles.scene.scene import Scene
from tiles.window import Window

Index = npt.NDArray[np.int64]

AROUND = 1
"""Pixels on each side of a point that it speaks for too: 3 x 3, a click's own reach. Chosen, not measured."""
MOST_PIXELS = 100
"""Pixels that are taken of one line or polygon, spread evenly."""
_LARGE = 4_000_000
"""Pixels of a box beyond which a polygon is looked at on a coarser grid, so that memory stays small."""
MOST_WEIGHT = 4.0
"""What the largest polygon weighs against a point: its pixels are no independent witnesses."""


@dataclass(frozen=True)
class CorrectedPixels:
    """Pixels (n,) on the map's grid: place, index of the class, weight, and which correction each speaks for."""

    rows: Index
    cols: Index
    target: Index
    weight: npt.NDArray[np.float64]
    correction: Index

    def __len__(self) -> int:
        return len(self.rows)


def pixels_of(corrections: Corrections, scene: Scene) -> CorrectedPixels:
    """The valid pixels of every correction, each correction's weights adding up to 1 for a point, at most 4 for more.

    Raises CorrectionError where one lies on nodata only, or two of different classes on one pixel.
    """
    shape = scene.georef.shape
    found = []
    claims: dict[tuple[int, int], int] = {}
    for number, geometry in enumerate(corrections.shapes):
        centre, rows, cols = _pixels(geometry, shape)
        if centre:
            _claim(corrections, claims, number, rows[0], cols[0])
        total = 1.0 if centre else min(MOST_WEIGHT, max(1.0, np.sqrt(len(rows) / 9)))
        rows, cols = _thinned(rows, cols, 4 * MOST_PIXELS)
        valid = _valid(scene, rows, cols)
        if not valid.any() or (centre and not valid[0]):
            what = f"correction {number + 1} ({_name(corrections, number)})"
            raise CorrectionError(f"{corrections.source}: {what} lies on nodata: remove it")
        rows, cols = _thinned(rows[valid], cols[valid], MOST_PIXELS)
        target = np.full(len(rows), corrections.target[number])
        weight = np.full(len(rows), total / len(rows))
        found.append((rows, cols, target, weight, np.full(len(rows), number)))
    parts = zip(*found, strict=True) if found else [[np.empty(0, np.int64)]] * 5
    rows, cols, target, weights, number_of = (np.concatenate(list(part)) for part in parts)
    return CorrectedPixels(rows, cols, target, weights.astype(np.float64), number_of)


def _claim(corrections: Corrections, claims: dict[tuple[int, int], int], number: int, row: int, col: int) -> None:
    other = claims.setdefault((int(row), int(col)), number)
    if corrections.target[other] != corrections.target[number]:
        raise CorrectionError(
            f"{corrections.source}: corrections {other + 1} ({_name(corrections, other)}) and {number + 1} "
            f"({_name(corrections, number)}) contradict each other at one pixel: remove one of them"
        )


def _name(corrections: Corrections, number: int) -> str:
    return corrections.legend.names[int(corrections.target[number])]


def _pixels(geometry: shapely.Geometry, shape: tuple[int, int]) -> tuple[bool, Index, Index]:
    """Whether it is one point, and its pixels (rows, cols); a point's own comes first."""
    if shapely.get_type_id(geometry) == 0:
        row, col = _inside(shapely.get_y(geometry), shape[0]), _inside(shapely.get_x(geometry), shape[1])
        steps = np.arange(-AROUND, AROUND + 1)
        rows, cols = (row + np.repeat(steps, len(steps))), (col + np.tile(steps, len(steps)))
        kept = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
        order = np.argsort(np.abs(rows[kept] - row) + np.abs(cols[kept] - col), kind="stable")
        return True, rows[kept][order], cols[kept][order]
    left, top, right, bottom = shapely.bounds(geometry)
    x, y = _inside(left, shape[1]), _inside(top, shape[0])
    size = _inside(bottom, shape[0]) - y + 1, _inside(right, shape[1]) - x + 1
    moved = shapely.transform(geometry, lambda points: points - (x, y))
    step = max(1, int(np.ceil(np.sqrt(size[0] * size[1] / _LARGE))))
    coarse = -(-size[0] // step), -(-size[1] // step)
    flat = shapely.get_dimensions(geometry) == 2
    drawn = rasterize([shapely.transform(moved, lambda points: points / step)], coarse, all_touched=not flat)
    if not drawn.any():
        drawn = rasterize([shapely.transform(moved, lambda points: points / step)], coarse, all_touched=True)
    rows, cols = np.nonzero(drawn)
    half = step // 2
    return False, np.minimum(rows * step + half, size[0] - 1) + y, np.minimum(cols * step + half, size[1] - 1) + x


def _inside(value: float, length: int) -> int:
    return min(max(int(np.floor(value)), 0), length - 1)


def _valid(scene: Scene, rows: Index, cols: Index) -> npt.NDArray[np.bool_]:
    top, left = int(rows.min()), int(cols.min())
    window = Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
    if window.height * window.width > _LARGE:
        one = [scene.read(Window(int(r), int(c), 1, 1)).valid[0, 0] for r, c in zip(rows, cols, strict=True)]
        return np.array(one, dtype=bool)
    valid = scene.read(window).valid
    return np.asarray(valid[rows - top, cols - left])


def _thinned(rows: Index, cols: Index, most: int) -> tuple[Index, Index]:
    """At most so many, spread evenly."""
    if len(rows) <= most:
        return rows, cols
    spread = np.linspace(0, len(rows) - 1, most).astype(np.int64)
    return rows[spread], cols[spread]
