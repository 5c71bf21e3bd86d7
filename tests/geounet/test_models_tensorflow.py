"""SavedModels, and Dynamic World's way of making numbers small, on a small network of the same form."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geounet.engines.choose import open_engine
from geounet.engines.engine import EngineSpec
from geounet.errors import BundleError
from geounet.model.bundle import ModelBundle
from geounet.model.reflectance import Reflectance, reflectance_stretch
from geounet.registry.add import add_model
from geounet.registry.describe import Told
from geounet.registry.saved_model import BANDS, LOW_AND_SPREAD, PYTHON, converted_to_onnx, squash
from tiles.chips.cut import Chip
from tiles.window import Window

ort = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

SMALL_DYNAMIC_WORLD = """
import sys
import tensorflow as tf
tf.random.set_seed(0)
inputs = tf.keras.Input((None, None, 9))
x = tf.keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
x = tf.keras.layers.Conv2D(9, 1, kernel_initializer=tf.keras.initializers.RandomNormal(0, 3))(x)
model = tf.keras.Model(inputs, x)
serve = tf.function(lambda image: {"logits": model(image)},
                    input_signature=[tf.TensorSpec([None, None, None, 9], tf.float32, name="image")])
holder = tf.Module()
holder.model, holder.serve = model, serve
tf.saved_model.save(holder, sys.argv[1], signatures={"serving_default": serve})
"""


def squashed(counts: Any) -> Any:
    """The formula as its authors publish it; counts (rows, columns, bands)."""
    table = np.array(LOW_AND_SPREAD)
    x = (np.log(counts * 0.005 + 1) - table[:, 0]) / table[:, 1]
    x = np.exp(x * 5 - 1)
    return x / (x + 1)


@pytest.fixture
def counts() -> Any:
    return np.random.default_rng(4).integers(0, 9000, (9, 64, 64)).astype(np.uint16)


def test_the_normalisation_in_front_is_the_published_one(
    make_onnx: Callable[..., Any], tmp_path: Path, counts: Any
) -> None:
    model = make_onnx(bands=9, channels=9, layout="nhwc")
    path = tmp_path / "x.onnx"
    path.write_bytes(model.SerializeToString())
    squash(path)
    image = counts.transpose(1, 2, 0)[None].astype(np.float32)
    (found,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"counts": image})
    (wanted,) = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"image": squashed(image).astype(np.float32)}
    )
    assert np.abs(found - wanted).max() < 1e-4
    (tmp_path / "y.onnx").write_bytes(make_onnx(bands=4, layout="nhwc").SerializeToString())
    with pytest.raises(BundleError, match="not the nine bands of Dynamic World"):
        squash(tmp_path / "y.onnx")


def test_without_tensorflow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text("#!/bin/sh\necho 'No module named tf2onnx' >&2\nexit 1\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(stand_in))
    with pytest.raises(BundleError, match=r"pip install 'geounet\[tensorflow\]'"):
        converted_to_onnx(tmp_path, tmp_path, squashed=False)


def test_a_saved_model_of_dynamic_worlds_form_becomes_a_sentinel_2_bundle(tmp_path: Path, counts: Any) -> None:
    python = os.environ.get(PYTHON, sys.executable)
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if subprocess.run([python, "-c", "import tf2onnx, tensorflow"], env=kept, capture_output=True).returncode:
        pytest.skip("tensorflow and tf2onnx are not installed")
    saved = tmp_path / "dw"
    subprocess.run([python, "-c", SMALL_DYNAMIC_WORLD, str(saved)], env=kept, check=True, capture_output=True)
    added = add_model(str(saved), Told(preset="dynamicworld"), into=tmp_path / "store")
    bundle = added.bundle
    assert bundle.bands == BANDS
    assert bundle.legend.names[0] == "water"
    assert bundle.card.gsd_m == (10.0, 10.0)

    code = (
        "import sys, numpy as np, tensorflow as tf; m = tf.saved_model.load(sys.argv[1]); "
        "np.save(sys.argv[3], m.serve(tf.constant(np.load(sys.argv[2])))['logits'].numpy())"
    )
    np.save(tmp_path / "in.npy", squashed(counts.transpose(1, 2, 0)[None].astype(np.float64)).astype(np.float32))
    files = [str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    subprocess.run([python, "-c", code, str(saved), *files], env=kept, check=True, capture_output=True)
    theirs = np.load(files[1])[0].transpose(2, 0, 1)
    assert (scores(bundle, counts).argmax(0) == theirs.argmax(0)).mean() >= 0.9995


def scores(bundle: ModelBundle, counts: Any) -> Any:
    """Of a chip of Sentinel-2 counts that hold the offset of 1,000."""
    one = bundle.card.reflectance_one
    assert one == 10_000.0
    found = Reflectance(1000.0, 11_000.0, "")
    stretch = reflectance_stretch(found, counts.dtype, one, bundle.card.normalisation.mean)
    chip = Chip(0, 0, Window(0, 0, 64, 64), counts + np.uint16(1000), np.ones((64, 64), dtype=bool))
    (score,) = open_engine(bundle, EngineSpec("onnxruntime", "cpu", "f32"), 64).predict([chip], stretch)
    return np.array(score.probabilities)
