"""A bundle to ship: `python -m geounet.train.release CONFIG DATA OUT NOTES REPORT TEMPERATURE BUNDLE...`

The mean of the bundles, with the card of CONFIG. What it was trained on cannot say how it travels, so its first score
is that of REPORT: `report.json` of `geounet evaluate` for a run of the same recipe that left places out. TEMPERATURE
was fitted there too. NOTES is Markdown for the model card.
"""

import json
import sys
from pathlib import Path

from geounet.datasets.load import load_data
from geounet.errors import TrainingError
from geounet.evaluation.network_scores import score_samples
from geounet.model.architectures import build_network
from geounet.model.bundle import ModelBundle, Score, save_bundle
from geounet.train.average import mean_state
from geounet.train.card import card_of, readme_of
from geounet.train.config import load_config


def scores_of_places(report: Path, title: str) -> tuple[Score, ...]:
    """The scores of a `report.json` that were made on places; `title` says what was left out.

    Raises TrainingError where the report has none, or where the bundle that was scored had learned one of them.
    """
    found = [r for r in json.loads(report.read_text(encoding="utf-8")) if r["places"]]
    if not found:
        raise TrainingError(f"{report} has no score of places: evaluate a bundle whose configuration leaves places out")
    learned = [p["place"] for r in found for p in r["places"] if p["trained_on"]]
    if learned:
        raise TrainingError(f"{report}: {learned[0]} was trained on: this is no score of places left out")
    return tuple(
        Score(
            data=title,
            miou=round(r["miou"], 4),
            iou={name: round(c["iou"], 4) for name, c in r["classes"].items() if c["iou"] is not None},
            accuracy=round(r["accuracy"], 4),
            calibration_error=round(r["calibration_error"], 4),
        )
        for r in found
    )


def release(
    config_path: Path,
    data_folder: Path,
    out: Path,
    notes: Path,
    report: Path,
    temperature: float,
    folders: list[str],
    command: str,
) -> ModelBundle:
    """Write the bundle; see the module."""
    config = load_config(config_path)
    data = load_data(config, data_folder)
    bundles = [ModelBundle.load(folder) for folder in folders]
    network = build_network(bundles[0])
    network.load_state_dict(mean_state(bundles), strict=False)
    normalisation = bundles[0].card.normalisation
    left_out = scores_of_places(report, "places left out of training altogether, by a run of the same recipe")
    own = [
        score_samples(network, s.val, data.codes, normalisation, temperature, s.name).card(
            f"{s.name}, val: {s.config.held_out or f'{len(s.val)} images'}"
        )
        for s in data.sources
        if s.val
    ]
    card = card_of(config, data, (*left_out, *own), temperature, command)
    return save_bundle(out, card, network.state_dict(), readme_of(card, notes.read_text(encoding="utf-8").strip()))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    config, data, out, notes, report = (Path(text) for text in arguments[:5])
    command = " ".join(["python -m geounet.train.release", *arguments])
    release(config, data, out, notes, report, float(arguments[5]), arguments[6:], command)
