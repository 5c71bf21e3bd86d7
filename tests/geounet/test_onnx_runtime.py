"""ONNX Runtime runs bundles of both kinds, and says what the other engines say."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio

from geounet.engines.choose import open_engine, resolve
from geounet.engines.engine import EngineSpec
from geounet.errors import BundleError, EngineError
from geounet.mapping.pipeline import map_scene
from geounet.model.bundle import ModelBundle
from geounet.model.onnx_scorer import onnx_scorer
from geounet.model.stretch import Stretch
from geounet.options import Options
from tiles.chips.cut import Chip
from tiles.window import Window

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")

Array = npt.NDArray[Any]
Maker = Callable[..., Any]
Bundler = Callable[..., ModelBundle]
AS_IT_IS = Stretch("none")


def chip_of(counts: Array, number: int = 0) -> Chip:
    side = counts.shape[-1]
    return Chip(0, number, Window(0, 0, side, side), counts, np.ones((side, side), dtype=bool))


def scores_of(bundle: ModelBundle, spec: EngineSpec, chips: list[Chip], upsample: float = 1.0) -> Array:
    engine = open_engine(bundle, spec, chips[0].counts.shape[-1], upsample)
    return np.stack([np.array(s.probabilities) for s in engine.predict(chips, AS_IT_IS)])


def graph_scores(bundle: ModelBundle, engine: str, counts: Array) -> Array:
    """What the graph around the network says, run in this process: converting in one of its own takes seconds."""
    graph = onnx_scorer(bundle, counts.shape[-1]).SerializeToString()
    image = counts[None].astype(np.float32)
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"counts": image})[0][0])
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(BytesIO(graph)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.asarray(compiled(image)[0][0])


@pytest.fixture
def onnx_bundle(make_onnx_bundle: Callable[..., ModelBundle]) -> Callable[..., ModelBundle]:
    return make_onnx_bundle


def expected(model: Any, counts: Array) -> Array:
    """Probabilities of the network of `build_onnx` behind mean 100 and deviation 50, (classes, rows, columns)."""
    weight = np.frombuffer(model.graph.initializer[0].raw_data, np.float32).reshape(model.graph.initializer[0].dims)
    logits = np.einsum("cb,brs->crs", weight[:, :, 0, 0], (counts.astype(np.float64) - 100.0) / 50.0)
    powers = np.exp(logits - logits.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0))


@pytest.fixture
def counts() -> Array:
    return np.random.default_rng(5).integers(0, 256, (3, 64, 64)).astype(np.uint8)


def test_the_shipped_bundle_says_what_torch_says(real: Callable[[str], Path]) -> None:
    with rasterio.open(real("scenes/naip_block.tif")) as source:
        pixels = source.read([1, 2, 3])
    chips = [chip_of(pixels[:, top : top + 256, 300:556]) for top in (0, 200, 384)]
    bundle = ModelBundle.load("overhead-rgb")
    ours = scores_of(bundle, resolve("onnxruntime", "cpu"), chips)
    theirs = scores_of(bundle, EngineSpec("torch", "cpu", "f32"), chips)
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.9995
    assert np.abs(ours - theirs).max() < 1e-3


def test_a_map_is_the_same_for_any_number_of_cores(
    bundle: ModelBundle, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = []
    for cores in (1, 3):
        monkeypatch.setattr("geounet.engines.onnx_runtime.cores", lambda cores=cores: cores)
        options = Options(chip_size=64, overlap=16, engine="onnxruntime", device="cpu", formats=("gpkg",))
        found = map_scene(scene, bundle, tmp_path / str(cores), options)
        maps.append({p.name: p.read_bytes() for p in found.folder.iterdir() if p.name != "run.json"})
    assert maps[0] == maps[1]


def test_chips_come_in_order_and_empty_ones_are_passed_on(bundle: ModelBundle, counts: Array) -> None:
    chips = [chip_of(np.roll(counts, i, axis=2), i) for i in range(7)]
    empty = chip_of(counts, 7)
    chips.insert(3, Chip(0, 7, empty.window, counts, np.zeros((64, 64), dtype=bool)))
    engine = open_engine(bundle, resolve("onnxruntime", "cpu"), 64)
    found = list(engine.predict(iter(chips), AS_IT_IS))
    assert [s.col for s in found] == [c.col for c in chips]
    assert [s.probabilities is None for s in found] == [c.empty for c in chips]
    alone = scores_of(bundle, engine.spec, [chips[4]])
    assert found[4].probabilities is not None
    assert np.array_equal(found[4].probabilities, alone[0])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("opset", [11, 12, 13, 17, 20])
def test_logits_of_any_version_become_probabilities(
    make_onnx: Callable[..., Any],
    onnx_bundle: Callable[..., ModelBundle],
    tmp_path: Path,
    counts: Array,
    engine: str,
    opset: int,
) -> None:
    model = make_onnx(opset=opset)
    bundle = onnx_bundle(tmp_path / "m", model)
    found = graph_scores(bundle, engine, counts)
    assert np.abs(found - expected(model, counts)).max() < 1e-4


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("last", [None, "Softmax"])
def test_layouts_element_types_and_softmax_inside_make_no_difference(
    make_onnx: Callable[..., Any],
    onnx_bundle: Callable[..., ModelBundle],
    tmp_path: Path,
    counts: Array,
    engine: str,
    kind: str,
    layout: str,
    last: str | None,
) -> None:
    model = make_onnx(kind=kind, layout=layout, last=last, size=64)
    whole = {"mean": [0.0] * 3, "std": [1.0] * 3} if kind == "uint8" else {"mean": [100.0] * 3, "std": [50.0] * 3}
    told = {"layout": layout, "size": 64, "activation": "none" if last else "softmax"}
    bundle = onnx_bundle(tmp_path / "m", model, normalisation=whole, onnx=told)
    found = graph_scores(bundle, engine, counts)
    if kind == "uint8":  # its own arithmetic is on the counts as they are
        counts = counts.astype(np.float64) * 50.0 + 100.0
    assert np.abs(found - expected(model, counts)).max() < (2e-2 if kind == "float16" else 1e-4)


@pytest.mark.parametrize(("last", "activation"), [(None, "sigmoid"), ("Sigmoid", "none")])
def test_one_channel_says_how_much_the_second_class_is_meant(
    make_onnx: Callable[..., Any],
    onnx_bundle: Callable[..., ModelBundle],
    tmp_path: Path,
    counts: Array,
    last: str | None,
    activation: str,
) -> None:
    model = make_onnx(channels=1, last=last)
    bundle = onnx_bundle(tmp_path / "m", model, classes=1, onnx={"activation": activation})
    found = graph_scores(bundle, "onnxruntime", counts)
    weight = np.frombuffer(model.graph.initializer[0].raw_data, np.float32)
    second = 1 / (1 + np.exp(-np.einsum("b,brs->rs", weight, (counts - 100.0) / 50.0)))
    assert np.abs(found - np.stack([1 - second, second])).max() < 1e-4


def test_classes_that_are_scored_each_by_itself_sum_to_one(
    make_onnx: Maker, onnx_bundle: Bundler, tmp_path: Path, counts: Array
) -> None:
    bundle = onnx_bundle(tmp_path / "m", make_onnx(last="Sigmoid"), onnx={"activation": "shares"})
    found = graph_scores(bundle, "onnxruntime", counts)
    assert np.abs(found.sum(axis=0) - 1).max() < 1e-5


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_that_answers_on_a_coarser_grid_is_enlarged(
    make_onnx: Maker, onnx_bundle: Bundler, tmp_path: Path, engine: str
) -> None:
    flat = np.full((3, 64, 64), 130, dtype=np.uint8)
    model = make_onnx(shrink=4)
    bundle = onnx_bundle(tmp_path / "m", model, onnx={"shrink": 4})
    found = graph_scores(bundle, engine, flat)
    assert found.shape == (3, 64, 64)
    assert np.abs(found - expected(model, flat)).max() < 1e-4


def test_one_size_only_is_kept_to_whatever_the_scene_is(
    make_onnx: Callable[..., Any],
    onnx_bundle: Callable[..., ModelBundle],
    make_scene: Callable[..., Path],
    tmp_path: Path,
) -> None:
    bundle = onnx_bundle(tmp_path / "m", make_onnx(size=96), chip_size=96, onnx={"size": 96})
    found = map_scene(make_scene(tmp_path / "s.tif", 150, 210), bundle, tmp_path / "map", Options(formats=("gpkg",)))
    assert found.summary["plan"]["chip_size"] == 96
    # 1.5 times coarser than the model knows: chips of 64 are enlarged to its 96.
    coarse = onnx_bundle(tmp_path / "c", make_onnx(size=96), chip_size=96, gsd_m=[0.2, 0.4], onnx={"size": 96})
    found = map_scene(make_scene(tmp_path / "s.tif", 150, 210), coarse, tmp_path / "map2", Options(formats=("gpkg",)))
    assert found.summary["plan"]["chip_size"] == 64
    with pytest.raises(EngineError, match=r"--chip-size 128: brought takes chips of 96 pixels only"):
        map_scene(make_scene(tmp_path / "s.tif"), bundle, tmp_path / "map3", Options(chip_size=128))


def test_what_cannot_run_is_said_in_one_line(make_onnx: Maker, onnx_bundle: Bundler, tmp_path: Path) -> None:
    bundle = onnx_bundle(tmp_path / "m", make_onnx())
    with pytest.raises(EngineError, match="which torch does not run: choose --engine onnxruntime or openvino"):
        resolve("torch", "cpu", onnx=True)
    with pytest.raises(BundleError, match="is an ONNX file"):
        bundle.state_dict()
    for precision in ("bf16", "fp16"):
        with pytest.raises(EngineError, match="computes in f32 on cpu"):
            resolve("onnxruntime", "cpu", precision)
    with pytest.raises(EngineError, match="no CUDAExecutionProvider; choose --device cpu"):
        resolve("onnxruntime", "cuda")
    with pytest.raises(EngineError, match="knows no device 'mps'"):
        resolve("onnxruntime", "mps")


def test_auto_never_gives_an_onnx_file_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(onnx=True).engine in ("openvino", "onnxruntime")
    monkeypatch.setattr("geounet.engines.choose.find_spec", lambda name: None if name == "openvino" else object())
    assert resolve(onnx=True, precision="f32") == EngineSpec("onnxruntime", "cpu", "f32")
    monkeypatch.setattr("geounet.engines.onnx_runtime.best_device", lambda: "cuda")
    monkeypatch.setattr("geounet.engines.onnx_runtime.ort.get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert resolve(onnx=True) == EngineSpec("onnxruntime", "cuda", "f32")
