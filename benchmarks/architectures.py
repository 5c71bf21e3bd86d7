"""Train variants of one configuration for the same number of steps and print a table.

    python benchmarks/architectures.py CONFIG.toml --data DATA --steps 300 [--only unet,plain-unet]

Every variant sees the same crops (same seed); mIoU is that of the averaged weights at the best validation, speed is
torch in float32 on this machine's CPU, the median of five forwards of 4 x 512 x 512.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geounet.datasets.load import load_data
from geounet.model.architectures import build_architecture
from geounet.model.bundle import Architecture
from geounet.train.card import normalisation_of
from geounet.train.config import AugmentConfig, TrainConfig, load_config
from geounet.train.fit import fit
from geounet.train.run import start_network

WIDE = {"decoder_channels": [128, 64, 48, 32, 16]}


def variants(base: TrainConfig) -> dict[str, TrainConfig]:
    """Name -> configuration; each differs from `base` in what its name says."""

    def plain(**arguments: Any) -> dict[str, Any]:
        return {"init": "scratch", "architecture": Architecture(name="plain-unet", arguments=arguments)}

    unet = {"init": "imagenet", "architecture": Architecture(arguments=WIDE)}
    changes: dict[str, dict[str, Any]] = {
        "unet": unet,
        "unet, from scratch": unet | {"init": "scratch"},
        "unet, scse attention": unet
        | {"architecture": Architecture(arguments=WIDE | {"decoder_attention_type": "scse"})},
        "fpn": {"init": "imagenet", "architecture": Architecture(name="fpn")},
        "plain-unet 16-128": plain(filters=[16, 32, 64, 128]),
        "plain-unet 32-256": plain(filters=[32, 64, 128, 256]),
        "plain-unet 16-128, no skips": plain(filters=[16, 32, 64, 128], skips=False),
        "unet, no augmentation": unet | {"augment": AugmentConfig.off()},
        "unet, no class balance": unet
        | {
            "sampling": base.sampling.model_copy(update={"balanced": 0.0}),
            "loss": base.loss.model_copy(update={"class_weights": "none"}),
        },
    }
    return {name: base.model_copy(update=change) for name, change in changes.items()}


def speed(network: nn.Module) -> float:
    """Megapixels a second."""
    x = torch.randn(4, 3, 512, 512).contiguous(memory_format=torch.channels_last)
    network = network.eval().to(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(6):
            began = time.perf_counter()
            network(x)
            times.append(time.perf_counter() - began)
    return 4 * 512 * 512 / statistics.median(times[1:]) / 1e6


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", default="", help="variants to run, separated by semicolons")
    parser.add_argument("--speed-only", action="store_true", help="parameters and speed, no training")
    arguments = parser.parse_args()
    base = load_config(arguments.config)
    schedule = base.schedule.model_copy(update={"steps": arguments.steps, "validate_every": arguments.steps})
    wanted = [n.strip() for n in arguments.only.split(";") if n.strip()]
    data = None if arguments.speed_only else load_data(base, arguments.data)
    print("| variant | parameters | Mpx/s | mIoU by source |\n|---|---|---|---|")
    for name, config in variants(base.model_copy(update={"schedule": schedule})).items():
        if wanted and name not in wanted:
            continue
        torch.manual_seed(config.seed)
        network = build_architecture(config.architecture, len(config.bands), len(config.legend))
        size, rate, scores = sum(p.numel() for p in network.parameters()), speed(network), ""
        if data is not None:
            with tempfile.TemporaryDirectory() as folder:
                normalisation = normalisation_of(len(config.bands))
                run = fit(config, data, start_network(config), normalisation, Path(folder))
            scores = ", ".join(f"{s.name} {run.log[-1][s.name + '.miou']:.3f}" for s in data.sources if s.val)
        print(f"| {name} | {size / 1e6:.2f} M | {rate:.2f} | {scores} |", flush=True)


if __name__ == "__main__":
    main()
