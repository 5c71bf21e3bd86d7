"""The mean of bundles, scored again: `python -m geounet.train.average CONFIG DATA OUT BUNDLE BUNDLE...`

Bundles of one lineage (one fine-tuned from the other) can be averaged weight by weight; the mean often keeps what each
does well (Wortsman et al. 2022, "Model soups"). The card is the last bundle's, with temperature and scores of the mean.
"""

import sys
from pathlib import Path

import torch

from geounet.datasets.load import load_validation
from geounet.errors import TrainingError
from geounet.evaluation.network_scores import score_samples
from geounet.model.architectures import build_network
from geounet.model.bundle import ModelBundle, save_bundle
from geounet.train.calibrate import fit_temperature
from geounet.train.card import readme_of
from geounet.train.config import load_config


def mean_state(bundles: list[ModelBundle]) -> dict[str, torch.Tensor]:
    """Weight by weight mean. Raises TrainingError where the bundles are not of one kind."""
    first = bundles[0].card
    for bundle in bundles[1:]:
        if (bundle.card.architecture, bundle.legend, bundle.bands) != (
            first.architecture,
            bundles[0].legend,
            first.bands,
        ):
            raise TrainingError(f"{bundle.folder} has another architecture, legend or bands than {bundles[0].folder}")
    states = [b.state_dict() for b in bundles]
    return {key: torch.stack([s[key].float() for s in states]).mean(dim=0) for key in states[0]}


def average(config_path: Path, data_folder: Path, out: Path, folders: list[str], command: str) -> ModelBundle:
    """Write the mean of `folders` to `out`, scored on the validation parts of a configuration."""
    bundles = [ModelBundle.load(f) for f in folders]
    config, last = load_config(config_path), bundles[-1].card
    data = load_validation(config, data_folder)
    network = build_network(bundles[-1])
    network.load_state_dict(mean_state(bundles), strict=False)
    told = [s for s in data.sources if s.val]
    temperature = fit_temperature(network, [s.val for s in told], data.codes, last.normalisation, config.seed)
    scores = [
        score_samples(network, s.val, data.codes, last.normalisation, temperature, s.name).card(
            f"{s.name}, val: {s.config.held_out or f'{len(s.val)} images'}"
        )
        for s in told
    ]
    card = last.model_dump(mode="json", exclude={"weights"})
    card |= {"temperature": temperature, "scores": [s.model_dump(mode="json") for s in scores]}
    card["training"]["command"] = command
    return save_bundle(out, card, network.state_dict(), readme_of(card))


if __name__ == "__main__":
    average(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:], " ".join(sys.argv))
