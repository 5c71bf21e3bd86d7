"""Scoring a network on labelled samples, whole images at a time, while it trains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geounet.datasets.labels import LabelCodes
from geounet.datasets.load import Sample
from geounet.engines.torch_cpu import mixed_precision
from geounet.evaluation.metrics import Calibration, Confusion
from geounet.model.bundle import Normalisation, Score

STRIDE = 32
LARGEST = 768
"""Images are scored in pieces of at most this many pixels a side."""


@dataclass(frozen=True)
class SourceScore:
    """Scores of one source: confusion over the classes its labels tell apart, calibration."""

    name: str
    confusion: Confusion
    calibration: Calibration

    def card(self, data: str) -> Score:
        """As kept in `model.json`."""
        return Score(
            data=data,
            miou=round(self.confusion.miou, 4),
            iou={n: round(v, 4) for n, v in self.confusion.iou.items()},
            accuracy=round(self.confusion.accuracy, 4),
            calibration_error=round(min(1.0, self.calibration.error), 4),
        )


def normalised(images: Tensor, normalisation: Normalisation) -> Tensor:
    """`normalise.network_input` for tensors: the same formula on (n, bands, h, w)."""
    mean = torch.tensor(normalisation.mean, device=images.device)[:, None, None]
    std = torch.tensor(normalisation.std, device=images.device)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def pieces(sample: Sample) -> Iterator[tuple[Tensor, Tensor]]:
    """A sample's image and codes in pieces that fit memory."""
    rows, cols = sample.codes.shape
    for top in range(0, rows, LARGEST):
        for left in range(0, cols, LARGEST):
            window = (slice(top, top + LARGEST), slice(left, left + LARGEST))
            yield sample.image[(slice(None), *window)], sample.codes[window]


def logits_of(network: nn.Module, image: Tensor, normalisation: Normalisation) -> Tensor:
    """Logits (classes, h, w), float32, of one image (bands, h, w) on 0-255, padded by its own edge and cut again."""
    device = next(network.parameters()).device
    h, w = image.shape[1:]
    pad = (0, -w % STRIDE, 0, -h % STRIDE)
    x = F.pad(normalised(image[None].float().to(device), normalisation), pad, mode="replicate")
    with torch.inference_mode(), mixed_precision(device.type):
        out: Tensor = network(x)
    return out[0, :, :h, :w].float().cpu()


def score_samples(
    network: nn.Module,
    samples: Sequence[Sample],
    codes: LabelCodes,
    normalisation: Normalisation,
    temperature: float = 1.0,
    name: str = "",
) -> SourceScore:
    """Confusion and calibration over `samples`. Either-or labels join their classes, see `scored_groups`."""
    present = sorted({int(c) for s in samples for c in torch.unique(s.codes)})
    groups = codes.scored_groups(present)
    to_group = np.zeros(len(codes.names), dtype=np.int64)
    for index, (_, members) in enumerate(groups):
        to_group[list(members)] = index
    truth_of = np.array([_group_of(codes, code, to_group) for code in range(len(codes.sets))])
    confusion, calibration = Confusion(tuple(n for n, _ in groups)), Calibration()
    network.eval()
    for sample in samples:
        for image, label in pieces(sample):
            p = (logits_of(network, image, normalisation) / temperature).softmax(0)
            joined = torch.zeros(len(groups), *p.shape[1:]).index_add_(0, torch.from_numpy(to_group), p).numpy()
            _count(confusion, calibration, truth_of[label.numpy()], joined)
    return SourceScore(name, confusion, calibration)


def _group_of(codes: LabelCodes, code: int, to_group: npt.NDArray[np.int64]) -> int:
    members = {int(to_group[i]) for i in codes.sets[code]}
    return members.pop() if len(members) == 1 else -1


def _count(
    confusion: Confusion, calibration: Calibration, truth: npt.NDArray[np.int64], p: npt.NDArray[np.float32]
) -> None:
    known = truth >= 0
    predicted, confidence = p.argmax(0)[known], p.max(0)[known]
    confusion.add(truth[known], predicted)
    calibration.add(np.clip(confidence, 0, 1), predicted == truth[known])
