"""A small bundle and a small scene to make maps with."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from geounet.model.architectures import build_architecture
from geounet.model.bundle import Architecture, ModelBundle, save_bundle, save_onnx_bundle

CLASSES = (("building", (200, 50, 50)), ("tree", (30, 110, 40)), ("water", (40, 90, 200)))


def make_bundle(folder: Path, seed: int = 0, name: str = "toy", **changes: object) -> ModelBundle:
    """A whole bundle with random weights, quick to run: what it predicts means nothing, how it is used does."""
    architecture = Architecture(encoder="resnet18", arguments={"encoder_depth": 3, "decoder_channels": [32, 16, 16]})
    torch.manual_seed(seed)
    network = build_architecture(architecture, bands=3, classes=len(CLASSES))
    card = {
        "name": name,
        "architecture": architecture.model_dump(),
        "bands": ["red", "green", "blue"],
        "normalisation": {"mean": [127.0] * 3, "std": [40.0] * 3},
        "quantiles": {
            "levels": [0.01, 0.02, 0.25, 0.5, 0.75, 0.98, 0.99],
            "values": [[5, 10, 80, 110, 150, 230, 240]] * 3,
        },
        "legend": [{"value": i + 1, "name": n, "color": c} for i, (n, c) in enumerate(CLASSES)],
        "gsd_m": [0.3, 1.2],
        "chip_size": 64,
        "overlap": 16,
        **changes,
    }
    return save_bundle(folder, card, network.state_dict(), "# toy\n")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Converted models of these tests stay out of the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GEOUNET_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_scene(path: Path, rows: int = 150, cols: int = 210, nodata_rows: int = 0) -> Path:
    """A smooth random RGB scene of 0.6 m with, on request, its upper rows nodata."""
    rng = np.random.default_rng(rows * cols)
    coarse = rng.integers(1, 255, (3, rows // 10 + 2, cols // 10 + 2))
    pixels = np.kron(coarse, np.ones((1, 10, 10), dtype=np.int64))[:, :rows, :cols].astype(np.uint8)
    pixels[:, :nodata_rows] = 0
    profile = {
        "driver": "GTiff",
        "width": cols,
        "height": rows,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32616",
        "transform": Affine(0.6, 0, 700000, 0, -0.6, 4400000),
        "photometric": "RGB",
        "nodata": 0 if nodata_rows else None,
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)
    return path


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Path]:
    """`write_scene`."""
    return write_scene


@pytest.fixture(scope="session")
def make_toy_bundle() -> Callable[..., ModelBundle]:
    """`make_bundle`."""
    return make_bundle


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Chips this small gain nothing from threads, and threads that wait for each other lose on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_onnx(
    bands: int = 3,
    channels: int = 3,
    *,
    layout: str = "nchw",
    kind: str = "float32",
    size: int | None = None,
    last: str | None = None,
    opset: int = 17,
    shrink: int = 1,
    metadata: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Any:
    """An ONNX network: one 1 x 1 convolution with random weights, named `weight`, and `last` behind it.

    Its scores are `weight @ x`; with `shrink`, of means over squares of so many pixels.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(seed).normal(size=(channels, bands, 1, 1)).astype(np.float32)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    side: int | str = size or "side"
    shape = ["n", bands, side, side] if layout == "nchw" else ["n", side, side, bands]
    nodes: list[Any] = []
    at = "image"

    def then(operator: str, *more: str, **attributes: Any) -> None:
        nonlocal at
        nodes.append(helper.make_node(operator, [at, *more], [f"{operator}{len(nodes)}"], **attributes))
        at = nodes[-1].output[0]

    if kind != "float32":
        then("Cast", to=TensorProto.FLOAT)
    if layout == "nhwc":
        then("Transpose", perm=[0, 3, 1, 2])
    if shrink > 1:
        then("AveragePool", kernel_shape=[shrink, shrink], strides=[shrink, shrink])
    then("Conv", "weight")
    if layout == "nhwc":
        then("Transpose", perm=[0, 2, 3, 1])
    if last:
        then(last, **({"axis": 3 if layout == "nhwc" else 1} if last == "Softmax" else {}))
    out = side // shrink if isinstance(side, int) else "out"
    last_shape = ["n", channels, out, out] if layout == "nchw" else ["n", out, out, channels]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", number, shape)],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, last_shape)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def make_onnx() -> Callable[..., Any]:
    """`build_onnx`."""
    return build_onnx


ONNX_CLASSES = [{"value": i, "name": n, "color": (40 * i, 90, 200)} for i, n in enumerate(("other", "cloud", "shadow"))]


def build_onnx_bundle(folder: Path, model: Any, bands: int = 3, classes: int = 3, **changes: Any) -> ModelBundle:
    told = {"output": model.graph.output[0].name, "channels": classes, "activation": "softmax"}
    card = {
        "name": "brought",
        "bands": ["red", "green", "blue", "nir"][:bands],
        "normalisation": {"mean": [100.0] * bands, "std": [50.0] * bands},
        "legend": ONNX_CLASSES[: max(classes, 2)],
        "gsd_m": [0.3, 1.2],
        "chip_size": 64,
        "overlap": 16,
        "onnx": told | changes.pop("onnx", {}),
        **changes,
    }
    return save_onnx_bundle(folder, card, model.SerializeToString(), "# brought\n")


@pytest.fixture(scope="session")
def make_onnx_bundle() -> Callable[..., ModelBundle]:
    """`build_onnx_bundle`."""
    return build_onnx_bundle
