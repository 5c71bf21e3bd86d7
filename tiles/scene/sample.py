"""A sample of a scene's valid pixels that says what the whole scene looks like, without decoding the whole file."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from tiles.scene.window_reader import DatasetLayer, Pixels
from tiles.window import Window

Counts = npt.NDArray[Any]
MOST_BLOCKS = 128
FEWEST_VALID = 20_000
"""A sample with fewer valid pixels goes on looking in as many blocks again; one with none, in all of them."""


@dataclass(frozen=True)
class Sample:
    """Valid pixels of a scene, shape (bands, n), and the share of valid pixels among all that were looked at."""

    values: Counts
    valid_share: float


def sample_pixels(layer: DatasetLayer, max_pixels: int) -> Sample:
    """At most `max_pixels` valid pixels of a layer.

    A small scene is read whole; a large one through an overview of fitting size, or else block by block in places
    spread evenly over it. The same file gives the same sample.
    """
    rows, cols = layer.shape
    if rows * cols <= max_pixels:
        return _joined([_part(layer.read(Window(0, 0, rows, cols)))], max_pixels)
    shape = _fitting_overview(layer, max_pixels)
    if shape is not None:
        return _joined([_part(layer.read_overview(shape))], max_pixels)
    return _from_blocks(layer, max_pixels)


def sample_band(layer: DatasetLayer, number: int, blocks: int = 24) -> Counts:
    """Raw values of one band from blocks spread over the file, shape (n,)."""
    windows = _spread_blocks(layer, blocks)
    parts = [layer.band(number, window).ravel() for window, _ in zip(windows, range(blocks), strict=False)]
    return np.concatenate([part[:: max(1, part.size // 20_000)] for part in parts])


@dataclass(frozen=True)
class _Part:
    values: Counts
    valid: int
    seen: int


def _part(pixels: Pixels, step: int = 1) -> _Part:
    """Every `step`-th pixel, where valid; an odd step does not run down one column of a block."""
    step |= 1
    valid = pixels.valid.ravel()
    values = pixels.values.reshape(len(pixels.values), -1)[:, ::step][:, valid[::step]]
    return _Part(values, int(valid.sum()), valid.size)


def _from_blocks(layer: DatasetLayer, max_pixels: int) -> Sample:
    total = _block_count(layer)
    quota = max(1, min(MOST_BLOCKS, total // 2))
    height, width = layer.dataset.block_shapes[0]
    # One step for all blocks: a block with few valid pixels must not count for more than its share.
    step = max(1, -(-quota * height * width // max_pixels))
    parts: list[_Part] = []
    for number, window in enumerate(_spread_blocks(layer, quota)):
        found = sum(part.valid for part in parts)
        most = quota if found >= FEWEST_VALID else 2 * quota if found else total
        if number >= max(quota, min(most, 8 * MOST_BLOCKS)):
            break
        parts.append(_part(layer.read(window), step))
    return _joined(parts, max_pixels)


def _joined(parts: list[_Part], max_pixels: int) -> Sample:
    values = np.concatenate([part.values for part in parts], axis=1)
    kept = values[:, :: max(1, -(-values.shape[1] // max_pixels))]
    return Sample(kept, sum(part.valid for part in parts) / sum(part.seen for part in parts))


def _fitting_overview(layer: DatasetLayer, max_pixels: int) -> tuple[int, int] | None:
    if layer.validity.kind == "mask":
        return None  # an overview without a mask of its own would decode the full mask
    rows, cols = layer.shape
    for factor in layer.dataset.overviews(layer.numbers[0]):
        shape = -(-rows // factor), -(-cols // factor)
        if FEWEST_VALID <= shape[0] * shape[1] <= 4 * max_pixels:
            return shape
    return None


def _block_count(layer: DatasetLayer) -> int:
    height, width = layer.dataset.block_shapes[0]
    return int(-(-layer.shape[0] // height) * -(-layer.shape[1] // width))


def _spread_blocks(layer: DatasetLayer, first: int) -> Iterator[Window]:
    """Every block once, the `first` ones spread evenly: a Hammersley set with the golden ratio across.

    The rest follow Roberts' R2 sequence (2018), whose every beginning is spread well.
    """
    height, width = layer.dataset.block_shapes[0]
    rows, cols = layer.shape
    down, across = -(-rows // height), -(-cols // width)
    even = (((k + 0.5) / first, (0.5 + k * 0.6180339887498949) % 1.0) for k in range(first))
    rest = (((0.5 + k * 0.7548776662466927) % 1.0, (0.5 + k * 0.5698402909980532) % 1.0) for k in range(10**9))
    seen: set[tuple[int, int]] = set()
    for y, x in chain(even, rest):
        row, col = int(y * down), int(x * across)
        if (row, col) not in seen:
            seen.add((row, col))
            top, left = row * height, col * width
            yield Window(top, left, min(height, rows - top), min(width, cols - left))
            if len(seen) == down * across:
                return
