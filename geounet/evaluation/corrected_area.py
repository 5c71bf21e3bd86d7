"""Area per class corrected by the confusion matrix, with its confidence interval.

Olofsson et al. 2014, "Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148: stratified estimator, equations 9 to 11, the map's classes as strata.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z95 = 1.959964


@dataclass(frozen=True)
class AreaEstimate:
    """Share of the area that one class covers: as mapped, corrected, and the half width of its 95 % interval."""

    name: str
    mapped: float
    corrected: float
    half_width: float


def corrected_areas(
    names: tuple[str, ...],
    counts: npt.NDArray[np.int64],
    mapped: npt.NDArray[np.float64] | None = None,
    design_effect: float = 1.0,
) -> tuple[AreaEstimate, ...]:
    """Estimates a class from `counts[truth, map]` and the classes' mapped share of the whole area.

    Without `mapped`, the labelled pixels are the whole area. The interval takes the labelled pixels as independent;
    neighbouring pixels are not, so pass the number of pixels that count as one sample as `design_effect`.
    Classes that were never mapped in the sample keep their mapped share as unknown to all classes.
    """
    table = counts.T.astype(np.float64)  # strata (map classes) in rows, reference in columns, as in the paper
    size = table.sum(axis=1)
    weight = size / size.sum() if mapped is None else mapped / mapped.sum()
    share = np.divide(table, size[:, None], out=np.zeros_like(table), where=size[:, None] > 0)
    proportion = weight[:, None] * share
    samples = np.maximum(size / design_effect - 1, 1.0)
    variance = (weight[:, None] ** 2 * share * (1 - share) / samples[:, None]).sum(axis=0)
    corrected = proportion.sum(axis=0)
    return tuple(
        AreaEstimate(n, float(weight[i]), float(corrected[i]), float(Z95 * np.sqrt(variance[i])))
        for i, n in enumerate(names)
    )
