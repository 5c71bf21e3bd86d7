"""Pictures of a run: curves, confusion matrices, best and worst samples, a sheet of augmented crops."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from geounet.datasets.labels import LabelCodes
from geounet.datasets.load import DataSet, Sample
from geounet.evaluation.confusion_plot import pyplot
from geounet.evaluation.network_scores import logits_of, score_samples
from geounet.model.bundle import Normalisation
from geounet.train.augment.colours import Augmenter
from geounet.train.config import TrainConfig
from geounet.train.sampler import CropSampler

Picture = npt.NDArray[np.uint8]
CELL = 256


def write_curves(path: Path, log: list[dict[str, float]]) -> None:
    """Loss and mean IoU against the step."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    steps = [row["step"] for row in log]
    left.plot(steps, [row["loss"] for row in log])
    left.set(xlabel="step", ylabel="training loss")
    for key in sorted({k for row in log for k in row if k.endswith("miou")}):
        right.plot(steps, [row.get(key, np.nan) for row in log], label=key)
    right.set(xlabel="step", ylabel="mean IoU, validation", ylim=(0, 1))
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def write_gallery(
    path: Path, network: nn.Module, data: DataSet, config: TrainConfig, normalisation: Normalisation, each: int = 4
) -> None:
    """The best and the worst validation samples of each source: image, label, prediction; nothing without samples."""
    rows = []
    for source in data.sources:
        ranked = sorted(
            source.val, key=lambda s: score_samples(network, [s], data.codes, normalisation).confusion.accuracy
        )
        shown = ranked if len(ranked) <= 2 * each else [*ranked[-each:], *ranked[:each]]
        rows += [_row(network, sample, data.codes, config, normalisation) for sample in shown]
    if rows:
        Image.fromarray(np.concatenate(rows)).save(path)


def _row(
    network: nn.Module, sample: Sample, codes: LabelCodes, config: TrainConfig, normalisation: Normalisation
) -> Picture:
    image = sample.image[:, :768, :768]
    predicted = logits_of(network, image, normalisation).argmax(0).numpy() + 1
    parts = (as_rgb(image), painted(sample.codes[:768, :768].numpy(), codes, config), painted(predicted, codes, config))
    return np.concatenate([_cell(p) for p in parts], axis=1)


def write_contact_sheet(path: Path, config: TrainConfig, data: DataSet, rows: int = 6, columns: int = 4) -> None:
    """Augmented crops as training sees them, each beside its label."""
    sampler = CropSampler(data, config.sampling, config.augment, config.seed)
    augmenter = Augmenter(config.augment, sampler, config.seed)
    cells: list[Picture] = []
    step = 0
    while len(cells) < rows * columns:
        batch = sampler.batch(step)
        images, codes = augmenter(batch.images, batch.codes, step)
        cells += [
            np.concatenate([_cell(as_rgb(i)), _cell(painted(c.numpy(), data.codes, config))], axis=1)
            for i, c in zip(images, codes, strict=True)
        ]
        step += 1
    lines = [np.concatenate(cells[r * columns : (r + 1) * columns], axis=1) for r in range(rows)]
    Image.fromarray(np.concatenate(lines)).save(path)


def as_rgb(image: torch.Tensor) -> Picture:
    """The first three bands (or the first, three times) as (rows, columns, 3)."""
    bands = image[:3] if image.shape[0] >= 3 else image[:1].repeat(3, 1, 1)
    return np.ascontiguousarray(bands.permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy())


def painted(label: npt.NDArray[Any], codes: LabelCodes, config: TrainConfig) -> Picture:
    """Label codes in the legend's colours, either-or labels in the mean of theirs, ignored pixels black."""
    colours = np.array([c.color for c in config.legend], dtype=np.float64)
    table = np.array([colours[sorted(s)].mean(axis=0) for s in codes.sets])
    table[0] = 0
    out: Picture = table.astype(np.uint8)[label]
    return out


def _cell(picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.NEAREST))
