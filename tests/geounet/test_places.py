"""Training and scoring by place: what is left out is never seen, and every place counts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from geounet.datasets.config import SourceConfig
from geounet.datasets.labels import IGNORE, LabelCodes
from geounet.datasets.load import Sample, load_data
from geounet.errors import TrainingError
from geounet.evaluation.metrics import Confusion
from geounet.evaluation.report import Report, evaluate_folds, text_of, trained_on
from geounet.model.bundle import ModelBundle, ModelCard, Normalisation
from geounet.train.augment.colours import Augmenter
from geounet.train.card import data_sources_of
from geounet.train.config import AugmentConfig, RecolourConfig, TrainConfig, check_config
from geounet.train.fit import fit
from geounet.train.release import scores_of_places
from geounet.train.sampler import CropSampler, scale_of

LEGEND = [{"value": i + 1, "name": n, "color": [i, i, i]} for i, n in enumerate(("dark", "bright"))]
TONE = {"harbour": 40, "village": 90, "plain": 200}
"""Every place is painted in counts of its own, so that a pixel tells where it came from."""


def paint(folder: Path, places: dict[str, int]) -> None:
    """So many images of each place, and the table that names them."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    rows = ["name,place,gsd_m"]
    for place, count in places.items():
        for index in range(count):
            tone = TONE[place] + rng.integers(0, 8, (48, 48, 3))
            Image.fromarray(tone.astype(np.uint8)).save(folder / f"images/{place}_{index}.png")
            label = np.full((48, 48), 1 + (index % 2), dtype=np.uint8)
            Image.fromarray(label).save(folder / f"labels/{place}_{index}.png")
            rows.append(f"{place}_{index},{place},{0.3 if place == 'harbour' else 1.2}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")


def config_of(*, left_out: list[str], surveys: Any = (), power: float = 0.5) -> TrainConfig:
    source = {
        "name": "places",
        "images": "images",
        "labels": "labels",
        "classes": {"1": "dark", "2": "bright"},
        "gsd_m": [0.3, 1.2],
        "split": {"places": left_out} if left_out else {"none": True},
        "places": {"csv": "index.csv", "gsd_column": "gsd_m", "surveys": surveys},
    }
    record = {
        "name": "t",
        "gsd_m": [0.3, 1.2],
        "legend": LEGEND,
        "source": [source],
        "sampling": {"crop": 32, "batch": 4, "place_power": power},
        "augment": AugmentConfig.off().model_dump(),
        "schedule": {"steps": 6, "warmup": 1, "validate_every": 3, "keep": "last"},
    }
    return check_config(record, "test.toml")


def places_in(images: torch.Tensor) -> set[str]:
    """Which places the pixels of crops come from, by their counts."""
    return {name for name, tone in TONE.items() if bool(((images >= tone) & (images < tone + 8)).any())}


def test_a_left_out_place_is_never_trained_on(tmp_path: Path) -> None:
    paint(tmp_path, {"harbour": 3, "village": 2, "plain": 2})
    config = config_of(left_out=["plain"])
    data = load_data(config, tmp_path)
    (source,) = data.sources
    assert {s.place_name for s in source.train} == {"harbour", "village"}
    assert {s.place_name for s in source.val} == {"plain"}

    seen: set[str] = set()

    class Watched(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.update(places_in((x * 128 + 127).round()))
            return super().forward(x)

    torch.manual_seed(0)
    normalisation = Normalisation(mean=(127.0,) * 3, std=(128.0,) * 3)
    run = fit(config, data, nn.Sequential(Watched(3, 2, 1)), normalisation, tmp_path)
    assert seen == {"harbour", "village"}
    assert run.best_step == 6  # the last step's weights: nothing left out has chosen them


def test_places_of_one_survey_are_left_out_together(tmp_path: Path) -> None:
    paint(tmp_path, {"harbour": 2, "village": 1, "plain": 1})
    (source,) = load_data(config_of(left_out=["village"], surveys=[["village", "plain"]]), tmp_path).sources
    assert {s.place_name for s in source.train} == {"harbour"}
    assert {s.place_name for s in source.val} == {"village", "plain"}


def test_a_place_in_two_sources_does_not_leak_from_one_to_the_other(tmp_path: Path) -> None:
    paint(tmp_path, {"harbour": 1, "village": 1, "plain": 1})
    config = config_of(left_out=["village"])
    record = config.source[0].model_dump() | {"name": "more", "split": {"none": True}}
    both = config.model_copy(update={"source": (config.source[0], type(config.source[0]).model_validate(record))})
    with pytest.raises(TrainingError, match="village is left out, but source 'more' trains on village"):
        load_data(both, tmp_path)


@pytest.mark.parametrize(
    ("left_out", "surveys", "told"),
    [
        (["atlantis"], (), "split.places names 'atlantis', which no image shows"),
        (["plain"], [["plain", "atlantis"]], "places.surveys names 'atlantis'"),
    ],
)
def test_a_place_that_is_not_there_is_named(tmp_path: Path, left_out: list[str], surveys: Any, told: str) -> None:
    paint(tmp_path, {"harbour": 1, "plain": 1})
    with pytest.raises(TrainingError, match=told):
        load_data(config_of(left_out=left_out, surveys=surveys), tmp_path)


def test_an_image_without_a_place_is_named(tmp_path: Path) -> None:
    paint(tmp_path, {"harbour": 2, "plain": 1})
    rows = (tmp_path / "index.csv").read_text().splitlines()
    (tmp_path / "index.csv").write_text("\n".join(r for r in rows if not r.startswith("harbour_1")))
    with pytest.raises(TrainingError, match=r"does not say which place harbour_1\.png shows"):
        load_data(config_of(left_out=["plain"]), tmp_path)


@pytest.mark.parametrize(("power", "share"), [(0.0, 0.5), (0.5, 0.75), (1.0, 0.9)])
def test_crops_are_drawn_by_place(tmp_path: Path, power: float, share: float) -> None:
    paint(tmp_path, {"harbour": 9, "village": 1})
    config = config_of(left_out=[], power=power)
    sampling = config.sampling.model_copy(update={"balanced": 0.0})
    sampler = CropSampler(load_data(config, tmp_path), sampling, config.augment, seed=1)
    images = torch.cat([sampler.batch(step).images for step in range(100)])
    drawn = float((images.mean(dim=(1, 2, 3)) < 80).float().mean())
    assert drawn == pytest.approx(share, abs=0.07)


def test_a_class_is_drawn_by_place_too(tmp_path: Path) -> None:
    paint(tmp_path, {"harbour": 18, "village": 2})
    config = config_of(left_out=[], power=0.0)
    sampling = config.sampling.model_copy(update={"balanced": 1.0})
    sampler = CropSampler(load_data(config, tmp_path), sampling, config.augment, seed=1)
    images = torch.cat([sampler.batch(step).images for step in range(100)])
    assert float((images.mean(dim=(1, 2, 3)) < 80).float().mean()) == pytest.approx(0.5, abs=0.07)


@settings(deadline=None)
@given(st.floats(0.1, 3.0), st.floats(0, 1), st.floats(0.5, 1.0), st.floats(1.0, 3.0))
def test_crops_come_out_within_the_resolutions_asked_for(gsd: float, drawn: float, low: float, high: float) -> None:
    augment = AugmentConfig(scale=(low, high), gsd_m=(0.3, 1.2))
    sample = Sample("a", "a", torch.zeros(3, 8, 8), torch.zeros(8, 8), None, gsd_m=gsd)
    scale = scale_of(sample, drawn, augment)
    assert low - 1e-9 <= scale <= high + 1e-9
    if gsd * low <= 1.2 and gsd * high >= 0.3:
        assert 0.3 - 1e-6 <= gsd * scale <= 1.2 + 1e-6


def test_labels_that_infrared_contradicts_say_nothing_in_training(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    counts = np.full((4, 32, 32), 100, dtype=np.uint8)
    counts[3, :, :16] = 250  # near infrared: plants in the left half
    for name in ("a", "b"):
        form = {"driver": "GTiff", "count": 4, "height": 32, "width": 32, "dtype": "uint8"}
        transform = Affine(0.6, 0, 400_000, 0, -0.6, 2_700_000 if name == "a" else 2_800_000)
        with rasterio.open(tmp_path / f"images/{name}.tif", "w", crs="EPSG:32640", transform=transform, **form) as file:
            file.write(counts)
        label = np.ones((32, 32), dtype=np.uint8)
        label[16:] = 2
        Image.fromarray(label).save(tmp_path / f"labels/{name}.png")
    config = config_of(left_out=[])
    record = config.source[0].model_dump() | {
        "places": None,
        "bands": [1, 2, 3],
        "label_suffix": ".png",
        "split": {"val": ["b.tif"]},
        "doubt": {"below": {"bright": 0.1}, "above": {"dark": 0.3}},
    }
    doubted = config.model_copy(update={"source": (type(config.source[0]).model_validate(record),)})
    (source,) = load_data(doubted, tmp_path).sources
    corners = [0, 0, 31, 31], [0, 31, 0, 31]
    assert source.train[0].codes[corners].tolist() == [IGNORE, 1, 2, IGNORE]
    assert source.val[0].codes[corners].tolist() == [1, 1, 2, 2]  # validation keeps the labels as they are


class Known:
    """Answers with one class everywhere."""

    def __init__(self, bundle: ModelBundle, answer: int) -> None:
        self.bundle, self.answer = bundle, answer

    def probabilities(self, counts: np.ndarray[Any, Any], gsd_m: float | None = None) -> np.ndarray[Any, Any]:
        out = np.full((2, *counts.shape[1:]), 0.1, dtype=np.float32)
        out[self.answer] = 0.9
        return out


def bundle_of(left_out: list[str]) -> ModelBundle:
    config = config_of(left_out=left_out)
    card = {
        "name": "t",
        "bands": ["red", "green", "blue"],
        "normalisation": {"mean": [0.0] * 3, "std": [1.0] * 3},
        "legend": LEGEND,
        "gsd_m": [0.3, 1.2],
        "training": {"config": config.model_dump(mode="json")},
        "weights": {"sha256": "0" * 64},
    }
    return ModelBundle(Path("nowhere"), ModelCard.model_validate(card))


def image(place: str, code: int, pixels: int = 8) -> Sample:
    return Sample(place, place, torch.zeros(3, pixels, pixels), torch.full((pixels, pixels), code), None, place)


def folds_of(*folds: tuple[list[str], int, list[Sample]]) -> Report:
    return evaluate_folds(
        [(Known(bundle_of(out), answer), samples) for out, answer, samples in folds],  # type: ignore[misc]
        LabelCodes.of(("dark", "bright")),
        "places, val",
    )


def test_folds_count_all_left_out_pixels_together_and_each_place_alone() -> None:
    report = folds_of(
        (["plain"], 0, [image("plain", 1), image("plain", 2, 16)]), (["village"], 1, [image("village", 2)])
    )
    pooled = Confusion(("dark", "bright"), np.array([[64, 0], [256, 64]]))
    assert report.confusion.miou == pytest.approx(pooled.miou)
    scores = {p.place: (p.images, p.confusion.miou, p.trained_on) for p in report.places}
    assert scores == {"plain": (2, pytest.approx(64 / 320 / 2), False), "village": (1, 1.0, False)}
    text = "\n".join(text_of([report]))
    assert "2 places, all left out of training; mean of the places 0.550" in text


def test_a_place_scored_in_two_folds_is_refused() -> None:
    with pytest.raises(TrainingError, match="plain is left out in two folds"):
        folds_of((["plain"], 0, [image("plain", 1)]), (["plain"], 0, [image("plain", 1)]))


def test_a_bundle_that_learned_a_place_cannot_pass_for_one_that_did_not() -> None:
    report = folds_of((["plain"], 0, [image("village", 1)]))
    assert report.places[0].trained_on
    assert "Not left out" in "\n".join(text_of([report]))
    survey = config_of(left_out=["plain"], surveys=[["plain", "village"]]).model_dump(mode="json")
    card = bundle_of([]).card
    assert trained_on(card, "village")
    kept = card.model_copy(update={"training": card.training.model_copy(update={"config": survey})})
    assert not trained_on(kept, "village")


def test_either_or_pixels_are_no_class_where_others_name_the_classes_apart() -> None:
    codes = LabelCodes.of(("built", "tree", "low", "water")).with_sets(["tree|low"])
    both = codes.code("tree|low")
    assert [n for n, _ in codes.scored_groups([1, 4, both])] == ["built", "tree|low", "water"]
    assert [n for n, _ in codes.scored_groups([1, 2, 3, 4, both])] == ["built", "tree", "low", "water"]


def test_a_class_is_recoloured_and_nothing_else(tmp_path: Path) -> None:
    paint(tmp_path, {"harbour": 2, "village": 2})
    config = config_of(left_out=[])
    yellow = RecolourConfig(land="bright", share=1.0, colours=((220, 200, 60),))
    augment = config.augment.model_copy(update={"recolour": (yellow,), "share": 0.0})
    sampler = CropSampler(load_data(config, tmp_path), config.sampling, config.augment, seed=1)
    batch = sampler.batch(0)
    codes = batch.codes.clone()
    codes[:, :16] = 1
    codes[:, 16:] = 2
    images, kept = Augmenter(augment, sampler, seed=1)(batch.images, codes, 0)
    assert torch.equal(kept, codes)
    assert torch.equal(images[:, :, :15], batch.images[:, :, :15])
    ground = images[:, :, 17:].mean(dim=(0, 2, 3))
    assert ground[0] > ground[2] + 40
    assert ground[1] > ground[2] + 40


def test_recolouring_names_a_class_that_is_not_there() -> None:
    record = config_of(left_out=["plain"]).model_dump()
    record["augment"]["recolour"] = [{"land": "swamp", "share": 0.1, "colours": [[0, 0, 0]]}]
    with pytest.raises(TrainingError, match="'swamp' is no class"):
        check_config(record, "test.toml")


def test_a_card_names_whom_each_place_asks_to_name(tmp_path: Path) -> None:
    paint(tmp_path, {"harbour": 2, "village": 2, "plain": 2})
    rows = (tmp_path / "index.csv").read_text().splitlines()
    words = {"harbour": "CC BY 4.0,Port", "village": "CC BY-SA 4.0,Council", "plain": "CC BY 4.0,Port"}
    told = [f"{row},{words[row.split(',')[1]]}" for row in rows[1:]]
    (tmp_path / "index.csv").write_text("\n".join([f"{rows[0]},licence,attribution", *told]))
    source = config_of(left_out=["village"]).source[0].model_dump()
    source["places"] |= {"licence_column": "licence", "attribution_column": "attribution"}
    source["attribution"] = "labels by us"
    config = config_of(left_out=["village"]).model_copy(update={"source": (SourceConfig.model_validate(source),)})
    (loaded,) = load_data(config, tmp_path).sources
    named = [(d.name, d.licence, d.attribution) for d in data_sources_of(loaded)]
    assert named == [("places", "", "labels by us"), ("places: harbour, plain", "CC BY 4.0", "Port")]


def test_a_release_takes_scores_of_places_left_out_only(tmp_path: Path) -> None:
    left_out = folds_of((["plain"], 0, [image("plain", 1), image("plain", 2, 4)]))
    (tmp_path / "good.json").write_text(json.dumps([left_out.as_record()]))
    (score,) = scores_of_places(tmp_path / "good.json", "one place")
    assert score.iou == {"dark": pytest.approx(64 / 80), "bright": 0.0}
    learned = folds_of((["plain"], 0, [image("village", 1)]))
    (tmp_path / "bad.json").write_text(json.dumps([learned.as_record()]))
    with pytest.raises(TrainingError, match="village was trained on"):
        scores_of_places(tmp_path / "bad.json", "one place")
    (tmp_path / "none.json").write_text(json.dumps([left_out.as_record() | {"places": []}]))
    with pytest.raises(TrainingError, match="has no score of places"):
        scores_of_places(tmp_path / "none.json", "one place")
