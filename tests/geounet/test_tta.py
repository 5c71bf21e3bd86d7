"""Test-time augmentation: the mean over explicit views, with every engine; a turned scene gives the turned map."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geounet.engines.choose import open_engine
from geounet.engines.engine import EngineSpec
from geounet.engines.views import VIEWS, Views, turned, turned_back
from geounet.errors import OptionError
from geounet.mapping.pipeline import map_scene
from geounet.model.bundle import ModelBundle
from geounet.model.scorer import Scorer
from geounet.model.stretch import Stretch
from geounet.options import TTA, Options
from tiles.chips.cut import Chip
from tiles.chips.grid import ChipGrid
from tiles.errors import OutputError

pytestmark = pytest.mark.usefixtures("one_thread")

CHIP = 64
OPTIONS = Options(chip_size=CHIP, overlap=16, engine="torch", device="cpu", precision="f32", formats=(), tta="d4")


def chips(seed: int = 0) -> list[Chip]:
    """Three chips; the second has no valid pixel, the third some."""
    rng = np.random.default_rng(seed)
    grid = ChipGrid((CHIP, 3 * CHIP), CHIP, 0)
    valid = [np.ones((CHIP, CHIP), bool), np.zeros((CHIP, CHIP), bool), rng.random((CHIP, CHIP)) > 0.3]
    return [
        Chip(r, c, grid.window(r, c), rng.integers(0, 256, (3, CHIP, CHIP), dtype=np.uint8), valid[c])
        for r, c in grid.positions()
    ]


def explicit_mean(bundle: ModelBundle, chip: Chip, views: Views) -> npt.NDArray[np.float32]:
    counts = Stretch("none").apply(chip.counts, chip.valid)
    found = []
    for scale in views.scales:
        scorer = Scorer(bundle, CHIP, scale).eval()
        for turn in views.turns:
            with torch.inference_mode():
                p = scorer(torch.from_numpy(np.ascontiguousarray(turned(counts, turn))[None]))[0].numpy()
            found.append(turned_back(p, turn))
    return np.asarray(np.mean(found, axis=0), dtype=np.float32)


@given(st.integers(0, 7), st.integers(1, 5), st.integers(1, 5))
def test_turns_are_turned_back_in_numpy_and_torch(turn: int, rows: int, cols: int) -> None:
    image = np.random.default_rng(turn).random((2, rows, cols))
    np.testing.assert_array_equal(turned_back(turned(image, turn), turn), image)
    tensor = torch.from_numpy(image)
    np.testing.assert_array_equal(turned(tensor, turn).numpy(), turned(image, turn))
    np.testing.assert_array_equal(turned_back(turned(tensor, turn), turn).numpy(), image)


def test_the_eight_turns_are_all_different_and_flips_keep_rows_rows() -> None:
    image = np.arange(6).reshape(2, 3)
    assert len({turned(image, t).tobytes() + bytes(turned(image, t).shape) for t in VIEWS["d4"].turns}) == 8
    assert {turned(image, t).shape for t in VIEWS["flips"].turns} == {(2, 3)}
    assert len(set(VIEWS["flips"].turns)) == 4


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("tta", [t for t in TTA if t != "none"])
def test_scores_are_the_mean_over_explicit_views(bundle: ModelBundle, engine: str, tta: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    scoring = open_engine(bundle, EngineSpec(engine, "cpu", "f32"), CHIP, tta=tta)
    given_chips = chips()
    for chip, scores in zip(given_chips, scoring.predict(iter(given_chips), Stretch("none")), strict=True):
        assert (scores.row, scores.col, scores.window) == (chip.row, chip.col, chip.window)
        np.testing.assert_array_equal(scores.valid, chip.valid)
        if chip.empty:
            assert scores.probabilities is None
        else:
            assert scores.probabilities is not None
            assert np.abs(scores.probabilities - explicit_mean(bundle, chip, VIEWS[tta])).max() < 2e-5


def turned_scene(scene: Path, folder: Path, turn: int) -> Path:
    with rasterio.open(scene) as source:
        profile, pixels = source.profile, turned(source.read(), turn)
    path = folder / f"turned-{turn}.tif"
    with rasterio.open(path, "w", **{**profile, "height": pixels.shape[1], "width": pixels.shape[2]}) as target:
        target.write(pixels)
    return path


@settings(max_examples=3, deadline=None)
@given(turn=st.integers(1, 7), seed=st.integers(0, 3))
def test_a_turned_scene_gives_the_turned_map(
    bundle: ModelBundle,
    make_scene: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    turn: int,
    seed: int,
) -> None:
    """Sides of 64 + 48 n pixels: the grid of chips looks the same from every side."""
    folder = tmp_path_factory.mktemp("turned")
    scene = make_scene(folder / "scene.tif", rows=112 + 48 * (seed // 2), cols=160 + 48 * (seed % 2))
    maps = []
    for index, path in enumerate((scene, turned_scene(scene, folder, turn))):
        made = map_scene(path, bundle, folder / f"map-{index}", replace(OPTIONS, probabilities=True))
        with rasterio.open(made.folder / "probabilities.tif") as source:
            maps.append(source.read().astype(int))
    assert np.abs(turned(maps[0], turn) - maps[1]).max() <= 1


def test_without_augmentation_a_turned_scene_gives_another_map(
    bundle: ModelBundle, make_scene: Callable[..., Path], tmp_path: Path
) -> None:
    """The check above can fail."""
    scene = make_scene(tmp_path / "scene.tif", rows=112, cols=160)
    options = replace(OPTIONS, probabilities=True, tta="none")
    planes = []
    for index, path in enumerate((scene, turned_scene(scene, tmp_path, 1))):
        with rasterio.open(
            map_scene(path, bundle, tmp_path / f"{index}", options).folder / "probabilities.tif"
        ) as source:
            planes.append(source.read().astype(int))
    assert np.abs(turned(planes[0], 1) - planes[1]).max() > 1


def test_augmentation_is_recorded_and_a_resumed_run_notices_another(
    bundle: ModelBundle, scene: Path, tmp_path: Path
) -> None:
    found = map_scene(scene, bundle, tmp_path / "map", replace(OPTIONS, tta="flips"))
    assert found.summary["plan"]["tta"] == "flips"
    assert found.summary["request"]["options"]["tta"] == "flips"
    with pytest.raises(OutputError):
        map_scene(scene, bundle, tmp_path / "map", replace(OPTIONS, tta="none"))


def test_an_unknown_augmentation_is_refused_before_the_work(bundle: ModelBundle, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="tta: 'twice': choose one of: none, flips, d4"):
        map_scene(scene, bundle, tmp_path / "map", replace(OPTIONS, tta=cast("Any", "twice")))
    assert not (tmp_path / "map").exists()
    assert not (tmp_path / "map.partial").exists()
