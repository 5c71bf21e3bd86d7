"""Accuracies and areas from checked points, with 95 % intervals.

Olofsson et al. 2014, "Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148: a stratified random sample, the map's classes as strata, equations 1 to 11.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z95 = 1.959964
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and the half width of its 95 % interval."""

    value: float
    half_width: float


@dataclass(frozen=True)
class ClassEstimate:
    """One class: share of the area as mapped and as estimated; user's and producer's accuracy, None where unknown."""

    name: str
    mapped: float
    share: Estimate
    users: Estimate | None
    producers: Estimate | None


@dataclass(frozen=True)
class SampleEstimates:
    """What a checked sample says of a map: overall accuracy, and each class."""

    overall: Estimate
    classes: tuple[ClassEstimate, ...]
    points: int


def stratified_estimates(
    names: tuple[str, ...], counts: npt.NDArray[np.int64], mapped: Float64
) -> SampleEstimates | None:
    """Estimates from `counts[map, reference]` of sampled points and the classes' mapped areas, in any unit.

    None where a class that was mapped has fewer than two points: its stratum then has no variance to go by.
    """
    table = counts.astype(np.float64)
    size = table.sum(axis=1)
    weight = mapped / mapped.sum()
    if np.any((weight > 0) & (size < 2)):
        return None
    share = np.divide(table, size[:, None], out=np.zeros_like(table), where=size[:, None] > 0)
    proportion = weight[:, None] * share  # eq. 4
    spread = np.maximum(size - 1, 1.0)
    own = np.diag(share)
    overall = _estimate(np.trace(proportion), (weight**2 * own * (1 - own) / spread).sum())  # eqs. 1 and 5
    variance = (weight[:, None] ** 2 * share * (1 - share) / spread[:, None]).sum(axis=0)  # eq. 10
    columns = proportion.sum(axis=0)  # eq. 9
    classes = tuple(
        ClassEstimate(
            name,
            float(weight[i]),
            _estimate(columns[i], variance[i]),
            _estimate(own[i], own[i] * (1 - own[i]) / spread[i]) if size[i] >= 2 else None,  # eqs. 2 and 6
            _producers(i, share, weight, spread, proportion),
        )
        for i, name in enumerate(names)
    )
    return SampleEstimates(overall, classes, int(size.sum()))


def _producers(i: int, share: Float64, weight: Float64, spread: Float64, proportion: Float64) -> Estimate | None:
    """Equations 3 and 7, with areas as shares of the whole; None where the class does not occur in the reference."""
    total = proportion[:, i].sum()
    if total == 0:
        return None
    found = proportion[i, i] / total
    terms = weight**2 * share[:, i] * (1 - share[:, i]) / spread
    own = weight[i] ** 2 * (1 - found) ** 2 * share[i, i] * (1 - share[i, i]) / spread[i]
    return _estimate(found, (own + found**2 * (terms.sum() - terms[i])) / total**2)


def _estimate(value: float, variance: float) -> Estimate:
    return Estimate(float(value), float(Z95 * np.sqrt(variance)))
