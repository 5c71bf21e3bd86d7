"""The temperature that makes probabilities mean what they say (Guo et al. 2017), fitted on validation samples."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from geounet.datasets.labels import LabelCodes
from geounet.datasets.load import Sample
from geounet.evaluation.network_scores import logits_of, pieces
from geounet.model.bundle import Normalisation
from geounet.train.loss import log_set_probability

GRID = np.exp(np.linspace(np.log(0.4), np.log(4.0), 70))
PER_PIECE = 4000
"""Pixels taken of each piece of an image."""


def fit_temperature(
    network: nn.Module, sources: Sequence[Sequence[Sample]], codes: LabelCodes, normalisation: Normalisation, seed: int
) -> float:
    """The temperature of least negative log likelihood, every source counting the same; 1.0 without samples."""
    parts = [_pixels(network, samples, codes, normalisation, seed) for samples in sources if samples]
    parts = [(logits, label) for logits, label in parts if len(label)]
    if not parts:
        return 1.0
    allowed = torch.from_numpy(codes.allowed)
    losses = [sum(_loss(logits / t, label, allowed) for logits, label in parts) for t in GRID]
    return round(float(GRID[int(np.argmin(losses))]), 3)


def _loss(logits: torch.Tensor, label: torch.Tensor, allowed: torch.Tensor) -> float:
    log_p = logits.log_softmax(dim=1)[..., None, None]
    return float(-log_set_probability(log_p, label[:, None, None], allowed).mean())


def _pixels(
    network: nn.Module, samples: Sequence[Sample], codes: LabelCodes, normalisation: Normalisation, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng((seed, 2))
    allowed = torch.from_numpy(codes.allowed)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    network.eval()
    for sample in samples:
        for image, label in pieces(sample):
            logits = logits_of(network, image, normalisation).flatten(1).T
            flat = label.flatten().long()
            told = torch.nonzero(~allowed[flat].all(dim=1)).flatten()
            if len(told):
                chosen = told[torch.from_numpy(rng.integers(len(told), size=PER_PIECE))]
                kept.append((logits[chosen], flat[chosen]))
    if not kept:
        return torch.zeros(0, len(codes.names)), torch.zeros(0, dtype=torch.long)
    return torch.cat([a for a, _ in kept]), torch.cat([b for _, b in kept])
