"""The network's features and scores at chosen pixels of a scene, computed in the chips that the map is made of."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geounet.engines.adapters.stage_runner import StageRunner
from geounet.engines.engine import Float32
from geounet.model.adapters.stages import at_points
from geounet.model.stretch import Stretch
from tiles.chips.cut import padded
from tiles.chips.grid import Axis, ChipGrid
from tiles.scene.scene import Scene
from tiles.window import Window

Index = npt.NDArray[np.int64]

_BACKGROUND = 300
"""Pixels a chip that say how features spread over the scene."""


@dataclass(frozen=True)
class PixelFeatures:
    """`features` (n, channels of all stages) and `logits` (n, the base's classes) of pixels; `background`
    (m, channels), features of other pixels of the same chips, by which features are brought to one scale.
    """

    features: Float32
    logits: Float32
    background: Float32


def features_at(
    scene: Scene, grid: ChipGrid, stretch: Stretch, runner: StageRunner, rows: Index, cols: Index
) -> PixelFeatures:
    """Features of pixels (rows, cols), each from the chip in whose middle it lies most."""
    chip_rows, chip_cols = _nearest(grid.rows, rows), _nearest(grid.cols, cols)
    place = chip_rows * len(grid.cols.starts) + chip_cols
    parts: dict[int, tuple[Float32, Float32]] = {}
    background = []
    for number in np.unique(place):
        row, col = divmod(int(number), len(grid.cols.starts))
        top, left = grid.rows.starts[row], grid.cols.starts[col]
        chosen = np.flatnonzero(place == number)
        counts, valid = _chip(scene, grid, top, left)
        stages, logits = runner.run(stretch.apply(counts, valid))
        at = _inner(rows[chosen] - top, grid.chip_size, logits), _inner(cols[chosen] - left, grid.chip_size, logits)
        other = _spread(valid, logits)
        values = at_points(
            stages, np.concatenate([at[0], other[0]]), np.concatenate([at[1], other[1]]), logits.shape[1]
        )
        background.append(values[len(chosen) :])
        parts[int(number)] = values[: len(chosen)], logits[:, at[0], at[1]].T.copy()
    return _together(place, parts, np.concatenate(background))


def _nearest(axis: Axis, pixels: Index) -> Index:
    middles = np.array(axis.starts) + min(axis.chip, axis.length) / 2
    return np.asarray(np.abs(pixels[:, None] + 0.5 - middles[None]).argmin(axis=1), dtype=np.int64)


def _chip(scene: Scene, grid: ChipGrid, top: int, left: int) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
    height, width = min(grid.chip_size, grid.shape[0] - top), min(grid.chip_size, grid.shape[1] - left)
    pixels = scene.read(Window(top, left, height, width))
    return padded(pixels.values, pixels.valid, grid.chip_size)


def _inner(pixels: Index, chip: int, logits: Float32) -> Index:
    """Where pixels of the chip lie on the network's own grid, which is finer for a scene that is enlarged."""
    return np.asarray((pixels + 0.5) * logits.shape[1] / chip, dtype=np.int64)


def _spread(valid: npt.NDArray[np.bool_], logits: Float32) -> tuple[Index, Index]:
    rows, cols = np.nonzero(valid)
    chosen = np.random.default_rng(0).permutation(len(rows))[:_BACKGROUND]
    return _inner(rows[chosen], len(valid), logits), _inner(cols[chosen], len(valid), logits)


def _together(place: Index, parts: dict[int, tuple[Float32, Float32]], background: Float32) -> PixelFeatures:
    first = next(iter(parts.values()))
    features = np.empty((len(place), first[0].shape[1]), dtype=np.float32)
    logits = np.empty((len(place), first[1].shape[1]), dtype=np.float32)
    for number, (values, scores) in parts.items():
        features[place == number], logits[place == number] = values, scores
    return PixelFeatures(features, logits, background)
