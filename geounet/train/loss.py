"""Losses for labels that are sets of classes.

Every term takes logits (n, classes, h, w) and label codes (n, h, w) with the table `allowed` (codes, classes). For a
label that is one class they are the textbook losses; for a set, the probability of the set is the sum of its
members'; an ignored pixel costs nothing.
"""

import torch
from torch import Tensor, nn

from geounet.datasets.labels import LabelCodes
from geounet.train.config import LossConfig


class SetLoss(nn.Module):
    """The weighted sum of the configured terms."""

    allowed: Tensor
    weights: Tensor

    def __init__(self, config: LossConfig, codes: LabelCodes, class_weights: Tensor) -> None:
        super().__init__()
        self.terms = config.terms
        self.smoothing = config.label_smoothing
        self.register_buffer("allowed", torch.from_numpy(codes.allowed))
        self.register_buffer("weights", code_weights(self.allowed, class_weights))

    def forward(self, logits: Tensor, codes: Tensor, sample_weights: Tensor) -> Tensor:
        """A scalar; `sample_weights` (n,) scale the pixel-wise terms of each sample."""
        logits, codes = logits.float(), codes.long()
        log_p = logits.log_softmax(dim=1)
        log_set = log_set_probability(log_p, codes, self.allowed)
        pixel = self.weights[codes] * sample_weights[:, None, None]
        total = logits.new_zeros(())
        for term in self.terms:
            if term.kind == "ce":
                total = total + term.weight * self._cross_entropy(log_set, log_p, pixel)
            elif term.kind == "focal":
                total = total + term.weight * focal(log_set, pixel, term.gamma)
            elif term.kind == "dice":
                total = total + term.weight * dice(log_p.exp(), codes, self.allowed)
            else:
                total = total + term.weight * lovasz(log_p.exp(), codes, self.allowed)
        return total

    def _cross_entropy(self, log_set: Tensor, log_p: Tensor, pixel: Tensor) -> Tensor:
        loss = weighted_mean(-log_set, pixel)
        if self.smoothing:
            loss = (1 - self.smoothing) * loss + self.smoothing * weighted_mean(-log_p.mean(dim=1), pixel)
        return loss


def code_weights(allowed: Tensor, class_weights: Tensor) -> Tensor:
    """Weight of each code: the mean of its classes' weights, zero for a code that allows everything."""
    members = allowed.float()
    weights = (members * class_weights).sum(dim=1) / members.sum(dim=1)
    return torch.where(allowed.all(dim=1), torch.zeros_like(weights), weights)


def log_set_probability(log_p: Tensor, codes: Tensor, allowed: Tensor) -> Tensor:
    """log of the summed probability of the allowed classes, (n, h, w); zero where everything is allowed."""
    mask = allowed[codes].permute(0, 3, 1, 2)
    return log_p.masked_fill(~mask, float("-inf")).logsumexp(dim=1).clamp(max=0.0)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of `values` with `weights`; zero where all weights are."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)


def focal(log_set: Tensor, pixel: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017, equation 4) of the set's probability."""
    return weighted_mean(-((1 - log_set.exp()).clamp(min=1e-6) ** gamma) * log_set, pixel)


def targets_of(p: Tensor, codes: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Soft targets (n, classes, h, w) and the pixels (n, 1, h, w) that they hold for.

    An either-or label shares its target out as the network does at present. Labels that allow half of the classes
    or more say too little for an overlap measure and are left out.
    """
    mask = allowed[codes].permute(0, 3, 1, 2)
    known = (allowed.sum(dim=1) < max(allowed.shape[1] / 2, 1.5))[codes][:, None]
    share = (p.detach() + 1e-6) * mask
    return share / share.sum(dim=1, keepdim=True) * known, known


def dice(p: Tensor, codes: Tensor, allowed: Tensor) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016) over the batch, averaged over the classes present in it."""
    target, known = targets_of(p, codes, allowed)
    p = p * known
    dims = (0, 2, 3)
    overlap, size = (p * target).sum(dims), p.sum(dims) + target.sum(dims)
    present = (target.sum(dims) > 1.0).float()
    return weighted_mean(1 - (2 * overlap + 1) / (size + 1), present)


def lovasz(p: Tensor, codes: Tensor, allowed: Tensor) -> Tensor:
    """Lovász-Softmax loss (Berman et al. 2018), averaged over the classes present in the batch."""
    target, known = targets_of(p, codes, allowed)
    keep = known[:, 0]
    losses = [
        _lovasz_one(p[:, c][keep], target[:, c][keep]) for c in range(p.shape[1]) if bool((target[:, c] > 0.5).any())
    ]
    return torch.stack(losses).mean() if losses else p.sum() * 0.0


def _lovasz_one(p: Tensor, target: Tensor) -> Tensor:
    errors, order = (target - p).abs().sort(descending=True)
    truth = (target[order] > 0.5).float()
    union = truth.sum() + (1 - truth).cumsum(0)
    jaccard = 1 - (truth.sum() - truth.cumsum(0)) / union
    gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return (errors * gradient).sum()


def weights_of_classes(pixels: Tensor, kind: str) -> Tensor:
    """Class weights with mean one from pixel counts (classes,).

    `inverse` frequency, its square root, or the `effective` number of samples (Cui et al. 2019, beta 1 - 1e-6).
    """
    counts = pixels.double().clamp(min=1.0)
    if kind == "none":
        weights = torch.ones_like(counts)
    elif kind == "effective":
        beta = 1 - 1e-6
        weights = (1 - beta) / (1 - beta**counts)
    else:
        weights = (counts.sum() / counts) ** (0.5 if kind == "inverse_sqrt" else 1.0)
    weights = torch.where(pixels > 0, weights, torch.zeros_like(weights))
    return (weights / weights[pixels > 0].mean()).float()
