"""From corrected pixels and their features to an adapter: its strength and temperature chosen, and how good it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from geounet.correction.fit import STRENGTHS, Fitted, Samples, Scaling, Span, cross_validated, fit, loss
from geounet.model.adapters.file import NEW_CLASS, Float32

Index = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

USUAL_STRENGTH = 0.3
"""Where there are too few corrections to find one."""
_FEW = 8
_BLOCK_PIXELS = 64
"""Corrections in one square of so many pixels are held out together: neighbours would vouch for each other."""
_TEMPERATURES = tuple(float(t) for t in np.geomspace(0.5, 3.0, 19))
_ENOUGH_FOR_TEMPERATURE = 20


@dataclass(frozen=True)
class Start:
    """What the fit starts from: the base's channels that each class of the new legend comes from (none: a new class),
    and, where the map was made by an adapter already, its `weight` (classes, channels) and `bias` (classes,).
    """

    starts: tuple[tuple[int, ...], ...]
    weight: Float32 | None = None
    bias: Float32 | None = None

    def scores(self, features: Float32, logits: Float32) -> Float:
        """Scores (n, classes) before anything is fitted, of features (n, channels) and the base's logits."""
        wide = logits.astype(np.float64)
        out = np.stack([_start(wide, start) for start in self.starts], axis=1)
        if self.weight is not None and self.bias is not None:
            out += features.astype(np.float64) @ self.weight.T + self.bias
        return np.asarray(out)

    def added(self, fitted: Fitted) -> tuple[Float32, Float32]:
        """(weight, bias) of the one adapter that does what the earlier one and `fitted` do one after the other."""
        if self.weight is None or self.bias is None:
            return fitted.weight, fitted.bias
        return self.weight + fitted.weight, self.bias + fitted.bias


def _start(logits: Float, start: Sequence[int]) -> Float:
    if not start:
        return np.asarray(logsumexp(logits, axis=1) + NEW_CLASS)
    return np.asarray(logsumexp(logits[:, list(start)], axis=1))


@dataclass(frozen=True)
class Checked:
    """Corrections that agree with the map, of all, by class index: before, and with an adapter that did not see them.

    `total`, `before`, `after` (classes,), in corrections.
    """

    total: Float
    before: Float
    after: Float

    @property
    def accuracy(self) -> tuple[float, float]:
        """Shares of all corrections, before and after."""
        everything = max(float(self.total.sum()), 1e-9)
        return float(self.before.sum()) / everything, float(self.after.sum()) / everything


def adapted(samples: Samples, background: Float32, block: Index) -> tuple[Fitted, Checked]:
    """The adapter of the strength that does best on blocks it did not see; `block` (n,) names each sample's."""
    # Many small products: threads that wait for each other take five times as long as one.
    with threadpool_limits(1, user_api="blas"):
        return _adapted(samples, Scaling.of(np.concatenate([samples.features, background])), block)


def _adapted(samples: Samples, scaling: Scaling, block: Index) -> tuple[Fitted, Checked]:
    span = Span.of(samples, scaling)
    if len(np.unique(samples.group)) < _FEW or len(np.unique(block)) < 2:
        held = cross_validated(samples, span, USUAL_STRENGTH, block) if len(np.unique(block)) > 1 else samples.prior
        return fit(samples, span, scaling, USUAL_STRENGTH), _checked(samples, held)
    tried = {strength: cross_validated(samples, span, strength, block) for strength in STRENGTHS}
    best = min(STRENGTHS, key=lambda strength: loss(tried[strength], samples.target, samples.weight))
    made = replace(fit(samples, span, scaling, best), temperature=_temperature(samples, tried[best]))
    return made, _checked(samples, tried[best])


def blocks_of(rows: Index, cols: Index, scene: int = 0) -> Index:
    """Names of the squares that pixels lie in, different ones for every scene."""
    return np.asarray((scene << 40) + (rows // _BLOCK_PIXELS << 20) + cols // _BLOCK_PIXELS, dtype=np.int64)


def _temperature(samples: Samples, held: Float) -> float:
    if len(np.unique(samples.group)) < _ENOUGH_FOR_TEMPERATURE:
        return 1.0
    return min(_TEMPERATURES, key=lambda t: loss(held / t, samples.target, samples.weight))


def _checked(samples: Samples, held: Float) -> Checked:
    classes = samples.prior.shape[1]

    def share(right: npt.NDArray[Any]) -> Float:
        of_group = np.bincount(samples.group, weights=samples.weight)
        agreed = np.bincount(samples.group, weights=samples.weight * right)
        target = np.zeros(len(of_group), dtype=np.int64)
        target[samples.group] = samples.target
        known = of_group > 0
        each = np.bincount(target[known], weights=agreed[known] / of_group[known], minlength=classes)
        return np.asarray(each, dtype=np.float64)

    return Checked(
        share(np.ones(len(samples.target))),
        share(samples.prior.argmax(axis=1) == samples.target),
        share(held.argmax(axis=1) == samples.target),
    )
