"""The card of a trained bundle: what `model.json` and its README say."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geounet.datasets.load import DataSet, Source
from geounet.model.bundle import DataSource, ModelCard, Normalisation, Quantiles, Score, Training
from geounet.model.stretch import LEVELS
from geounet.train.config import TrainConfig

IMAGENET = (127.0, 128.0)
"""Mean and std that the EfficientNet-Lite encoders were trained with, on the 0-255 scale."""


def normalisation_of(bands: int) -> Normalisation:
    """What encoders of this family want, a value a band."""
    return Normalisation(mean=(IMAGENET[0],) * bands, std=(IMAGENET[1],) * bands)


def training_quantiles(data: DataSet) -> Quantiles:
    """Quantiles of the training imagery a band, each source weighted by its share of the crops."""
    rng = np.random.default_rng(0)
    total = sum(s.config.weight for s in data.sources if s.train)
    bands: list[list[torch.Tensor]] = []
    for source in data.sources:
        if not source.train:
            continue
        wanted = int(2_000_000 * source.config.weight / total / len(source.train))
        for sample in source.train:
            flat = sample.image.flatten(1)
            bands.append(list(flat[:, torch.from_numpy(rng.integers(flat.shape[1], size=max(1, wanted)))]))
    values = [np.quantile(torch.cat(parts).numpy(), LEVELS) for parts in zip(*bands, strict=True)]
    return Quantiles(levels=LEVELS, values=tuple(tuple(round(float(v), 1) for v in row) for row in values))


def card_of(
    config: TrainConfig,
    data: DataSet,
    scores: Sequence[Score],
    temperature: float,
    command: str,
) -> dict[str, Any]:
    """The fields of `ModelCard` without the weights' fingerprint, as plain values."""
    sources = [part for s in data.sources for part in data_sources_of(s)]
    training = Training(
        sources=tuple(sources),
        config=config.model_dump(mode="json", exclude={"legend", "description"}),
        seed=config.seed,
        commit=_commit(),
        command=command,
    )
    return {
        "name": config.name,
        "version": config.version,
        "description": config.description,
        "licence": config.licence,
        "architecture": config.architecture.model_dump(mode="json"),
        "bands": config.bands,
        "normalisation": normalisation_of(len(config.bands)).model_dump(mode="json"),
        "quantiles": training_quantiles(data).model_dump(mode="json"),
        "legend": [c.model_dump(mode="json") for c in config.legend],
        "gsd_m": config.gsd_m,
        "context_gsd_m": config.context_gsd_m,
        "chip_size": config.chip_size,
        "overlap": config.overlap,
        "temperature": temperature,
        "training": training.model_dump(mode="json"),
        "scores": [s.model_dump(mode="json") for s in scores],
    }


def data_sources_of(source: Source) -> tuple[DataSource, ...]:
    """What a source's licences ask to say: its own words, then those of each of its places."""
    held_out = source.config.held_out or _held_out(len(source.val), len(source.train))
    own = DataSource(
        name=source.name, licence=source.config.licence, attribution=source.config.attribution, held_out=held_out
    )
    return own, *(
        DataSource(
            name=f"{source.name}: {', '.join(c.places)}",
            licence=c.licence,
            attribution=c.attribution,
            held_out=held_out,
        )
        for c in source.credits
    )


def _held_out(val: int, train: int) -> str:
    return f"{val} of {val + train} images" if val else "nothing"


def _commit() -> str:
    """The repository's commit where this file lies in one; empty for an installed package."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def readme_of(card: dict[str, Any], notes: str = "") -> str:
    """The model card for people, in Markdown, from the fields that `card_of` gives."""
    full = ModelCard.model_validate({**card, "weights": {"sha256": "0" * 64}})
    lines = [
        f"# {full.name}",
        "",
        full.description,
        "",
        f"Bands: {', '.join(full.bands)}. Trained on imagery of {full.gsd_m[0]:g}-{full.gsd_m[1]:g} m. "
        f"{full.architecture.name} on `{full.architecture.encoder}`. Licence of the weights: {full.licence}.",
        "",
        "| value | class | colour |",
        "|---|---|---|",
        *(f"| {c.value} | {c.name} | #{bytes(c.color).hex()} |" for c in full.legend),
        "",
        "## Scores on areas left out of training",
        "",
        *_score_table(full.scores),
        "",
        f"The network's scores are divided by a fitted temperature of {full.temperature:g} before the softmax.",
        "",
        *([notes, ""] if notes else []),
        "## Data, licences, attributions",
        "",
        *(
            f"- **{s.name}**: {s.attribution or 'no attribution given'}. Licence: {s.licence or 'not stated'}. "
            f"Left out of training: {s.held_out or 'nothing'}."
            for s in full.training.sources
        ),
        "",
        "## Made again by",
        "",
        f"    {full.training.command}",
        "",
        f"Seed {full.training.seed}, commit {full.training.commit or 'unknown'}; the configuration is in `model.json`.",
        "",
    ]
    return "\n".join(lines)


def _score_table(scores: Sequence[Score]) -> list[str]:
    if not scores:
        return ["None: every image was used for training."]
    lines = ["| data | mean IoU | accuracy | calibration error | IoU by class |", "|---|---|---|---|---|"]
    for s in scores:
        by_class = ", ".join(f"{n} {v:.2f}" for n, v in s.iou.items()).replace("|", "\\|")
        lines.append(
            f"| {s.data} | {s.miou:.3f} | {_number(s.accuracy)} | {_number(s.calibration_error)} | {by_class} |"
        )
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
