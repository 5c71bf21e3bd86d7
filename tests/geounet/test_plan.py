"""Plans keep their promises: memory, chip sizes that the network takes, blocks only where they are needed."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from shutil import disk_usage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geounet.engines.engine import EngineSpec
from geounet.errors import ResourceError
from geounet.mapping.cost import Cost, Pixels, cost_of, device_memory_needed, memory_needed, require_disk
from geounet.mapping.pipeline import map_scene
from geounet.mapping.planner import make_plan
from geounet.model.bundle import ModelBundle
from geounet.options import TTA, Options
from tiles.errors import GridError

SPEC = EngineSpec("openvino", "cpu", "bf16")
PIXELS = Pixels(bands=3, itemsize=1, classes=6)
SIDES = st.integers(1, 120_000)


@pytest.fixture(scope="module")
def wide_bundle(make_toy_bundle: Callable[..., ModelBundle], tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A model whose chips share 128 pixels, as the shipped one's do."""
    return make_toy_bundle(tmp_path_factory.mktemp("wide"), overlap=128, chip_size=256)


@settings(max_examples=80, deadline=None)
@given(SIDES, SIDES, st.floats(1.0, 2.0))
def test_the_usual_plan_stays_under_the_usual_memory_however_large_the_scene(
    bundle: ModelBundle, rows: int, cols: int, upsample: float
) -> None:
    plan = make_plan((rows, cols), bundle, SPEC, PIXELS, 2, upsample=upsample)
    assert plan.chip_size % 32 == 0
    assert plan.overlap == bundle.card.overlap
    assert memory_needed(plan, (rows, cols), PIXELS, 2) <= 1.4e9
    edges = [(b.left, b.right) for b in plan.blocks((rows, cols))]
    assert edges[0][0] == 0
    assert edges[-1][1] == cols
    assert all(a[1] == b[0] for a, b in pairwise(edges))


def test_a_scene_smaller_than_a_chip_is_one_chip_no_larger_than_it_must_be(bundle: ModelBundle) -> None:
    plan = make_plan((835, 500), bundle, SPEC, PIXELS, 2)
    assert plan.chip_size == 864
    assert len(plan.grid((835, 500))) == 1


def test_more_memory_means_fewer_blocks_and_height_costs_nothing(bundle: ModelBundle) -> None:
    def plan(rows: int, gigabytes: float) -> int:
        made = make_plan((rows, 60_000), bundle, SPEC, PIXELS, 2, chip_size=1024, max_memory=int(gigabytes * 1e9))
        return len(made.blocks((rows, 60_000)))

    assert plan(50_000, 8.0) == 1
    assert plan(50_000, 1.5) > 1
    assert plan(50_000, 1.5) == plan(5_000, 1.5)


def test_a_promise_that_cannot_be_kept_is_refused_with_the_number_it_needs(bundle: ModelBundle) -> None:
    with pytest.raises(ResourceError, match=r"--max-memory 0\.10 GB is not enough: this scene needs 0\.[4-9]"):
        make_plan((50_000, 50_000), bundle, SPEC, PIXELS, 2, max_memory=100_000_000)


def test_chip_size_and_overlap_that_do_not_go_together_are_refused(bundle: ModelBundle) -> None:
    with pytest.raises(GridError, match="overlap"):
        make_plan((5000, 5000), bundle, SPEC, PIXELS, 2, chip_size=64, overlap=64)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([None, 0, 16, 128, 400]))
def test_a_scene_no_larger_than_the_overlap_is_one_chip(
    wide_bundle: ModelBundle, rows: int, cols: int, overlap: int | None
) -> None:
    plan = make_plan((rows, cols), wide_bundle, SPEC, PIXELS, 2, overlap=overlap)
    assert len(plan.grid((rows, cols))) == 1
    assert plan.chip_size - max(rows, cols) < 32


def test_chips_smaller_than_the_models_overlap_share_half_of_themselves(
    wide_bundle: ModelBundle,
) -> None:
    plan = make_plan((5000, 5000), wide_bundle, SPEC, PIXELS, 2, chip_size=64)
    assert (plan.chip_size, plan.overlap) == (64, 32)


CUDA = EngineSpec("torch", "cuda", "fp16")


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.floats(1.0, 2.0), st.floats(0.3, 80.0), st.sampled_from(TTA))
def test_chips_fit_the_device_as_far_as_chips_can(
    bundle: ModelBundle, rows: int, cols: int, upsample: float, gigabytes: float, tta: str
) -> None:
    memory, shape = int(gigabytes * 1e9), (rows, cols)
    plan = make_plan(shape, bundle, CUDA, PIXELS, 2, upsample=upsample, device_memory=memory, tta=tta)
    if plan.chip_size > 256:
        assert device_memory_needed(plan, shape, PIXELS) <= 0.8 * memory
    larger = make_plan(shape, bundle, CUDA, PIXELS, 2, upsample=upsample, device_memory=2 * memory, tta=tta)
    if max(shape) > 2048:
        assert larger.chip_size >= plan.chip_size // 2
    asked = make_plan(shape, bundle, CUDA, PIXELS, 2, chip_size=1024, device_memory=memory)
    assert asked.chip_size == 1024


def test_small_devices_get_small_chips(bundle: ModelBundle) -> None:
    sizes = [
        make_plan((20_000, 20_000), bundle, CUDA, PIXELS, 2, device_memory=int(g * 1e9)).chip_size
        for g in (1, 4, 8, 80)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] <= 2048


def test_only_much_work_on_cuda_is_compiled(bundle: ModelBundle) -> None:
    def compiled(spec: EngineSpec, side: int, tta: str = "none") -> bool:
        return make_plan((side, side), bundle, spec, PIXELS, 2, tta=tta).compiled

    assert not compiled(CUDA, 10_000)
    assert compiled(CUDA, 150_000)
    assert compiled(CUDA, 60_000, "d4")
    assert not compiled(SPEC, 150_000)
    assert not compiled(EngineSpec("torch", "mps", "f32"), 150_000)


def test_views_cost_time_in_the_estimate(bundle: ModelBundle) -> None:
    def seconds(tta: str) -> float:
        plan = make_plan((5000, 5000), bundle, SPEC, PIXELS, 2, tta=tta, chip_size=512)
        return cost_of(plan, (5000, 5000), PIXELS, 2, layers=2).seconds

    network = seconds("flips") - seconds("none")
    assert seconds("d4") - seconds("none") == pytest.approx(7 / 3 * network)


def test_gdals_cache_counts_and_narrower_blocks_make_up_for_it(bundle: ModelBundle) -> None:
    """Reading wide strips of tall blocks, GDAL keeps up to 320 MB of them."""

    def cache(columns: int) -> int:
        return min(max(64_000_000, columns * 8_000), 320_000_000)

    shape, budget = (20_000, 60_000), 1_100_000_000
    tall = replace(PIXELS, cache=cache)
    usual, careful = (make_plan(shape, bundle, SPEC, p, 2, max_memory=budget) for p in (PIXELS, tall))
    assert memory_needed(usual, shape, tall, 2) > memory_needed(usual, shape, PIXELS, 2)
    assert memory_needed(careful, shape, tall, 2) <= budget
    assert len(careful.blocks(shape)) > len(usual.blocks(shape))


def test_costs_grow_with_the_scene(bundle: ModelBundle) -> None:
    small, large = (
        cost_of(make_plan(shape, bundle, SPEC, PIXELS, 2), shape, PIXELS, 2, layers=2)
        for shape in ((2000, 3000), (20_000, 3000))
    )
    assert large.seconds == pytest.approx(10 * small.seconds, rel=0.2)
    assert large.disk > 5 * small.disk
    assert large.memory <= 1.05 * small.memory


def test_a_disk_that_is_too_small_is_noticed_before_the_work(tmp_path: Path) -> None:
    free = disk_usage(tmp_path).free
    require_disk(Cost(0, free // 2, 0.0), tmp_path)
    with pytest.raises(ResourceError, match="GB are free"):
        require_disk(Cost(0, 2 * free, 0.0), tmp_path)


def test_blocks_of_columns_give_the_same_map(
    bundle: ModelBundle, make_scene: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(tmp_path / "scene.tif", rows=200, cols=330, nodata_rows=30)
    options = Options(chip_size=64, overlap=16, engine="torch", device="cpu", precision="f32", probabilities=True)
    whole = map_scene(scene, bundle, tmp_path / "whole", options)
    monkeypatch.setattr("geounet.mapping.planner.make_plan", _in_blocks)
    parts = map_scene(scene, bundle, tmp_path / "parts", options)
    assert parts.summary["plan"]["block_chips"] == 2
    for name in ("classes.tif", "confidence.tif", "probabilities.tif", "polygons.gpkg", "preview.png"):
        assert (whole.folder / name).read_bytes() == (parts.folder / name).read_bytes(), name
    assert parts.summary["seams"] == whole.summary["seams"]
    assert parts.summary["classes"] == whole.summary["classes"]


def _in_blocks(*given: object, **named: object) -> object:
    return replace(make_plan(*given, **named), block_chips=2)  # type: ignore[arg-type]
