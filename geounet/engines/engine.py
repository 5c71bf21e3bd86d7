"""What an engine is: chips in, scores out; it knows no CRS."""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geounet.model.stretch import Stretch
from tiles.chips.blend import Scores, Strip
from tiles.chips.cut import Chip

Float32 = npt.NDArray[np.float32]
Prepare = Callable[[npt.NDArray[Any], npt.NDArray[np.bool_]], Float32]
"""Raw counts (bands, rows, columns) and validity (rows, columns) to the 0-255 scale (bands, rows, columns)."""


@dataclass(frozen=True)
class EngineSpec:
    """What was asked for, with every `auto` resolved: it is recorded, and a resumed run keeps it."""

    engine: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine} on {self.device}, {self.precision}"


class Engine(Protocol):
    """Runs one network on chips of one size."""

    @property
    def spec(self) -> EngineSpec:
        """What runs where, in which precision."""
        ...

    def predict(self, chips: Iterable[Chip], stretch: Stretch) -> Iterator[Scores]:
        """Class probabilities of every chip, in the order the chips came; empty chips are passed on unscored.

        Scores are valid until the next ones are asked for. They lie where the engine works.
        """
        ...

    def fetch(self, strips: Iterator[Strip]) -> Generator[Strip, None, None]:
        """Strips blended from this engine's scores, as NumPy arrays. Close it to stop early."""
        ...
