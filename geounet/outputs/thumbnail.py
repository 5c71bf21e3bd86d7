"""A small picture of the scene, collected on the way while its chips pass by: no second read."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geounet.engines.engine import Prepare
from tiles.chips.cut import Chip
from tiles.durable import replacing
from tiles.errors import OutputError

MAX_SIDE = 1000
"""Longest side of the picture in pixels."""


class Thumbnail:
    """Every `step`-th pixel of every `step`-th row, on the 0-255 scale: uint8 (rows, columns, bands); 0 not valid."""

    def __init__(self, shape: tuple[int, int], bands: int) -> None:
        self.step = math.ceil(max(shape) / MAX_SIDE)
        rows, cols = (math.ceil(side / self.step) for side in shape)
        self.pixels = np.zeros((rows, cols, bands), dtype=np.uint8)
        self.valid = np.zeros((rows, cols), dtype=bool)

    def tap(self, chips: Iterable[Chip], prepare: Prepare) -> Iterator[Chip]:
        """The same chips; each leaves its pixels here."""
        for chip in chips:
            if not chip.empty:
                self._take(chip, prepare)
            yield chip

    def _take(self, chip: Chip, prepare: Prepare) -> None:
        top, left = -chip.window.top % self.step, -chip.window.left % self.step
        counts, valid = (
            chip.counts[:, top :: self.step, left :: self.step],
            chip.valid[top :: self.step, left :: self.step],
        )
        row, col = (chip.window.top + top) // self.step, (chip.window.left + left) // self.step
        height = min(valid.shape[0], self.pixels.shape[0] - row)
        width = min(valid.shape[1], self.pixels.shape[1] - col)
        counts, valid = counts[:, :height, :width], valid[:height, :width]
        picture = np.rint(prepare(np.ascontiguousarray(counts), valid)).astype(np.uint8).transpose(1, 2, 0)
        self.pixels[row : row + height, col : col + width] = np.where(valid[:, :, None], picture, 0)
        self.valid[row : row + height, col : col + width] = valid

    def save(self, path: Path) -> None:
        """Keep what is there for a run that goes on later. Raises OutputError where the disk does not take it."""
        try:
            with replacing(path) as part, part.open("wb") as file:
                np.savez(file, pixels=self.pixels, valid=self.valid)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written: {error.strerror or error}; make room and give the same command to go on"
            ) from error

    def load(self, path: Path) -> None:
        """Take over what an interrupted run has kept, if anything."""
        if path.exists():
            with np.load(path) as kept:
                self.pixels[:], self.valid[:] = kept["pixels"], kept["valid"]


def as_rgb(pixels: npt.NDArray[np.uint8], bands: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Three bands to look at, (rows, columns, 3): red, green, blue where there are, else the first ones."""
    names = ("red", "green", "blue")
    order: list[Any] = [bands.index(n) for n in names] if set(names) <= set(bands) else [0, len(bands) // 2, -1]
    return np.ascontiguousarray(pixels[:, :, order])
