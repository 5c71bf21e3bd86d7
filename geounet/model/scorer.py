"""The network with everything around it that belongs in its graph: counts in, probabilities out."""

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from geounet.errors import BundleError
from geounet.model.adapters.file import read_adapter
from geounet.model.adapters.layers import AdapterLayers
from geounet.model.adapters.stages import channels_of, run_stages
from geounet.model.architectures import build_network

if TYPE_CHECKING:
    from geounet.model.bundle import ModelBundle

_MULTIPLE = 32
"""Five halvings: the encoder wants sides that are multiples of this."""


class Scorer(nn.Module):
    """Counts on 0-255, float32 (n, bands, chip, chip), to probabilities, float32 (n, classes, chip, chip).

    Normalises, enlarges by `upsample` for a network trained on finer imagery (or shrinks, to see more ground), runs the
    network, divides the logits by the calibration temperature, and brings the probabilities back to the chip's grid. Of
    an adapter the base's network runs, and the adapter's layers add to its logits.
    """

    mean: torch.Tensor
    std: torch.Tensor
    shrinking: torch.Tensor

    def __init__(self, bundle: "ModelBundle", chip_size: int, upsample: float = 1.0) -> None:
        super().__init__()
        base = bundle.base or bundle
        self.network = build_network(base)
        self.temperature = base.card.temperature
        self.adapter = _adapter_layers(bundle, self.network) if bundle.base is not None else None
        self.chip_size = chip_size
        self.inner_size = _MULTIPLE * math.ceil(chip_size * upsample / _MULTIPLE - 1e-6)
        self.register_buffer("mean", torch.tensor(bundle.card.normalisation.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(bundle.card.normalisation.std).view(1, -1, 1, 1))

        if self.inner_size < chip_size:
            self.register_buffer("shrinking", shrinking(chip_size, self.inner_size))

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.prepared(counts)
        if self.adapter is None:
            logits = self.network(x).float() / self.temperature
        else:
            stages, scores = run_stages(self.network, x)
            logits = self.adapter(stages, scores.float() / self.temperature)
        probabilities = torch.softmax(logits, dim=1)
        if self.inner_size != self.chip_size:
            probabilities = F.interpolate(
                probabilities, size=(self.chip_size, self.chip_size), mode="bilinear", align_corners=False
            )
        return probabilities

    def prepared(self, counts: torch.Tensor) -> torch.Tensor:
        """What the network sees of counts: normalised, enlarged or shrunk."""
        x = (counts - self.mean) / self.std
        if self.inner_size < self.chip_size:
            x = self.shrinking @ x @ self.shrinking.T
        elif self.inner_size > self.chip_size:
            x = F.interpolate(x, size=(self.inner_size, self.inner_size), mode="bilinear", align_corners=False)
        return x


class StageScorer(Scorer):
    """Counts on 0-255 to the outputs of the network's stages and, last, its logits divided by the temperature."""

    def forward(self, counts: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        """See the class."""
        stages, logits = run_stages(self.network, self.prepared(counts))
        return (*stages, logits.float() / self.temperature)


def shrinking(size: int, smaller: int) -> torch.Tensor:
    """The matrix (smaller, size) that resamples a row without aliasing; two products of it shrink an image.

    As a product it converts to every runtime, which an antialiased interpolation does not.
    """
    rows: torch.Tensor = F.interpolate(
        torch.eye(size)[None, None], size=(smaller, size), mode="bilinear", antialias=True, align_corners=False
    )
    return rows[0, 0]


def _adapter_layers(bundle: "ModelBundle", network: nn.Module) -> AdapterLayers:
    """The layers of an adapter for its base's `network`. Raises BundleError where they do not fit it."""
    assert bundle.card.adapter is not None
    weight, bias = read_adapter(bundle.weights_path, len(bundle.card.legend))
    channels = channels_of(network, len(bundle.bands))
    if weight.shape[1] != sum(channels):
        raise BundleError(
            f"{bundle.weights_path} has {weight.shape[1]} values a class, the network of "
            f"'{bundle.card.adapter.base.name}' gives {sum(channels)}: it was made for another network"
        )
    return AdapterLayers(weight, bias, bundle.card.adapter.starts, channels, bundle.card.temperature)
