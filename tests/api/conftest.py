"""A real server on loopback, a map made by code, a small bundle."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from geounet.service.features.texts import write_feature_texts
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store
from geounet.service.uploads import Share
from tiles.georef import Georef
from tiles.ingest import ingest
from tiles.legend import LandClass, Legend
from tiles.polygons.polygonise import polygonise
from tiles.vectors.write import write_vectors

LEGEND = Legend(
    (
        LandClass(1, "building", (200, 50, 50)),
        LandClass(2, "tree", (30, 110, 40)),
        LandClass(3, "bare ground", (150, 120, 90)),
    )
)
GEOREF = Georef(rasterio.crs.CRS.from_epsg(32616), Affine(0.6, 0, 700000, 0, -0.6, 4400000), (120, 160))


@dataclass(frozen=True)
class Service:
    """A running service: its address, its data folder, its API process, and a map that it holds."""

    url: str
    data: Path
    process: "subprocess.Popen[bytes]"
    map_id: str

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60, **options)


def write_scene(path: Path, rows: int = 150, cols: int = 210, **changes: Any) -> Path:
    """A smooth random RGB scene of 0.6 m."""
    rng = np.random.default_rng(rows * cols)
    coarse = rng.integers(1, 255, (3, rows // 10 + 2, cols // 10 + 2))
    pixels = np.kron(coarse, np.ones((1, 10, 10), dtype=np.int64))[:, :rows, :cols].astype(np.uint8)
    profile = {
        "driver": "GTiff",
        "width": cols,
        "height": rows,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32616",
        "transform": Affine(0.6, 0, 700000, 0, -0.6, 4400000),
        "photometric": "RGB",
        **changes,
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels[: profile["count"]].astype(profile["dtype"]))
    return path


def write_map(folder: Path, georef: Georef = GEOREF, seed: int = 0) -> None:
    """A map folder as the pipeline writes it, of random fields of about five pixels."""
    folder.mkdir(parents=True)
    rows, cols = georef.shape
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 4, (rows // 5 + 1, cols // 5 + 1))
    classes = np.kron(coarse, np.ones((5, 5), dtype=np.int64))[:rows, :cols].astype(np.uint8)
    classes[:7, :9] = 255
    confidence = np.where(classes == 255, 255, rng.integers(40, 100, classes.shape)).astype(np.uint8)
    batches = polygonise([(classes, confidence)], georef, LEGEND)
    write_vectors(batches, folder, ("gpkg", "geojson"), georef, LEGEND)
    profile = {
        "driver": "GTiff",
        "width": cols,
        "height": rows,
        "count": 1,
        "dtype": "uint8",
        "crs": georef.crs,
        "transform": georef.transform,
        "nodata": 255,
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    }
    for name, values in (("classes", classes), ("confidence", confidence)):
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as target:
            target.write(values, 1)
            if name == "classes":
                target.write_colormap(1, LEGEND.colormap())
            target.build_overviews([2])
    Image.new("RGB", (8, 8)).save(folder / "preview.png")
    grid = {"crs": georef.crs.to_string(), "transform": list(georef.transform)[:6], "rows": rows, "columns": cols}
    summary = {
        "scene": "scene.tif",
        "grid": grid,
        "classes": [{"value": c.value, "name": c.name, "area_m2": 1.0, "share": 0.3} for c in LEGEND.classes],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    write_feature_texts(folder)


def add_map(store: Store, owner: str | None = None, georef: Georef = GEOREF, seed: int = 0) -> str:
    """A finished map with its scene and its job, put there as a worker does."""
    from geounet.service.jobs import JobRequest, worker_name

    folder = store.root / secrets.token_hex(4)
    path = write_scene(store.root / f"{folder.name}.tif", *georef.shape, crs=georef.crs, transform=georef.transform)
    upload = store.begin_upload(owner, Share(), 10**9, None)
    upload.write(path.read_bytes())
    ingest(path, upload.clean)
    scene = store.keep(upload, owner, "field.tif", {}, georef.shape[0] * georef.shape[1], Share())
    upload.close()
    path.unlink()
    job = store.queue.submit(JobRequest(owner, scene.id, "toy", {}, priority=1000))
    worker = worker_name()
    claimed = store.queue.claim(worker, 60)
    assert claimed is not None
    assert claimed.id == job.id
    write_map(store.work_folder(claimed) / "map", georef, seed)
    store.publish(claimed, worker)
    return job.id


def make_bundles(folder: Path) -> Path:
    """A folder with one bundle of random weights, quick to run."""
    import torch

    from geounet.model.architectures import build_architecture
    from geounet.model.bundle import Architecture, save_bundle

    architecture = Architecture(encoder="resnet18", arguments={"encoder_depth": 3, "decoder_channels": [32, 16, 16]})
    torch.manual_seed(0)
    network = build_architecture(architecture, bands=3, classes=len(LEGEND))
    card = {
        "name": "toy",
        "architecture": architecture.model_dump(),
        "bands": ["red", "green", "blue"],
        "normalisation": {"mean": [127.0] * 3, "std": [40.0] * 3},
        "quantiles": {
            "levels": [0.01, 0.02, 0.25, 0.5, 0.75, 0.98, 0.99],
            "values": [[5, 10, 80, 110, 150, 230, 240]] * 3,
        },
        "legend": [{"value": c.value, "name": c.name, "color": c.color} for c in LEGEND.classes],
        "gsd_m": [0.3, 1.2],
        "chip_size": 64,
        "overlap": 16,
    }
    save_bundle(folder / "toy", card, network.state_dict(), "# toy\n")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(data: Path, bundles: Path, *, worker: bool = False, **settings: object) -> Iterator[Service]:
    """The service as a process of its own."""
    port = free_port()
    environment = {
        **os.environ,
        "GEOUNET_SERVICE_DISK_RESERVE": "0",
        "GEOUNET_SERVICE_DEVICE": "cpu",
        "GEOUNET_SERVICE_MODEL": "toy",
        "GEOUNET_SERVICE_LEASE_SECONDS": "5",
        **{f"GEOUNET_SERVICE_{k.upper()}": str(v) for k, v in settings.items()},
    }
    command = [sys.executable, "-m", "geounet.cli.serve", "serve", "--port", str(port), "--data", str(data)]
    command += ["--bundles", str(bundles), *([] if worker else ["--no-worker"])]
    log = (data.parent / f"serve-{port}.log").open("wb")
    process = subprocess.Popen(command, env=environment, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield Service(url, data, process, "")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    ends = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the service did not start"
        assert time.monotonic() < ends
        try:
            httpx2.get(f"{url}/healthz", timeout=5)
            return
        except httpx2.TransportError:
            time.sleep(0.1)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Service]:
    """One service without a worker for the whole session, with one map in it."""
    data = tmp_path_factory.mktemp("service") / "data"
    store = Store(ServiceSettings(data=data, disk_reserve=0))
    map_id = add_map(store)
    with running(data, bundles, scene_bytes=10**9, upload_limit=20_000_000) as found:
        yield Service(found.url, data, found.process, map_id)


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


@pytest.fixture(scope="session")
def start() -> Callable[..., Any]:
    """`running`: further services with settings of their own."""
    return running


@pytest.fixture(scope="session")
def new_scene() -> Callable[..., Path]:
    """`write_scene`."""
    return write_scene


@pytest.fixture(scope="session")
def new_map() -> Callable[..., str]:
    """`add_map`."""
    return add_map
