"""What `models export` writes is run by tools that know nothing of us, as it is."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geounet.engines.choose import open_engine
from geounet.engines.engine import EngineSpec
from geounet.errors import BundleError, EngineError
from geounet.model.bundle import ModelBundle
from geounet.model.stretch import Stretch
from geounet.registry.add import add_model
from geounet.registry.describe import Told
from geounet.registry.export import export_model
from tiles.chips.cut import Chip
from tiles.window import Window

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 64


@pytest.fixture(scope="module")
def file(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(bundle, tmp_path_factory.mktemp("export") / "toy.onnx", SIDE)


def ours(bundle: ModelBundle, counts: Any, engine: str = "torch") -> Any:
    side = counts.shape[-1]
    chip = Chip(0, 0, Window(0, 0, side, side), counts, np.ones((side, side), dtype=bool))
    opened = open_engine(bundle, EngineSpec(engine, "cpu", "f32"), side)
    return next(iter(opened.predict([chip], Stretch("none")))).probabilities


@pytest.mark.filterwarnings("ignore:Specified provider")  # geodeep always asks for CUDA
def test_geodeep_gives_the_same_classes_on_the_same_chip(bundle: ModelBundle, file: Path, scene: Path) -> None:
    inference = pytest.importorskip("geodeep.inference", reason="geodeep is not installed")
    segmentation = importlib.import_module("geodeep.segmentation")
    with rasterio.open(scene) as source:
        counts = source.read(window=((10, 10 + SIDE), (20, 20 + SIDE)))
    session, config = inference.create_session(str(file))
    theirs = segmentation.execute_segmentation(counts.copy(), session, config)[0]
    mine = ours(bundle, counts)
    assert np.array_equal(theirs, mine.argmax(0))
    assert len(np.unique(theirs)) > 1
    assert config["model_type"] == "Segmentor"
    assert config["class_names"] == {"0": "building", "1": "tree", "2": "water"}
    assert config["resolution"] == 30.0
    assert config["tiles_overlap"] == 25.0
    assert config["tiles_size"] == SIDE


def test_the_metadata_is_what_deepness_and_stac_readers_look_for(bundle: ModelBundle, file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    told = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert {"model_type", "class_names", "resolution", "tile_size", "tiles_overlap", "seg_thresh"} <= set(told)
    assert [i.shape for i in session.get_inputs()] == [[1, 3, SIDE, SIDE]]
    assert told["mlm:input"][0]["bands"] == list(bundle.bands)
    assert [c["name"] for c in told["mlm:output"][0]["classification:classes"]] == list(bundle.legend.names)
    assert told["geounet:bundle"]["digest"] == bundle.digest


def test_a_bundle_that_is_an_onnx_file_is_exported_as_well(
    make_onnx: Callable[..., Any], make_onnx_bundle: Callable[..., ModelBundle], tmp_path: Path
) -> None:
    import onnxruntime

    brought = make_onnx_bundle(tmp_path / "m", make_onnx())
    target = export_model(brought, tmp_path / "out.onnx", SIDE)
    counts = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE)).astype(np.uint8)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"image": (counts[None] / 255).astype(np.float32)})
    engine = open_engine(brought, EngineSpec("onnxruntime", "cpu", "f32"), SIDE)
    chip = Chip(0, 0, Window(0, 0, SIDE, SIDE), counts, np.ones((SIDE, SIDE), dtype=bool))
    mine = next(iter(engine.predict([chip], Stretch("none")))).probabilities
    assert mine is not None
    assert np.abs(theirs[0] - mine).max() < 1e-4


def test_what_is_exported_is_added_again_and_says_the_same(bundle: ModelBundle, file: Path, tmp_path: Path) -> None:
    back = add_model(str(file), Told(name="back"), into=tmp_path).bundle
    assert [c.model_dump(exclude={"value"}) for c in back.card.legend] == [
        c.model_dump(exclude={"value"}) for c in bundle.card.legend
    ]
    counts = np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    assert np.abs(ours(back, counts, "onnxruntime") - ours(bundle, counts)).max() < 1e-4


def test_what_cannot_be_written_leaves_nothing(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist: make the folder first"):
        export_model(bundle, tmp_path / "no" / "x.onnx")
    with pytest.raises(BundleError, match="choose a multiple of 32"):
        export_model(bundle, tmp_path / "x.onnx", 100)
    with pytest.raises(EngineError, match="cannot be written as ONNX"):
        export_model(ModelBundle(tmp_path / "gone", bundle.card), tmp_path / "x.onnx", SIDE)
    assert list(tmp_path.iterdir()) == []
