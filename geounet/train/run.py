"""`geounet train`: from a configuration to a bundle, on one screen."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from geounet.datasets.load import DataSet, load_data
from geounet.errors import BundleError, TrainingError
from geounet.evaluation.confusion_plot import write_confusion
from geounet.evaluation.network_scores import SourceScore, score_samples
from geounet.model.architectures import build_architecture, build_network, load_pretrained_encoder
from geounet.model.bundle import ModelBundle, Normalisation, Score, save_bundle
from geounet.train.calibrate import fit_temperature
from geounet.train.card import card_of, normalisation_of, readme_of
from geounet.train.config import TrainConfig, load_config
from geounet.train.depthwise import depthwise_in_float32
from geounet.train.fit import CHECKPOINT, LOG, Moment, Run, fit
from geounet.train.pictures import write_curves, write_gallery

BUNDLE = "bundle"


@dataclass(frozen=True)
class Trained:
    """A finished run: the bundle, the scores on the validation part of each source."""

    bundle: ModelBundle
    scores: tuple[Score, ...]


def train(
    config_path: Path,
    data_folder: Path,
    out: Path,
    *,
    device: str = "auto",
    restart: bool = False,
    on_moment: Callable[[Moment], None] | None = None,
) -> Trained:
    """Train as `config_path` says on data below `data_folder`; write bundle, logs and pictures into `out`.

    The same call goes on with an interrupted run to the same result. Raises TrainingError for configuration and
    data, BundleError for an `init` that cannot be had.
    """
    config = load_config(config_path)
    device = chosen_device(device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    torch.manual_seed(config.seed)
    data = load_data(config, data_folder)
    out.mkdir(parents=True, exist_ok=True)
    if restart:
        (out / CHECKPOINT).unlink(missing_ok=True)
    network = start_network(config)
    normalisation = normalisation_of(len(config.bands))
    run = fit(config, data, network, normalisation, out, device, on_moment)
    command = f"geounet train {shlex.quote(config_path.name)} --data DATA"
    return finish(config, data, run, normalisation, out, command)


def chosen_device(name: str) -> str:
    """`auto` as cuda where there is one, else cpu. Raises TrainingError for a device that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError("no CUDA device here: leave --device out, or give --device cpu")
    return name


def start_network(config: TrainConfig) -> nn.Module:
    """The network a run begins with: pretrained encoder, nothing at all, or a bundle with another legend."""
    network = build_architecture(config.architecture, len(config.bands), len(config.legend))
    if config.init == "imagenet":
        load_pretrained_encoder(network, config.architecture.encoder)
    elif config.init != "scratch":
        _take_over(network, ModelBundle.load(config.init), config)
    return depthwise_in_float32(network)


def _take_over(network: nn.Module, bundle: ModelBundle, config: TrainConfig) -> None:
    """Weights of a bundle; the head's rows go to the classes of the same name, new classes begin afresh."""
    if bundle.card.architecture != config.architecture or bundle.bands != config.bands:
        raise BundleError(
            f"init = '{config.init}': that bundle is {bundle.card.architecture.name} on "
            f"{bundle.card.architecture.encoder} for {', '.join(bundle.bands)}: give the same architecture and bands"
        )
    old, new = build_network(bundle).state_dict(), network.state_dict()
    names = list(bundle.legend.names)
    for key, tensor in new.items():
        if old[key].shape == tensor.shape and not key.startswith("segmentation_head"):
            tensor.copy_(old[key])
        elif key.startswith("segmentation_head"):
            for row, name in enumerate(config.class_names):
                if name in names:
                    tensor[row] = old[key][names.index(name)]
    network.load_state_dict(new)


def finish(
    config: TrainConfig, data: DataSet, run: Run, normalisation: Normalisation, out: Path, command: str
) -> Trained:
    """Fit the temperature, score, write bundle and pictures."""
    network = run.average
    network.load_state_dict(run.best_state or run.average.state_dict())
    network = network.to("cpu").eval()
    told = [s for s in data.sources if s.val]
    temperature = fit_temperature(network, [s.val for s in told], data.codes, normalisation, config.seed)
    found = [score_samples(network, s.val, data.codes, normalisation, temperature, s.name) for s in told]
    scores = tuple(s.card(_title(s, data)) for s in found)
    card = card_of(config, data, scores, temperature, command)
    bundle = save_bundle(out / BUNDLE, card, network.state_dict(), readme_of(card))
    write_curves(out / "curves.png", run.log)
    for score in found:
        write_confusion(out / f"confusion-{score.name}.png", score.confusion)
    write_gallery(out / "gallery.png", network, data, config, normalisation)
    return Trained(bundle, scores)


def _title(score: SourceScore, data: DataSet) -> str:
    source = next(s for s in data.sources if s.name == score.name)
    return f"{source.name}, val: {source.config.held_out or f'{len(source.val)} images'}"


__all__ = ["BUNDLE", "CHECKPOINT", "LOG", "Trained", "chosen_device", "finish", "start_network", "train"]
