"""Scores from confusion counts and from calibration bins; numpy only."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
BINS = 15


@dataclass
class Confusion:
    """`counts[truth, predicted]` over named classes."""

    names: tuple[str, ...]
    counts: Counts = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    def __post_init__(self) -> None:
        if self.counts.size == 0:
            self.counts = np.zeros((len(self.names), len(self.names)), dtype=np.int64)

    def add(self, truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> None:
        """Count pixels; both arrays hold indices into `names`, of the same size."""
        n = len(self.names)
        self.counts += np.bincount(truth.astype(np.int64) * n + predicted, minlength=n * n).reshape(n, n)

    @property
    def iou(self) -> dict[str, float]:
        """Intersection over union of every class that occurs in truth or prediction."""
        hit = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hit
        return {n: float(h / u) for n, h, u in zip(self.names, hit, union, strict=True) if u}

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur in the truth; 0 where there is no truth."""
        present = self.counts.sum(1) > 0
        values = [v for n, v in self.iou.items() if present[self.names.index(n)]]
        return float(np.mean(values)) if values else 0.0

    @property
    def accuracy(self) -> float:
        """Share of pixels that are right."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))

    @property
    def precision(self) -> dict[str, float]:
        """Right among those predicted as the class."""
        return self._ratio(self.counts.sum(0))

    @property
    def recall(self) -> dict[str, float]:
        """Right among those that are the class."""
        return self._ratio(self.counts.sum(1))

    @property
    def f1(self) -> dict[str, float]:
        """Harmonic mean of precision and recall."""
        return {
            n: float(2 * h / s)
            for n, h, s in zip(self.names, np.diag(self.counts), self.counts.sum(0) + self.counts.sum(1), strict=True)
            if s
        }

    @property
    def weighted_iou(self) -> float:
        """IoU weighted by the classes' share of the truth."""
        share = self.counts.sum(1) / max(1, self.counts.sum())
        return float(sum(share[self.names.index(n)] * v for n, v in self.iou.items()))

    def _ratio(self, totals: Counts) -> dict[str, float]:
        return {n: float(h / t) for n, h, t in zip(self.names, np.diag(self.counts), totals, strict=True) if t}


@dataclass
class Calibration:
    """Confidence against truth in equal bins (Guo et al. 2017)."""

    pixels: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    confidence: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    right: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> None:
        """Count pixels with their confidence (0-1) and whether their class was right, 1-D arrays."""
        which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        self.pixels += np.bincount(which, minlength=BINS)
        self.confidence += np.bincount(which, weights=confidence, minlength=BINS)
        self.right += np.bincount(which, weights=right.astype(np.float64), minlength=BINS)

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap between confidence and accuracy, weighted by pixels."""
        return float(np.abs(self.confidence - self.right).sum() / max(1.0, self.pixels.sum()))
