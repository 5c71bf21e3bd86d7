"""The training loop: batches, steps, moving average, validation, checkpoints."""

import copy
import csv
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geounet.datasets.load import DataSet
from geounet.engines.torch_cpu import mixed_precision
from geounet.errors import TrainingError
from geounet.evaluation.network_scores import SourceScore, normalised, score_samples
from geounet.model.bundle import Normalisation
from geounet.train.augment.colours import Augmenter
from geounet.train.config import ScheduleConfig, TrainConfig
from geounet.train.loss import SetLoss, weights_of_classes
from geounet.train.sampler import CropSampler
from tiles.durable import replacing

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"


@dataclass(frozen=True)
class Moment:
    """Where a run is, for whoever watches: step of steps, mean loss, last mIoU by source, rate, seconds left.

    `epoch` is how often as many pixels have been drawn as the training part holds: crops overlap and sources have
    weights, so no pixel is seen exactly once in it.
    """

    step: int
    steps: int
    epoch: float
    loss: float
    mious: dict[str, float]
    images_per_second: float
    seconds_left: float


@dataclass
class Run:
    """State of a run; everything that a checkpoint keeps."""

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    best: float = -1.0
    best_step: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path, fingerprint: str) -> None:
        """Write a checkpoint beside the old one and move it into place in one step."""
        state = {
            "fingerprint": fingerprint,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
            "best_step": self.best_step,
            "best_state": self.best_state,
            "log": self.log,
        }
        with replacing(path) as part:
            torch.save(state, part)

    def resume(self, path: Path, fingerprint: str) -> None:
        """Take up a checkpoint. Raises TrainingError where another configuration made it."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["fingerprint"] != fingerprint:
            raise TrainingError(f"{path} belongs to another configuration: give another output folder or --restart")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best, self.best_step = state["step"], state["best"], state["best_step"]
        self.best_state, self.log = state["best_state"], state["log"]


def fit(
    config: TrainConfig,
    data: DataSet,
    network: nn.Module,
    normalisation: Normalisation,
    folder: Path,
    device: str = "cpu",
    on_moment: Callable[[Moment], None] | None = None,
) -> Run:
    """Train `network` and return the run, its `best_state` the averaged weights with the best mean val mIoU.

    Writes `log.csv` and a checkpoint into `folder` at every validation; goes on from a checkpoint that is there, to
    the same result as a run that was never stopped.
    """
    fingerprint = config.model_dump_json()
    run = _start(config, network, device)
    if (folder / CHECKPOINT).is_file():
        run.resume(folder / CHECKPOINT, fingerprint)
    sampler = CropSampler(data, config.sampling, config.augment, config.seed)
    augmenter = Augmenter(config.augment, sampler, config.seed)
    loss = SetLoss(config.loss, data.codes, weights_of_classes(data.train_pixels(), config.loss.class_weights))
    loss = loss.to(device)
    last = config.schedule.steps
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as loader:
        pending = [loader.submit(_load, sampler, augmenter, run.step + i) for i in range(4)]
        watch = _Watch(run.step, last, config.sampling.batch, _epochs_a_step(sampler))
        while run.step < last and not _stalled(run, config.schedule):
            batch = _take(pending, loader, sampler, augmenter, run.step + 4)
            watch.add(_step(run, batch, loss, normalisation, config.schedule, device))
            run.step += 1
            if run.step % config.schedule.validate_every == 0 or run.step == last:
                _validate(run, config, data, normalisation, watch)
                write_log(folder / LOG, run.log)
                run.save(folder / CHECKPOINT, fingerprint)
            if on_moment:
                on_moment(watch.moment(run))
        for future in pending:
            future.cancel()
    return run


def _start(config: TrainConfig, network: nn.Module, device: str) -> Run:
    network = network.to(device).to(memory_format=torch.channels_last)
    plan = config.schedule
    encoder = encoder_of(network)
    inner = list(encoder.parameters()) if encoder is not None else []
    known = {id(p) for p in inner}
    outer = [p for p in network.parameters() if id(p) not in known]
    groups = [{"params": inner, "top": plan.encoder_rate}, {"params": outer, "top": plan.rate}]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, weight_decay=plan.weight_decay)
    return Run(network, copy.deepcopy(network).eval(), optimiser)


def encoder_of(network: nn.Module) -> nn.Module | None:
    """The pretrained part of a network, where it has one."""
    encoder = getattr(network, "encoder", None)
    return encoder if isinstance(encoder, nn.Module) else None


Loaded = tuple[Tensor, Tensor, Tensor]


def _load(sampler: CropSampler, augmenter: Augmenter, step: int) -> Loaded:
    batch = sampler.batch(step)
    images, codes = augmenter(batch.images, batch.codes, step)
    return images, codes, batch.weights


def _epochs_a_step(sampler: CropSampler) -> float:
    pixels = sum(sample.pixels for source in sampler.sources for sample in source.train)
    return sampler.sampling.batch * sampler.sampling.crop**2 / pixels


def _take(
    pending: list[Future[Loaded]], loader: ThreadPoolExecutor, sampler: CropSampler, augmenter: Augmenter, ahead: int
) -> Loaded:
    pending.append(loader.submit(_load, sampler, augmenter, ahead))
    return pending.pop(0).result()


def rate_at(step: int, plan: ScheduleConfig) -> float:
    """Share of the top rate: linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017)."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _step(
    run: Run, batch: Loaded, loss: SetLoss, normalisation: Normalisation, plan: ScheduleConfig, device: str
) -> float:
    images, codes, weights = (t.to(device, non_blocking=True) for t in batch)
    for group in run.optimiser.param_groups:
        group["lr"] = group["top"] * rate_at(run.step, plan)
    run.network.train()
    encoder = encoder_of(run.network)
    if encoder is not None:
        frozen = run.step < plan.freeze_encoder
        encoder.requires_grad_(not frozen).train(not frozen)
    with mixed_precision(device):
        logits = run.network(normalised(images, normalisation))
    value = loss(logits, codes, weights)
    if not bool(torch.isfinite(value)):
        raise TrainingError(f"the loss is not a number at step {run.step}: lower schedule.rate")
    run.optimiser.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(run.network.parameters(), plan.clip)
    run.optimiser.step()
    _average(run, plan.ema)
    return float(value.detach())


@torch.no_grad()
def _average(run: Run, decay: float) -> None:
    """Exponential moving average of weights and batch statistics; a short memory at first, so that it can start."""
    decay = min(decay, (1 + run.step) / (10 + run.step))
    for old, new in zip(run.average.state_dict().values(), run.network.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


def _validate(run: Run, config: TrainConfig, data: DataSet, normalisation: Normalisation, watch: "_Watch") -> None:
    scores = validation_scores(run.average, data, normalisation)
    watch.mious = {s.name: s.confusion.miou for s in scores}
    mean = sum(watch.mious.values()) / len(watch.mious) if watch.mious else 0.0
    row = {"step": float(run.step), "loss": watch.take_loss(), "miou": mean}
    for score in scores:
        row[f"{score.name}.miou"] = score.confusion.miou
        row |= {f"{score.name}.{n}": v for n, v in score.confusion.iou.items()}
    run.log.append(row)
    if mean >= run.best or config.schedule.keep == "last":
        run.best, run.best_step = mean, run.step
        run.best_state = {k: v.detach().cpu().clone() for k, v in run.average.state_dict().items()}


def validation_scores(network: nn.Module, data: DataSet, normalisation: Normalisation) -> list[SourceScore]:
    """A score for each source that has a validation part."""
    return [
        score_samples(network, s.val, data.codes, normalisation, name=s.name) for s in data.sources if len(s.val) > 0
    ]


def _stalled(run: Run, plan: ScheduleConfig) -> bool:
    if plan.patience is None or not run.log:
        return False
    return run.step - run.best_step >= plan.patience * plan.validate_every


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """One row a validation, as CSV."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({k: round(v, 5) for k, v in row.items()} for row in rows)


class _Watch:
    """Mean loss, rate and time left."""

    def __init__(self, step: int, steps: int, batch: int, epochs_a_step: float) -> None:
        self.first, self.steps, self.size, self.epochs_a_step = step, steps, batch, epochs_a_step
        self.began, self.losses, self.recent = time.monotonic(), [0.0], 0.0
        self.losses.clear()
        self.mious: dict[str, float] = {}

    def add(self, loss: float) -> None:
        """Another step's loss."""
        self.losses.append(loss)
        self.recent = sum(self.losses[-20:]) / len(self.losses[-20:])

    def take_loss(self) -> float:
        """Mean loss since last asked."""
        mean = sum(self.losses) / max(1, len(self.losses))
        self.losses.clear()
        return mean

    def moment(self, run: Run) -> Moment:
        """Now."""
        done = run.step - self.first
        rate = done / max(1e-6, time.monotonic() - self.began)
        left = (self.steps - run.step) / max(rate, 1e-6)
        epoch = run.step * self.epochs_a_step
        return Moment(run.step, self.steps, epoch, self.recent, dict(self.mious), rate * self.size, left)
