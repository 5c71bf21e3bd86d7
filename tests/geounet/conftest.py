"""A small bundle and a small scene to make maps with."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from geounet.model.architectures import build_architecture
from geounet.model.bundle import Architecture, ModelBundle, save_bundle

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
