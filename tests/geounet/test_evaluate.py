import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import typer
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geounet.cli.app import run
from geounet.cli.train import register
from geounet.datasets.labels import LabelCodes
from geounet.datasets.load import Sample
from geounet.errors import TrainingError
from geounet.evaluation.boundary import BoundaryScore, grown
from geounet.evaluation.corrected_area import corrected_areas
from geounet.evaluation.metrics import Calibration, Confusion
from geounet.evaluation.predictor import Predictor
from geounet.evaluation.report import evaluate_raster, evaluate_samples
from geounet.model.architectures import build_architecture
from geounet.model.bundle import ModelBundle, save_bundle
from tiles.legend import LandClass, Legend

NAMES = ("a", "b", "c")
LEGEND = Legend(tuple(LandClass(i + 1, n, (i, i, i)) for i, n in enumerate(NAMES)))
labels_of = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed).integers(0, 3, (2, 300)))


@settings(deadline=None, max_examples=30)
@given(labels_of)
def test_scores_are_those_of_their_definitions(pair: Any) -> None:
    truth, predicted = pair
    confusion = Confusion(NAMES)
    confusion.add(truth[:100], predicted[:100])
    confusion.add(truth[100:], predicted[100:])
    for index, name in enumerate(NAMES):
        t, p = truth == index, predicted == index
        assert confusion.iou[name] == pytest.approx((t & p).sum() / (t | p).sum())
        assert confusion.precision[name] == pytest.approx((t & p).sum() / p.sum())
        assert confusion.recall[name] == pytest.approx((t & p).sum() / t.sum())
        assert confusion.f1[name] == pytest.approx(2 * (t & p).sum() / (t.sum() + p.sum()))
    assert confusion.accuracy == pytest.approx((truth == predicted).mean())
    assert confusion.miou == pytest.approx(np.mean(list(confusion.iou.values())))
    share = [(truth == i).mean() for i in range(3)]
    assert confusion.weighted_iou == pytest.approx(np.dot(share, list(confusion.iou.values())))


def test_a_class_without_truth_does_not_enter_the_mean() -> None:
    confusion = Confusion(NAMES)
    confusion.add(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]))
    assert confusion.miou == pytest.approx((0.5 + 1.0) / 2)


def test_calibration_error_is_the_gap() -> None:
    calibration = Calibration()
    calibration.add(np.full(1000, 0.9), np.arange(1000) < 700)
    assert calibration.error == pytest.approx(0.2)


def test_borders_within_the_tolerance_are_found_and_others_not() -> None:
    truth = np.zeros((40, 40), dtype=np.int64)
    truth[:, 20:] = 1
    for shift, wanted in ((0, 1.0), (2, 1.0), (3, 1.0), (9, 0.0)):
        score = BoundaryScore(("left", "right"))
        score.add(truth, np.roll(truth, shift, axis=1) if shift == 0 else (np.indices((40, 40))[1] >= 20 + shift) * 1)
        assert score.mean == pytest.approx(wanted), shift


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5), st.integers(0, 2**31))
def test_growing_is_a_square_neighbourhood(rows: int, cols: int, by: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.2
    wanted = np.zeros_like(mask)
    for r, c in zip(*np.nonzero(mask), strict=True):
        wanted[max(0, r - by) : r + by + 1, max(0, c - by) : c + by + 1] = True
    np.testing.assert_array_equal(grown(mask, by), wanted)


def test_areas_of_the_worked_example_in_olofsson_2014() -> None:
    # Section 4.2 and tables 8 and 9 of the paper: deforestation, forest gain, stable forest, stable non-forest.
    table = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    mapped = np.array([200_000, 150_000, 3_200_000, 6_450_000.0])
    areas = corrected_areas(("loss", "gain", "forest", "other"), table.T.astype(np.int64), mapped)
    assert areas[0].corrected * 10_000_000 == pytest.approx(235_086, rel=1e-3)
    assert areas[0].half_width * 10_000_000 == pytest.approx(68_418, rel=5e-3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """An untrained network as a bundle."""
    torch.manual_seed(0)
    card: dict[str, Any] = {
        "name": "tiny",
        "architecture": {
            "encoder": "tu-tf_efficientnet_lite0",
            "arguments": {"decoder_channels": [16, 16, 8], "encoder_depth": 3},
        },
        "bands": ["red", "green", "blue"],
        "normalisation": {"mean": [127.0] * 3, "std": [128.0] * 3},
        "legend": LEGEND.as_records(),
        "gsd_m": [0.5, 1.0],
        "chip_size": 64,
        "overlap": 32,
        "temperature": 1.5,
    }
    from geounet.model.bundle import ModelCard

    architecture = ModelCard.model_validate({**card, "weights": {"sha256": "0" * 64}}).architecture
    network = build_architecture(architecture, 3, 3)
    return save_bundle(tmp_path_factory.mktemp("bundle"), card, network.state_dict(), "tiny")


def sample(seed: int = 0, shape: tuple[int, int] = (90, 70)) -> Sample:
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.integers(0, 255, (3, *shape), dtype=np.uint8))
    return Sample(f"{seed}", f"{seed}", image, torch.from_numpy(rng.integers(0, 4, shape, dtype=np.uint8)), None)


def test_a_bundle_is_scored_through_the_stitcher(bundle: ModelBundle) -> None:
    predictor = Predictor(bundle, engine="torch", device="cpu", precision="f32")
    samples = [sample(0), sample(1, (30, 100))]
    report = evaluate_samples(predictor, samples, LabelCodes.of(NAMES), "noise")
    assert report.confusion.counts.sum() == sum(int((s.codes > 0).sum()) for s in samples)
    record = report.as_record()
    assert record["images"] == 2
    assert 0 <= record["miou"] <= 1
    assert record["calibration_error"] != record["calibration_error_before"]
    assert sum(a["corrected"] for a in record["areas"]) == pytest.approx(1.0)
    json.dumps(record)


def test_turning_the_image_turns_an_augmented_prediction(bundle: ModelBundle) -> None:
    predictor = Predictor(bundle, engine="torch", device="cpu", precision="f32", tta="d4")
    counts = sample(3, (64, 64)).image.numpy()
    straight, turned = predictor.probabilities(counts), predictor.probabilities(np.rot90(counts, 1, axes=(1, 2)).copy())
    np.testing.assert_allclose(np.rot90(straight, 1, axes=(1, 2)), turned, atol=0.011)
    np.testing.assert_allclose(straight.sum(axis=0), 1.0, atol=1e-5)


def test_another_legend_is_refused(bundle: ModelBundle) -> None:
    with pytest.raises(TrainingError, match=r"\(a, b, c\) are not those of the data \(x, y\)"):
        evaluate_samples(
            Predictor(bundle, engine="torch", device="cpu"), [sample()], LabelCodes.of(("x", "y")), "noise"
        )


def write(path: Path, values: Any, left: float = 0.0) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=values.shape[0], width=values.shape[1], dtype=values.dtype,
        crs="EPSG:32640", transform=Affine(1, 0, 400_000 + left, 0, -1, 2_700_000),
    ) as file:  # fmt: skip
        file.write(values, 1)
    return path


def test_a_raster_made_elsewhere_is_scored(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(1, 4, (20, 30)).astype(np.uint8)
    made = truth.copy()
    made[0, :10], made[1, :10] = 255, truth[1, :10] % 3 + 1
    labels = truth.copy()
    labels[5] = 255
    report = evaluate_raster(write(tmp_path / "map.tif", made), write(tmp_path / "labels.tif", labels), LEGEND)
    assert report.confusion.counts.sum() == 19 * 30
    assert report.confusion.accuracy == pytest.approx(1 - 20 / 570)
    assert report.confusion.names[-1] == "unmapped"
    assert report.confusion.counts[:, -1].sum() == 10


def test_other_values_are_renamed_and_other_grids_refused(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    made = write(tmp_path / "map.tif", (truth + 1).astype(np.uint8))
    report = evaluate_raster(made, write(tmp_path / "labels.tif", truth), LEGEND, {0: 1, 1: 2, 2: 3})
    assert report.confusion.accuracy == 1.0
    with pytest.raises(TrainingError, match="not on the same grid"):
        evaluate_raster(made, write(tmp_path / "other.tif", truth, left=5.0), LEGEND)


CONFIG = """
name = "small"
gsd_m = [0.5, 1.0]
init = "scratch"
chip_size = 64
overlap = 32
legend = [
  { value = 1, name = "a", color = [255, 0, 0] },
  { value = 2, name = "b", color = [0, 255, 0] },
  { value = 3, name = "c", color = [0, 0, 255] },
  { value = 4, name = "d", color = [255, 255, 255] },
]
architecture = { arguments = { encoder_depth = 3, decoder_channels = [16, 16, 8] } }
sampling = { crop = 32, batch = 2 }
schedule = { steps = 2, warmup = 0, validate_every = 2 }

[[source]]
name = "noise"
images = "images"
labels = "labels"
gsd_m = [0.5, 0.5]
classes = { "1" = "a", "2" = "b", "3" = "c|d", "4" = "c|d" }
split = { val = ["val*"] }
licence = "CC0"
attribution = "somebody"
"""


def cells(row: str) -> list[str]:
    """Of a row of a Markdown table; a bar within a cell is escaped."""
    return re.split(r"(?<!\\)\|", row)[1:-1]


def test_from_a_configuration_to_a_scored_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for index, name in enumerate(("one.tif", "val.tif")):
        place = Affine(1, 0, 400_000 + 500 * index, 0, -1, 2_700_000)
        with rasterio.open(
            tmp_path / "images" / name, "w", driver="GTiff", count=3, height=70, width=80, dtype="uint8",
            crs="EPSG:32640", transform=place,
        ) as file:  # fmt: skip
            file.write(rng.integers(0, 255, (3, 70, 80), dtype=np.uint8))
        write(tmp_path / "labels" / name, rng.integers(1, 5, (70, 80), dtype=np.uint8))
    (tmp_path / "run.toml").write_text(CONFIG)
    app = typer.Typer()
    register(app)

    def call(*arguments: str) -> tuple[int, str]:
        code = run(lambda **options: app([str(a) for a in arguments], **options))
        return code, capsys.readouterr().out

    out = tmp_path / "run"
    code, text = call("train", str(tmp_path / "run.toml"), "-o", str(out), "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(text)["scores"][0]["data"].startswith("noise, val")
    made = ModelBundle.load(out / "bundle")
    assert made.card.training.sources[0].attribution == "somebody"
    assert made.card.quantiles is not None
    readme = (out / "bundle/README.md").read_text()
    assert "somebody" in readme
    assert r"c\|d" in readme
    assert {len(cells(row)) for row in readme.splitlines() if row.startswith("| noise")} == {5}
    assert {p.name for p in out.iterdir()} >= {"log.csv", "curves.png", "confusion-noise.png", "gallery.png"}

    code, text = call(
        "evaluate", str(out / "bundle"), str(tmp_path / "run.toml"), "--engine", "torch", "-o", str(tmp_path / "scores")
    )
    assert code == 0
    assert "mean IoU" in text
    assert json.loads((tmp_path / "scores/report.json").read_text())[0]["images"] == 1
    assert {len(cells(row)) for row in text.splitlines() if row.startswith("| c")} == {8}
    assert r"| c\|d |" in text

    code, _ = call("contact-sheet", str(tmp_path / "run.toml"), "-o", str(tmp_path / "sheet.png"))
    assert code == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000

    assert call("train", str(tmp_path / "none.toml"))[0] == 3
    assert call("evaluate")[0] == 2
