"""Corrections: read and refused, fitted, mapped; adapters as bundles that every engine runs alike."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.warp
import torch
from safetensors.numpy import save_file

from geounet.cli.app import app, run
from geounet.correction.correct import Wishes, correct_map
from geounet.correction.fit import Samples, Scaling, Span, cross_validated, fit
from geounet.correction.origin import MapOrigin
from geounet.correction.suggest import suggest
from geounet.engines.adapters.stage_runner import open_stage_runner
from geounet.engines.choose import resolve
from geounet.errors import BundleError, CorrectionError
from geounet.mapping.pipeline import map_scene
from geounet.model.adapters.layers import prior
from geounet.model.adapters.stages import at_points
from geounet.model.bundle import ModelBundle, save_adapter, sha256_of
from geounet.model.scorer import Scorer
from geounet.options import Options

MakeScene = Callable[..., Path]
Features = list[dict[str, Any]]
OPTIONS = Options(chip_size=96, overlap=16, engine="torch", device="cpu", precision="f32", formats=("gpkg",))


@pytest.fixture(scope="module")
def mapped(bundle: ModelBundle, make_scene: MakeScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of a random scene whose upper twenty rows are nodata."""
    folder = tmp_path_factory.mktemp("mapped")
    map_scene(make_scene(folder / "scene.tif", nodata_rows=20), bundle, folder / "map", OPTIONS)
    return folder / "map"


def values(folder: Path) -> npt.NDArray[np.uint8]:
    with rasterio.open(folder / "classes.tif") as dataset:
        found: npt.NDArray[np.uint8] = dataset.read(1)
    return found


def point(folder: Path, row: float, col: float, name: object) -> dict[str, Any]:
    with rasterio.open(folder / "classes.tif") as dataset:
        x, y = dataset.transform @ (col + 0.5, row + 0.5)
        (lon,), (lat,) = rasterio.warp.transform(dataset.crs, "EPSG:4326", [x], [y])
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [lon, lat]},
        "properties": {"class": name},
    }


def collection(features: Features) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": features}


def bright_and_dark(folder: Path, bright: str, dark: str, count: int = 12) -> Features:
    """Corrections of a rule that the random network does not know: what is bright is one class, the rest another."""
    with rasterio.open(folder.parent / "scene.tif") as dataset:
        light = dataset.read().mean(axis=0)
    rng = np.random.default_rng(1)
    features = []
    for name, chosen in ((bright, light > 150), (dark, (light < 110) & (light > 0))):
        rows, cols = np.nonzero(chosen[25:-5, 5:-5])
        chosen_ones = rng.permutation(len(rows))[:count]
        features += [point(folder, rows[index] + 25, cols[index] + 5, name) for index in chosen_ones]
    return features


def test_corrections_teach_what_they_say(mapped: Path, tmp_path: Path) -> None:
    found = correct_map(mapped, collection(bright_and_dark(mapped, "building", "water", 120)), tmp_path / "better")
    assert found.map is not None
    with rasterio.open(mapped.parent / "scene.tif") as dataset:
        light = dataset.read().mean(axis=0)
    told = values(tmp_path / "better")
    before = values(mapped)
    clear = (light > 160) | ((light < 100) & (light > 0))
    wanted = np.where(light > 160, 1, 3)
    assert (before == wanted)[clear].mean() < 0.6
    assert (told == wanted)[clear].mean() > 0.8
    assert found.told.agreed_after is not None
    assert found.told.agreed_before is not None
    assert found.told.agreed_after > found.told.agreed_before + 0.2
    assert {p.name for p in (tmp_path / "better").iterdir()} >= {"corrections.gpkg", "correction.json", "model"}


def test_no_correction_changes_no_byte(mapped: Path, tmp_path: Path) -> None:
    correct_map(mapped, collection([]), tmp_path / "same")
    for name in ("classes.tif", "confidence.tif", "polygons.gpkg"):
        assert (tmp_path / "same" / name).read_bytes() == (mapped / name).read_bytes()


def test_an_adapter_of_zeros_changes_no_byte(bundle: ModelBundle, mapped: Path, tmp_path: Path) -> None:
    adapter = make_adapter(bundle, tmp_path / "zeros", scale=0.0)
    map_scene(mapped.parent / "scene.tif", adapter, tmp_path / "same", OPTIONS)
    assert (tmp_path / "same" / "classes.tif").read_bytes() == (mapped / "classes.tif").read_bytes()


def test_the_same_corrections_give_the_same_bytes(mapped: Path, tmp_path: Path) -> None:
    given = collection(bright_and_dark(mapped, "building", "water", 4))
    for name in ("one", "two"):
        correct_map(mapped, given, tmp_path / name)
    for name in ("classes.tif", "confidence.tif", "polygons.gpkg", "corrections.gpkg", "summary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_new_class_and_a_second_correction(mapped: Path, tmp_path: Path) -> None:
    first = correct_map(mapped, collection(bright_and_dark(mapped, "solar panel", "tree")), tmp_path / "new")
    legend = ModelBundle.load(tmp_path / "new" / "model").legend
    assert legend.names == ("building", "tree", "water", "solar panel")
    share = {row.name: row.area_after_m2 for row in first.told.classes}
    assert share["solar panel"]
    assert share["solar panel"] > 0
    second = correct_map(
        tmp_path / "new",
        collection([point(mapped, 100, 100, "water"), point(mapped, 60, 30, "tree")]),
        tmp_path / "two",
    )
    assert second.told.corrections == first.told.corrections + 2
    flat = ModelBundle.load(tmp_path / "two" / "model")
    assert flat.base is not None
    assert flat.base.base is None


def test_classes_merge_and_drop(mapped: Path, tmp_path: Path) -> None:
    given = collection(bright_and_dark(mapped, "building", "water"))
    correct_map(mapped, given, tmp_path / "fewer", wishes=Wishes(merge={"tree": "water"}))
    assert ModelBundle.load(tmp_path / "fewer" / "model").legend.names == ("building", "water")
    assert set(np.unique(values(tmp_path / "fewer"))) <= {1, 3, 255}
    with pytest.raises(CorrectionError, match="'water' is to be dropped and has corrections"):
        correct_map(mapped, given, None, wishes=Wishes(drop=["water"]))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (lambda m, f: [*f, point(m, 100, 5000, "tree")], "1 of 9 corrections lie outside the map"),
        (lambda m, f: [turned(x) for x in f], "with x and y exchanged"),
        (lambda m, f: [*f, point(m, 5, 50, "tree")], r"correction 9 \(tree\) lies on nodata"),
        (lambda m, f: [*f, point(m, 100, 50, "tre")], "did you mean 'tree'"),
        (lambda m, f: [*f, point(m, 100, 50, "solar")], "needs at least 5"),
        (lambda m, f: [*f, point(m, 100, 50, "77")], "there is no class '77'"),
        (lambda m, f: [*f, point(m, 100, 50, None)], "correction 9 names no class"),
        (lambda m, f: f[:4], "all 4 corrections say 'building'"),
        (lambda m, f: [*f, point(m, 100, 50, "tree"), point(m, 100.3, 50, "water")], "contradict each other"),
        (lambda m, f: [*f, {"type": "Feature", "geometry": None, "properties": {"class": "tree"}}], "geometry"),
        (lambda m, f: [*f, {"type": "Feature", "geometry": f[0]["geometry"], "properties": {}}], "properties.class"),
    ],
)
def test_bad_corrections_are_refused_in_one_line(mapped: Path, changed: Callable[..., Features], told: str) -> None:
    good = bright_and_dark(mapped, "building", "water", 4)
    with pytest.raises(CorrectionError, match=told) as error:
        correct_map(mapped, collection(changed(mapped, good)), None)
    assert "\n" not in str(error.value)


def turned(feature: dict[str, Any]) -> dict[str, Any]:
    geometry = feature["geometry"]
    return {**feature, "geometry": {**geometry, "coordinates": geometry["coordinates"][::-1]}}


def test_another_scene_is_refused(mapped: Path, make_scene: MakeScene, tmp_path: Path) -> None:
    other = make_scene(tmp_path / "other.tif", rows=151)
    with pytest.raises(CorrectionError, match="is not the scene that"):
        correct_map(mapped, collection(bright_and_dark(mapped, "building", "water", 4)), None, scene=other)


def test_a_folder_that_is_no_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorrectionError, match="is no map to correct"):
        MapOrigin.of(tmp_path)


def test_lines_and_polygons_count_too(mapped: Path) -> None:
    features = bright_and_dark(mapped, "building", "water", 4)
    a, b, c = (point(mapped, *at, "tree")["geometry"]["coordinates"] for at in ((60, 60), (60, 90), (90, 90)))
    features.append({**features[0], "geometry": {"type": "LineString", "coordinates": [a, b]}})
    features.append({**features[0], "geometry": {"type": "Polygon", "coordinates": [[a, b, c, a]]}})
    told = correct_map(mapped, collection(features), None).told
    assert told.corrections == 10


def test_suggestions_are_spread_and_stand_on_the_map(mapped: Path) -> None:
    found = suggest(mapped, 12)["features"]
    assert [f["properties"]["rank"] for f in found] == list(range(1, 13))
    with rasterio.open(mapped / "classes.tif") as dataset:
        for feature in found:
            (x,), (y,) = rasterio.warp.transform(
                "EPSG:4326",
                dataset.crs,
                [feature["geometry"]["coordinates"][0]],
                [feature["geometry"]["coordinates"][1]],
            )
            row, col = dataset.index(x, y)
            assert dataset.read(1)[row, col] != 255


# -- adapters ------------------------------------------------------------------------------------------------------


def make_adapter(
    base: ModelBundle, folder: Path, scale: float = 0.05, starts: list[list[int]] | None = None
) -> ModelBundle:
    starts = starts or [[index] for index in range(len(base.legend))]
    runner = open_stage_runner(base, resolve("torch", "cpu", "f32"), 64)
    stages, _ = runner.run(np.zeros((3, 64, 64), np.float32))
    rng = np.random.default_rng(3)
    weight = (rng.normal(size=(len(starts), sum(len(s) for s in stages))) * scale).astype(np.float32)
    bias = (rng.normal(size=len(starts)) * scale).astype(np.float32)
    card = base.card.model_dump(mode="json", exclude={"weights"})
    card["name"] = "adapter"
    if len(starts) != len(base.legend):
        card["legend"] = [{"value": i + 1, "name": f"class-{i}", "color": (i, 0, 0)} for i in range(len(starts))]
    where = {"name": base.name, "digest": base.digest, "folder": str(base.folder)}
    card["adapter"] = {"base": where, "starts": starts, "strength": 0.1}
    return save_adapter(folder, card, weight, bias, "# adapter\n")


@pytest.mark.parametrize("upsample", [1.0, 1.5])
def test_points_are_what_the_graph_computes(bundle: ModelBundle, tmp_path: Path, upsample: float) -> None:
    """The fit sees at a pixel exactly what the adapter's layers add there."""
    adapter = make_adapter(bundle, tmp_path / "a", starts=[[0], [1, 2], [2], []])
    runner = open_stage_runner(bundle, resolve("torch", "cpu", "f32"), 64, upsample)
    counts = np.random.default_rng(5).uniform(0, 255, (3, 64, 64)).astype(np.float32)
    stages, logits = runner.run(counts)
    side = logits.shape[1]
    rows, cols = np.random.default_rng(6).integers(0, side, (2, 40))
    scorer = Scorer(adapter, 64, upsample).eval()
    with torch.inference_mode():
        assert scorer.adapter is not None
        whole = scorer.adapter([torch.from_numpy(s)[None] for s in stages], torch.from_numpy(logits)[None])[0].numpy()
        start = prior(torch.from_numpy(logits)[None], [[0], [1, 2], [2], []])[0].numpy()
    weight, bias = adapter_numbers(adapter)
    alone = start[:, rows, cols].T + at_points(stages, rows, cols, side) @ weight.T + bias
    np.testing.assert_allclose(alone, whole[:, rows, cols].T, atol=1e-4)


def adapter_numbers(adapter: ModelBundle) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    from geounet.model.adapters.file import read_adapter

    return read_adapter(adapter.weights_path, len(adapter.legend))


@pytest.mark.parametrize("upsample", [1.0, 1.5])
def test_openvino_runs_an_adapter_as_torch_does(bundle: ModelBundle, tmp_path: Path, upsample: float) -> None:
    ov = pytest.importorskip("openvino")
    from geounet.engines.adapters.openvino_layers import scoring_model

    adapter = make_adapter(bundle, tmp_path / "a", starts=[[0], [1, 2], [2], []])
    counts = np.random.default_rng(5).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        wanted = Scorer(adapter, 64, upsample).eval()(torch.from_numpy(counts)).numpy()
    model = scoring_model(ov.Core(), adapter, 64, upsample)
    found = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(counts)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert np.ptp(wanted) > 0.1


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"weight": np.full((3, 5), np.nan, np.float32), "bias": np.zeros(3, np.float32)}, "not finite"),
        ({"weight": np.zeros((2, 5), np.float32), "bias": np.zeros(2, np.float32)}, "does not fit the 3 classes"),
        ({"bias": np.zeros(3, np.float32)}, "is no adapter"),
        (None, "not a readable safetensors file"),
    ],
)
def test_a_damaged_adapter_is_refused(
    bundle: ModelBundle, tmp_path: Path, numbers: dict[str, npt.NDArray[np.float32]] | None, told: str
) -> None:
    adapter = make_adapter(bundle, tmp_path / "a")
    if numbers is None:
        adapter.weights_path.write_bytes(b"no safetensors")
    else:
        save_file(numbers, adapter.weights_path)
    card = json.loads((adapter.folder / "model.json").read_text())
    card["weights"]["sha256"] = sha256_of(adapter.weights_path)
    (adapter.folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match=told) as error:
        ModelBundle.load(adapter.folder)
    assert "\n" not in str(error.value)


def test_an_adapter_without_its_base_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    adapter = make_adapter(bundle, tmp_path / "a")
    card = json.loads((adapter.folder / "model.json").read_text())
    card["adapter"]["base"]["digest"] = "0" * 64
    (adapter.folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match="is an adapter for the model 'toy' with digest 000000000000"):
        ModelBundle.load(adapter.folder)


# -- the fit -------------------------------------------------------------------------------------------------------


def some_samples(count: int = 60) -> Samples:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, 200)).astype(np.float32)
    target = (features[:, 0] > 0).astype(np.int64)
    return Samples(features, rng.normal(size=(count, 3)), target, np.ones(count), np.arange(count))


def test_the_fit_is_at_its_optimum() -> None:
    """In the reduced space as in the whole: the gradient of the regularised loss is zero there."""
    samples = some_samples()
    scaling = Scaling.of(samples.features)
    found = fit(samples, Span.of(samples, scaling), scaling, 0.1)
    scores = found.scores(samples.features, samples.prior)
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    error = (share - np.eye(3)[samples.target]) / len(samples.target)
    gradient = error.T @ scaling.apply(samples.features) + 0.1 * found.weight * scaling.spread
    assert np.abs(gradient).max() < 1e-3


def test_a_strong_pull_leaves_the_base_alone() -> None:
    samples = some_samples()
    scaling = Scaling.of(samples.features)
    found = fit(samples, Span.of(samples, scaling), scaling, 1e6)
    np.testing.assert_allclose(found.scores(samples.features, samples.prior), samples.prior, atol=1e-3)


def test_what_is_held_out_is_not_seen() -> None:
    """Turning the classes of one block around does not change what is said of that block."""
    samples = some_samples()
    scaling = Scaling.of(samples.features)
    block = np.arange(60) // 6
    one = cross_validated(samples, Span.of(samples, scaling), 0.1, block)
    flipped = np.where(block == 3, 1 - samples.target, samples.target)
    other = Samples(samples.features, samples.prior, flipped, samples.weight, samples.group)
    np.testing.assert_allclose(cross_validated(other, Span.of(other, scaling), 0.1, block)[block == 3], one[block == 3])


# -- the command line ----------------------------------------------------------------------------------------------


def geounet(*arguments: object) -> int:
    return run(lambda **mode: app([str(a) for a in arguments], **mode))


def test_from_the_command_line(
    mapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GEOUNET_MODELS", str(tmp_path / "models"))
    given = tmp_path / "given.geojson"
    given.write_text(json.dumps(collection(bright_and_dark(mapped, "building", "water", 6))))
    assert geounet("correct", mapped, given, "--check") == 0
    assert "cross-validated" in capsys.readouterr().out
    assert geounet("correct", mapped, given, "-o", tmp_path / "better", "--save-model", "my-town", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["correction"]["corrections"] == 12
    assert ModelBundle.load("my-town").base is not None
    assert geounet("models", "--json") == 0
    assert "my-town" in capsys.readouterr().out
    assert geounet("suggest", mapped, "-n", 3, "-o", tmp_path / "where.geojson") == 0
    assert len(json.loads((tmp_path / "where.geojson").read_text())["features"]) == 3
    given.write_text("{}")
    assert geounet("correct", mapped, given, "--check") == 3


def test_the_public_face() -> None:
    import geounet as face

    assert face.correct_map is correct_map
    assert face.map_scene is map_scene
    assert "ModelBundle" in dir(face)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = face.nothing
