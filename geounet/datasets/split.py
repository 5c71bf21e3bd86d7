"""Splits in space: neighbouring images look alike, so train and val must lie apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from geounet.datasets.config import SplitConfig
from geounet.errors import TrainingError


@dataclass(frozen=True)
class Place:
    """Where an image lies, in metres of its own grid; places compare only within one CRS."""

    crs: str
    left: float
    bottom: float
    right: float
    top: float

    def distance(self, other: "Place") -> float:
        """Metres between two rectangles, 0 where they touch or overlap; infinite between different CRS."""
        if self.crs != other.crs:
            return math.inf
        dx = max(self.left - other.right, other.left - self.right, 0.0)
        dy = max(self.bottom - other.top, other.bottom - self.top, 0.0)
        return math.hypot(dx, dy)

    def overlaps(self, other: "Place") -> bool:
        """Whether the rectangles share more than a metre's edge."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return self.crs == other.crs and width > 1.0 and height > 1.0

    def block(self, size: float) -> tuple[str, int, int]:
        """The square of `size` metres that the centre lies in."""
        x, y = (self.left + self.right) / 2, (self.bottom + self.top) / 2
        return self.crs, math.floor(x / size), math.floor(y / size)


class Placed(Protocol):
    """Anything with a name and a place."""

    @property
    def name(self) -> str:
        """File name."""

    @property
    def place(self) -> Place | None:
        """Where it lies, if it is known."""


P = TypeVar("P", bound=Placed)


def split_by_block(samples: Sequence[P], split: SplitConfig, source: str) -> tuple[list[P], list[P], list[P]]:
    """(train, val, gap): every `nth` block is val, other samples nearer to one of val than the gap belong to neither.

    Raises TrainingError for a sample without a place, and where one part is empty.
    """
    size = split.block_m or 1.0
    homeless = next((s.name for s in samples if s.place is None), None)
    if homeless is not None:
        raise TrainingError(f"source '{source}': split.block_m needs georeferenced images, {homeless} is not")
    placed = [(s, s.place) for s in samples if s.place is not None]
    blocks = sorted({place.block(size) for _, place in placed})
    chosen = set(blocks[:: split.nth])
    val = [(s, place) for s, place in placed if place.block(size) in chosen]
    others = [(s, place) for s, place in placed if place.block(size) not in chosen]
    apart: list[P] = []
    gap: list[P] = []
    for sample, place in others:
        far = all(place.distance(v) > split.gap_m for _, v in val)
        (apart if far else gap).append(sample)
    if not apart or not val:
        raise TrainingError(
            f"source '{source}': blocks of {size:g} m leave nothing for {'val' if apart else 'train'}: "
            "use smaller blocks, a smaller gap or another nth"
        )
    return apart, [s for s, _ in val], gap
