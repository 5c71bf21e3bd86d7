"""The fit of an adapter: multinomial logistic regression on the network's own features, its scores as the prior.

The scores of the base stand in the regression as an offset of weight 1, and every weight, the biases too, is drawn
towards 0: where nobody corrected anything the map stays what it was. Precedents: Robinson et al. 2020, "Human-Machine
Collaboration for Fast Land Cover Mapping" (AAAI), which refits the last layer of a U-Net on clicks, and ilastik
(Berg et al. 2019, Nature Methods 16), which trains a shallow classifier on fixed features.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Strengths of the pull towards the base's own scores that are tried; see `docs/correct.md` for how they were found."""
_FOLDS = 10
_LEAST_SPREAD = 1e-3
_MOST_SPREADS = 6.0


@dataclass(frozen=True)
class Samples:
    """Pixels with a class. `features` (n, channels); `prior` (n, classes), logits of the base; `target` (n,), index of
    the class; `weight` (n,); `group` (n,), the correction each pixel speaks for.
    """

    features: Float32
    prior: Float
    target: Index
    weight: Float
    group: Index

    def part(self, chosen: npt.NDArray[np.bool_]) -> "Samples":
        """Those that are chosen."""
        return Samples(
            self.features[chosen], self.prior[chosen], self.target[chosen], self.weight[chosen], self.group[chosen]
        )


@dataclass(frozen=True)
class Scaling:
    """How features are brought to one scale: (value - mean) / spread, each (channels,)."""

    mean: Float32
    spread: Float32

    @classmethod
    def of(cls, features: Float32) -> "Scaling":
        """Of features (n, channels) that stand for the scene."""
        spread = features.std(axis=0)
        floor = max(_LEAST_SPREAD, 1e-3 * float(np.median(spread)))
        return cls(features.mean(axis=0), np.maximum(spread, floor).astype(np.float32))

    def apply(self, features: Float32) -> Float:
        """On one scale, far outliers brought nearer; a linear layer cannot follow that, so it serves the fit only."""
        scaled = np.clip((features - self.mean) / self.spread, -_MOST_SPREADS, _MOST_SPREADS)
        return np.asarray(scaled, dtype=np.float64)


@dataclass(frozen=True)
class Fitted:
    """Scores are prior + features @ weight.T + bias, then divided by the temperature; features as they come.

    `weight` (classes, channels), `bias` (classes,).
    """

    weight: Float32
    bias: Float32
    strength: float
    temperature: float = 1.0

    def scores(self, features: Float32, prior: Float) -> Float:
        """Logits (n, classes) before the temperature."""
        return np.asarray(prior + features.astype(np.float64) @ self.weight.T + self.bias, dtype=np.float64)


@dataclass(frozen=True)
class Span:
    """The samples' features in the space that they span: `reduced` (n, r) = scaled features @ `basis`.T, (r, channels).

    The best weights lie in it: with fewer samples than channels that is the smaller problem.
    """

    reduced: Float
    basis: Float

    @classmethod
    def of(cls, samples: Samples, scaling: Scaling) -> "Span":
        """Once for all strengths and folds: the decomposition is most of their work."""
        left, singular, right = np.linalg.svd(_with_one(scaling.apply(samples.features)), full_matrices=False)
        kept = singular > 1e-6 * singular[0]
        return cls(left[:, kept] * singular[kept], right[kept])


def fit(samples: Samples, span: Span, scaling: Scaling, strength: float) -> Fitted:
    """The adapter of one strength."""
    weights = _solve(span.reduced, samples, strength) @ span.basis
    weight = (weights[:, :-1] / scaling.spread).astype(np.float32)
    bias = weights[:, -1] - weight.astype(np.float64) @ scaling.mean.astype(np.float64)
    return Fitted(weight, bias.astype(np.float32), strength)


def cross_validated(samples: Samples, span: Span, strength: float, block: Index, folds: int = _FOLDS) -> Float:
    """Logits (n, classes) of every sample by an adapter that saw nothing of its block; `block` (n,) names it."""
    reduced = span.reduced
    out = samples.prior.copy()
    fold = _fold_of(block, folds)
    for number in range(int(fold.max()) + 1):
        held = fold == number
        if held.all():
            continue
        weights = _solve(reduced[~held], samples.part(~held), strength)
        out[held] += reduced[held] @ weights.T
    return out


def _fold_of(block: Index, folds: int) -> Index:
    """Blocks dealt out to folds, the largest first, so that folds are about equal; the same on every call."""
    names, inverse, counts = np.unique(block, return_inverse=True, return_counts=True)
    fold_of, load = np.zeros(len(names), dtype=np.int64), np.zeros(min(folds, len(names)))
    for name in np.argsort(-counts, kind="stable"):
        fold_of[name] = int(load.argmin())
        load[fold_of[name]] += counts[name]
    return np.asarray(fold_of[inverse], dtype=np.int64)


def loss(scores: Float, target: Index, weight: Float) -> float:
    """Weighted mean of -log of the probability of the true class."""
    told = scores[np.arange(len(target)), target] - logsumexp(scores, axis=1)
    return float(-(weight * told).sum() / weight.sum())


def _with_one(scaled: Float) -> Float:
    return np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)


def _solve(reduced: Float, samples: Samples, strength: float) -> Float:
    """Weights (classes, r) that minimise mean cross-entropy + strength / 2 x mean of |weights|^2 over channels."""
    classes = samples.prior.shape[1]
    n, r = reduced.shape
    truth = np.zeros((n, classes))
    truth[np.arange(n), samples.target] = 1.0
    weight = samples.weight / samples.weight.sum()

    def value(flat: Float) -> tuple[float, Float]:
        inner = flat.reshape(classes, r)
        scores = samples.prior + reduced @ inner.T
        top = scores.max(axis=1, keepdims=True)
        raised = np.exp(scores - top)
        total = raised.sum(axis=1, keepdims=True)
        told = scores[np.arange(n), samples.target] - top[:, 0] - np.log(total[:, 0])
        error = (raised / total - truth) * weight[:, None]
        gradient = error.T @ reduced + strength * inner
        return float(-(weight * told).sum() + 0.5 * strength * (inner**2).sum()), gradient.ravel()

    found = minimize(value, np.zeros(classes * r), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return np.asarray(found.x.reshape(classes, r))
