"""Boundary F-score: how well the borders of classes are met, within a tolerance of pixels (Csurka et al. 2013)."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
TOLERANCE = 3


@dataclass
class BoundaryScore:
    """Counts of border pixels a class: found, of those right, true, of those found."""

    names: tuple[str, ...]
    tolerance: int = TOLERANCE
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 4), dtype=np.int64))

    def __post_init__(self) -> None:
        if self.counts.size == 0:
            self.counts = np.zeros((len(self.names), 4), dtype=np.int64)

    def add(self, truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> None:
        """Two class images (rows, columns); pixels with truth below 0, and borders that touch them, do not count."""
        known = ~grown(truth < 0, 1)
        for index in range(len(self.names)):
            a, b = border(truth == index) & known, border(predicted == index) & known
            self.counts[index] += (
                b.sum(),
                (b & grown(a, self.tolerance)).sum(),
                a.sum(),
                (a & grown(b, self.tolerance)).sum(),
            )

    @property
    def f1(self) -> dict[str, float]:
        """F-score of every class that has a border in the truth."""
        out = {}
        for name, (found, right, true, met) in zip(self.names, self.counts.tolist(), strict=True):
            if true:
                precision, recall = right / max(1, found), met / true
                out[name] = 2 * precision * recall / max(1e-12, precision + recall)
        return out

    @property
    def mean(self) -> float:
        """Mean over the classes that have a border in the truth; 0 where none has."""
        return float(np.mean(list(self.f1.values()))) if self.f1 else 0.0


def border(mask: Mask) -> Mask:
    """Pixels of `mask` with a 4-neighbour outside it; the image's own edge is no border."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return mask & ~inside


def grown(mask: Mask, by: int) -> Mask:
    """`mask` and all within `by` pixels of it, in a square."""
    out = mask.copy()
    for axis in (0, 1):
        wide = out.copy()
        for step in range(1, by + 1):
            far = np.roll(out, step, axis=axis)
            near = np.roll(out, -step, axis=axis)
            edge: list[slice] = [slice(None), slice(None)]
            edge[axis] = slice(0, step)
            far[tuple(edge)] = False
            edge[axis] = slice(-step, None)
            near[tuple(edge)] = False
            wide |= far | near
        out = wide
    return out
