"""An adapter in the network's graph: one 1 x 1 convolution a stage, their enlarged sum added to the base's logits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geounet.model.adapters.file import NEW_CLASS, Float32
from geounet.model.adapters.stages import enlarged_sum


class AdapterLayers(nn.Module):
    """The base's stages and logits (n, its classes, rows, columns) to logits (n, classes, rows, columns)."""

    bias: Tensor

    def __init__(
        self,
        weight: Float32,
        bias: Float32,
        starts: Sequence[Sequence[int]],
        channels: Sequence[int],
        temperature: float,
    ) -> None:
        super().__init__()
        self.starts = tuple(tuple(start) for start in starts)
        self.temperature = temperature
        self.count = len(channels)
        parts = torch.split(torch.from_numpy(weight.copy()), list(channels), dim=1)
        for index, part in enumerate(parts):
            self.register_buffer(f"weight{index}", part[:, :, None, None].contiguous())
        self.register_buffer("bias", torch.from_numpy(bias.copy()).view(1, -1, 1, 1))

    def forward(self, stages: Sequence[Tensor], logits: Tensor) -> Tensor:
        """See the class."""
        size = (int(logits.shape[2]), int(logits.shape[3]))
        added = [F.conv2d(stage, self.get_buffer(f"weight{index}")).float() for index, stage in enumerate(stages)]
        return (prior(logits, self.starts) + (enlarged_sum(added, size) + self.bias)) / self.temperature


def prior(logits: Tensor, starts: Sequence[Sequence[int]]) -> Tensor:
    """What each class starts from (n, classes, ...), of the base's logits (n, its classes, ...).

    A class that the base knows starts from its logit, several merged from their sum of probabilities, a new one from
    a small share of all.
    """
    if [list(start) for start in starts] == [[index] for index in range(logits.shape[1])]:
        return logits
    return torch.stack([_start(logits, start) for start in starts], dim=1)


def _start(logits: Tensor, start: Sequence[int]) -> Tensor:
    if len(start) == 1:
        return logits[:, start[0]]
    if not start:
        return torch.logsumexp(logits, dim=1) + NEW_CLASS
    return torch.logsumexp(torch.stack([logits[:, index] for index in start], dim=1), dim=1)
