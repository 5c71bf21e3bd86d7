"""The path of GPUs, on torch's `cpu` device, against the ordinary path: the same maps, byte for byte."""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geounet.engines.engine import Engine, EngineSpec
from geounet.engines.machine import batch_size
from geounet.engines.torch_cpu import TorchEngine
from geounet.engines.torch_device import DeviceEngine
from geounet.engines.transfer import DeviceStretch
from geounet.errors import EngineError
from geounet.mapping.pipeline import map_scene
from geounet.mapping.progress import Progress
from geounet.model.bundle import ModelBundle
from geounet.model.stretch import BandStretch, Stretch
from geounet.options import Options
from tiles.chips.blend import Strip, blend
from tiles.chips.cut import Chip
from tiles.chips.grid import ChipGrid
from tiles.window import Window

pytestmark = pytest.mark.usefixtures("one_thread")

CHIP = 64
SPEC = EngineSpec("torch", "cpu", "f32")
OPTIONS = Options(chip_size=CHIP, overlap=16, engine="torch", device="cpu", precision="f32", formats=("gpkg",))


class OpenOnDevice:
    """Stands for `geounet.engines.choose._open`: every engine works as on a GPU, in batches of `batch` chips."""

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.opened = 0

    def __call__(
        self, bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float, compiled: bool
    ) -> Engine:
        engine = DeviceEngine(bundle, spec, chip_size, upsample, compiled)
        engine.batch_size = self.batch
        self.opened += 1
        return engine


def same_but_for_the_run(a: Path, b: Path) -> bool:
    assert {p.name for p in a.iterdir()} == {p.name for p in b.iterdir()}
    return all(p.read_bytes() == (b / p.name).read_bytes() for p in a.iterdir() if p.name != "run.json")


def with_counts(scene: Path, dtype: str, path: Path) -> Path:
    """The same scene in another type, with more than 8 bits in use."""
    with rasterio.open(scene) as source:
        profile, pixels = source.profile, source.read()
    rng = np.random.default_rng(0)
    wide = pixels.astype(np.float64) * 11 + rng.integers(0, 11, pixels.shape) * (pixels > 0)
    with rasterio.open(path, "w", **{**profile, "dtype": dtype, "photometric": "MINISBLACK"}) as target:
        target.colorinterp = [rasterio.enums.ColorInterp[c] for c in ("red", "green", "blue")]
        target.write((wide / 2800 if dtype.startswith("float") else wide).astype(dtype))
    return path


@pytest.mark.parametrize(
    ("dtype", "changes"),
    [
        ("uint8", {}),
        ("uint8", {"probabilities": True, "tta": "d4"}),
        ("uint8", {"stretch": "10,200", "tta": "scales"}),
        ("uint16", {"probabilities": True}),
        ("int16", {}),
        ("float32", {}),
    ],
)
def test_a_map_made_on_the_device_is_the_ordinary_one(
    bundle: ModelBundle,
    make_scene: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    changes: dict[str, Any],
) -> None:
    scene = make_scene(tmp_path / "eight.tif", nodata_rows=70)
    if dtype != "uint8":
        scene = with_counts(scene, dtype, tmp_path / f"{dtype}.tif")
    options = replace(OPTIONS, **changes)
    usual = map_scene(scene, bundle, tmp_path / "usual", options)
    on_device = OpenOnDevice()
    monkeypatch.setattr("geounet.engines.choose._open", on_device)
    found = map_scene(scene, bundle, tmp_path / "found", options)
    assert on_device.opened
    assert found.summary["seams"]["overlap_pixels"] > 0
    assert same_but_for_the_run(usual.folder, found.folder)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_interrupted_map_goes_on_to_the_same_bytes(
    bundle: ModelBundle,
    make_scene: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
) -> None:
    """Also where the batches of chips fall otherwise after the interruption."""
    monkeypatch.setattr("geounet.engines.choose._open", OpenOnDevice(batch=3))
    scene = make_scene(tmp_path / "scene.tif", rows=200, nodata_rows=30)
    whole = map_scene(scene, bundle, tmp_path / "whole", OPTIONS)
    left = [calls]

    def stop(progress: Progress) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_scene(scene, bundle, tmp_path / "cut", OPTIONS, on_progress=stop)
    assert not [t for t in threading.enumerate() if t.name.startswith("geounet-")]
    again = map_scene(scene, bundle, tmp_path / "cut", OPTIONS)
    assert same_but_for_the_run(whole.folder, again.folder)


def chips_of(grid: ChipGrid, seed: int, empty: float) -> list[Chip]:
    rng = np.random.default_rng(seed)
    out = []
    for row, col in grid.positions():
        valid = (rng.random((CHIP, CHIP)) > 0.2) & (rng.random() >= empty)
        counts = rng.integers(0, 256, (3, CHIP, CHIP), dtype=np.uint8)
        out.append(Chip(row, col, grid.window(row, col), counts, valid))
    return out


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 5), st.integers(0, 100), st.sampled_from([0.0, 0.4, 1.0]), st.integers(1, 4))
def test_batches_of_any_size_give_the_same_strips(
    bundle: ModelBundle, batch: int, seed: int, empty: float, cols: int
) -> None:
    grid = ChipGrid((2 * 48 + 16, cols * 48 + 16), CHIP, 16)
    chips, stretch = chips_of(grid, seed, empty), Stretch("none")
    usual = TorchEngine(bundle, SPEC, CHIP)
    engine = DeviceEngine(bundle, SPEC, CHIP)
    engine.batch_size = batch
    expected = list(blend(usual.predict(iter(chips), stretch), grid, bundle.legend, probabilities=True))
    found = list(engine.fetch(blend(engine.predict(iter(chips), stretch), grid, bundle.legend, probabilities=True)))
    assert len(found) == len(expected) == 2
    for one, two in zip(found, expected, strict=True):
        assert isinstance(one.classes, np.ndarray)
        assert (one.classes == two.classes).mean() > 0.999  # batches may round differently
        assert np.abs(one.confidence.astype(int) - two.confidence).max() <= 1
        assert ((one.classes == 255) == (two.classes == 255)).all()


class LateStream:
    """A stream whose copies happen as late as its users allow: when somebody waits for them."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], Any]] = []

    def wait_stream(self, other: "LateStream") -> None:
        while other.pending:
            other.pending.pop(0)()

    def record_event(self) -> "LateEvent":
        event = LateEvent()
        event.record(self)
        return event


class LateEvent:
    def __init__(self) -> None:
        self.of: LateStream | None = None

    def record(self, stream: LateStream) -> None:
        self.of = stream

    def synchronize(self) -> None:
        if self.of is not None:
            LateStream().wait_stream(self.of)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), st.integers(0, 100), st.sampled_from([0.0, 0.4]))
def test_nothing_is_read_before_its_copy_has_been_waited_for(
    bundle: ModelBundle, batch: int, seed: int, empty: float
) -> None:
    """CUDA's streams, played on the CPU: copies that nobody waits for never happen, so a missing wait shows."""
    grid = ChipGrid((3 * 48 + 16, 3 * 48 + 16), CHIP, 16)
    chips, stretch = chips_of(grid, seed, empty), Stretch("none")
    work, late = LateStream(), 0

    def copy(there: torch.Tensor, here: torch.Tensor, lane: Any) -> None:
        nonlocal late
        late += 1
        lane.pending.append(lambda: there.copy_(here))

    def strips(engine: DeviceEngine) -> list[Strip]:
        engine.batch_size = batch
        return list(engine.fetch(blend(engine.predict(iter(chips), stretch), grid, bundle.legend)))

    usual = strips(DeviceEngine(bundle, SPEC, CHIP))
    with ExitStack() as stack:
        for name, value in {
            "geounet.engines.transfer._lane": lambda _: LateStream(),
            "geounet.engines.transfer._copy": copy,
            "geounet.engines.transfer._on_host": lambda shape, kind, pinned: torch.zeros(tuple(shape), dtype=kind),
            "torch.cuda.Event": LateEvent,
            "torch.cuda.stream": lambda _: nullcontext(),
            "torch.cuda.current_stream": lambda _: work,
        }.items():
            stack.enter_context(patch(name, value))
        found = strips(DeviceEngine(bundle, SPEC, CHIP))
    assert late >= 2 + 3 * 3
    for one, two in zip(found, usual, strict=True):
        np.testing.assert_array_equal(one.classes, two.classes)
        np.testing.assert_array_equal(one.confidence, two.confidence)
        np.testing.assert_array_equal(one.pairs, two.pairs)


@given(
    st.sampled_from(["uint8", "int8", "uint16", "int16", "float32", "float64", "int32", "uint32", "int64"]),
    st.sampled_from(["none", "linear", "match"]),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_counts_become_the_same_floats_on_the_device(dtype: str, method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    low, high = (-1000.0, 70_000.0) if info is None else (max(info.min, -70_000), min(info.max, 70_000))
    counts = rng.uniform(low, high, (3, 8, 8)).astype(dtype)
    valid = rng.random((8, 8)) > 0.3
    if info is None:
        counts[:, ~valid] = np.nan
    bands = {
        "none": (),
        "linear": (BandStretch(10.0, 2000.0, 1.0, 0.0, 255.0),) * 3,
        "match": tuple(BandStretch(low / 2 + b, high / 2, 0.5 + b, 10.0, 240.0) for b in range(3)),
    }[method]
    stretch = Stretch(method, bands)
    chip = Chip(0, 0, Window(0, 0, 8, 8), counts, valid)
    on_device = DeviceStretch(stretch, counts.dtype, torch.device("cpu"))
    packed: npt.NDArray[Any] = np.empty(counts.shape, on_device.packed)
    on_device.pack(chip, packed)
    found = on_device(torch.from_numpy(packed)[None], torch.from_numpy(valid)[None])[0].numpy()
    with np.errstate(invalid="ignore"):
        expected = stretch.apply(counts, valid)
    assert found.dtype == np.float32
    if np.dtype(dtype).itemsize <= 2:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


def test_small_chips_are_scored_together_on_cuda_only() -> None:
    assert [batch_size("cuda", side) for side in (64, 512, 1024, 2048, 4096)] == [16, 16, 4, 1, 1]
    assert batch_size("cuda:1", 1024) // 4 == batch_size("mps", 512) == batch_size("cpu", 64) == 1


def test_too_little_device_memory_is_told_with_what_to_do(bundle: ModelBundle) -> None:
    def strip(_: int) -> Strip:
        raise torch.OutOfMemoryError("CUDA out of memory")

    engine = DeviceEngine(bundle, SPEC, CHIP)
    with pytest.raises(EngineError, match=r"not enough device memory for chips of 64 px; .*--restart.*--chip-size"):
        list(engine.fetch(map(strip, [0])))


def test_a_compiler_that_fails_is_told_once_and_done_without(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> Callable[..., Any]:
        def run(_: object) -> None:
            raise RuntimeError("no compiler\nfound here")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    counts = torch.zeros(1, 3, CHIP, CHIP)
    engine = DeviceEngine(bundle, SPEC, CHIP, compiled=True)
    with caplog.at_level(logging.WARNING, "geounet.engines"):
        found = [engine.score(counts) for _ in range(2)]
    told = [r.getMessage() for r in caplog.records]
    assert told == ["torch.compile does not work here (no compiler); the network runs uncompiled, which is slower"]
    expected = DeviceEngine(bundle, SPEC, CHIP).score(counts)
    assert all((p == expected).all() for p in found)


def test_a_network_that_fails_is_not_taken_for_a_compiler(bundle: ModelBundle) -> None:
    with pytest.raises(RuntimeError):
        DeviceEngine(bundle, SPEC, CHIP).score(torch.zeros(1, 7, CHIP, CHIP))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_out_of_memory_halves_the_batch_and_the_answers_stay(
    bundle: ModelBundle, caplog: pytest.LogCaptureFixture, most: int
) -> None:
    engine = DeviceEngine(bundle, SPEC, CHIP)
    engine.batch_size = engine._at_once = 7
    counts = torch.rand((7, 3, CHIP, CHIP), generator=torch.Generator().manual_seed(0)) * 255
    whole = engine.score(counts)
    forward, sizes = engine._forward, []

    def small(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        answer: torch.Tensor = forward(part)
        return answer

    engine._forward = small
    with caplog.at_level(logging.WARNING):
        found = engine.score(counts)
    assert torch.allclose(found, whole, atol=1e-5)
    assert "not enough memory for 7 chips at once, going on with 3" in caplog.text
    sizes.clear()
    engine.score(counts)
    assert max(sizes) <= most  # it is remembered

    engine._forward = lambda part: small(part.repeat(8, 1, 1, 1))  # one chip alone is too much
    with pytest.raises(torch.OutOfMemoryError):
        engine.score(counts[:1])
