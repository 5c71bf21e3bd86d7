"""Self-training: a bundle labels images that have partial labels, or none, for the next run to learn from.

The recipe of Lee (2013, "Pseudo-label"), with two things that make the labels better than one prediction: images of
the same ground (`group`: other years, other renderings) are predicted each and averaged, so that what holds only
under one rendering does not become a label; and what the partial labels rule out is taken away.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from geounet.datasets.config import SourceConfig
from geounet.datasets.images import read_image
from geounet.datasets.labels import IGNORE, LabelCodes
from geounet.datasets.load import Sample, load_data
from geounet.errors import TrainingError
from geounet.evaluation.predictor import Predictor, chip_size_for
from geounet.model.bundle import ModelBundle
from geounet.train.config import TrainConfig

Float32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
AGREEMENT = 0.5
"""Least probability that a bundle must give to the classes that a label allows."""


@dataclass(frozen=True)
class PseudoLabels:
    """What was written: the folder, images, the share of pixels that got each class, and what `classes` must say."""

    folder: Path
    images: int
    shares: dict[str, float]
    classes: dict[str, str]


def write_pseudo_labels(
    bundle: ModelBundle,
    config: TrainConfig,
    data_folder: Path,
    source_name: str,
    out: Path,
    *,
    confidence: float = 0.8,
    tta: str = "d4",
    on_image: Callable[[int, int], None] | None = None,
) -> PseudoLabels:
    """Label the training images of one source with `bundle`; write one PNG an image into `out`, a new folder.

    A pixel gets the likeliest class that its label allows, where that has at least `confidence` among the allowed ones
    and the bundle does not contradict the label; elsewhere it keeps the label it had. So do validation images and those
    in a gap, whose labels are written as they were: the next run can split the folder in the same way. Raises
    TrainingError for a source that is not there, another legend, a source that is coarsened on reading, two images
    whose labels would be one file, or a folder that exists.
    """
    source_config = _source_of(config, source_name)
    _check(bundle, config, source_config, out)
    data = load_data(config.model_copy(update={"source": (source_config,), "init": bundle.card.name}), data_folder)
    source = data.sources[0]
    _check_names((*source.train, *source.val, *source.gap))
    predictor = Predictor(bundle, tta=tta, chip_size=chip_size_for(source.train, bundle.card.chip_size))
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    counts = np.zeros(len(data.codes.sets), dtype=np.int64)
    done = 0
    for members in source.groups:
        for sample, p in zip(members, _probabilities(predictor, members), strict=True):
            path = data_folder / source_config.images / sample.name
            valid = read_image(path, source_config.bands, len(config.bands)).valid
            labels = np.where(valid, pseudo_label(p, sample.codes.numpy(), data.codes, confidence), np.uint8(IGNORE))
            counts += np.bincount(labels.ravel(), minlength=len(counts))
            _write(part, sample, labels)
            done += 1
            if on_image:
                on_image(done, len(source.train))
    for sample in (*source.val, *source.gap):
        _write(part, sample, sample.codes.numpy())
    part.rename(out)
    told = [data.codes.describe(code) for code in range(len(counts))]
    shares = {name: float(n / counts.sum()) for name, n in zip(told, counts, strict=True) if n}
    return PseudoLabels(out, done, shares, {str(code): name for code, name in enumerate(told)})


def _write(folder: Path, sample: Sample, labels: Codes) -> None:
    path = (folder / sample.name).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def pseudo_label(p: Float32, known: Codes, codes: LabelCodes, confidence: float) -> Codes:
    """Label codes (rows, columns) from probabilities `p` (classes, rows, columns) and the codes `known` before.

    The probability of the classes that a label rules out is taken away and the rest scaled to one (Bayes' rule, the
    label taken as certain). Where less than half was left, the bundle contradicts the label and is not asked to choose
    among what it does not believe in: the label stays.
    """
    allowed = np.moveaxis(codes.allowed[known], -1, 0)
    left = np.where(allowed, p, np.float32(0))
    best = left.argmax(axis=0).astype(np.uint8)
    total = left.sum(axis=0)
    sure = (total >= AGREEMENT) & (left.max(axis=0) >= confidence * total)
    return np.where(sure, best + np.uint8(1), known).astype(np.uint8)


def _probabilities(predictor: Predictor, members: tuple[Sample, ...]) -> list[Float32]:
    """A prediction for each image of a group: their mean where all have one size, else each its own."""
    each = [predictor.probabilities(sample.image.numpy()) for sample in members]
    if len({p.shape for p in each}) > 1:
        return each
    return [np.mean(each, axis=0, dtype=np.float32)] * len(each)


def _source_of(config: TrainConfig, name: str) -> SourceConfig:
    for source in config.source:
        if source.name == name:
            return source
    raise TrainingError(f"no source '{name}' in the configuration, but {', '.join(s.name for s in config.source)}")


def _check(bundle: ModelBundle, config: TrainConfig, source: SourceConfig, out: Path) -> None:
    names = tuple(c.name for c in bundle.card.legend)
    if names != config.class_names:
        raise TrainingError(f"{bundle.card.name} knows {', '.join(names)}, the configuration has another legend")
    if source.reduce > 1:
        raise TrainingError(f"source '{source.name}' is coarsened on reading (reduce): coarsen its images first")
    if out.exists():
        raise TrainingError(f"{out} exists: give a new folder, or delete it")


def _check_names(samples: Sequence[Sample]) -> None:
    """The labels of `a.tif` and `a.jpg` would both be `a.png`, and one of them lost."""
    first: dict[Path, str] = {}
    for sample in samples:
        other = first.setdefault(Path(sample.name).with_suffix(".png"), sample.name)
        if other != sample.name:
            raise TrainingError(f"{other} and {sample.name} differ in their suffix alone: rename one of them")
