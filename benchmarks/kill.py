"""Fifty real jobs while the service is killed at random: all must finish, with results equal byte for byte.

    python -m benchmarks.kill [--jobs 50] [--rounds 4] [--seed 5]

Five small scenes are uploaded in turn to `geounet serve`, mapped by a small network of random weights. In each round
two random processes below the API (worker, mapper) die by -9, then the API itself, and some of what it leaves behind;
the service is started again over the same data. Exits with an error where a job is not done or two
maps of one scene differ.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import rasterio
import torch
from affine import Affine

from benchmarks.service import free_port
from geounet.model.architectures import build_architecture
from geounet.model.bundle import Architecture, save_bundle

SCENES = 5
SAME = (
    *("classes.tif", "confidence.tif", "polygons.gpkg", "polygons.geojson"),
    *("features.sqlite3", "summary.json", "item.json"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    rng, began = random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_bundle(root / "bundles" / "toy")
        scenes = [make_scene(root / f"{n}.tif", 90 + n) for n in range(SCENES)]
        jobs: list[str] = []
        kills = 0
        for number in range(args.rounds):
            with service(root) as (process, client):
                until = args.jobs * (number + 1) // args.rounds
                jobs += [upload(client, scenes[n % SCENES]) for n in range(len(jobs), until)]
                kills += kill(process, client, rng)
        with service(root) as (_, client):
            found = [wait(client, job) for job in jobs]
        states = {state: sum(j["state"] == state for j in found) for state in ("done", "failed", "cancelled")}
        print(f"{len(jobs)} jobs, {kills} kills, {time.monotonic() - began:.0f} s: {states}")
        print(f"attempts a job: at most {max(j['attempts'] for j in found)}")
        assert states["done"] == args.jobs, [j["error"] for j in found if j["error"]]
        for first in range(SCENES):
            for name in SAME:
                different = {(root / "data" / "maps" / job / name).read_bytes() for job in jobs[first::SCENES]}
                assert len(different) == 1, f"{name} of scene {first} differs between jobs"
        print(f"equal bytes in every map of a scene: {', '.join(SAME)}")


def kill(process: psutil.Process, client: httpx2.Client, rng: random.Random) -> int:
    """Kill a random child twice, then the API, then some of the orphans; returns how many.

    Before each blow one more job is done: none is hit three times, for then it would rightly be failed.
    """
    kills = 0
    for _ in range(2):
        strike_after_a_job(client, rng)
        if family := process.children(recursive=True):
            rng.choice(family).kill()
            kills += 1
    strike_after_a_job(client, rng)
    family = process.children(recursive=True)
    process.kill()
    kills += 1
    for orphan in family:
        if rng.random() < 0.5:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.kill()
                kills += 1
    return kills


def strike_after_a_job(client: httpx2.Client, rng: random.Random) -> None:
    before = len(listed(client, "done"))
    while len(listed(client, "done")) == before and listed(client, "queued") + listed(client, "running"):
        time.sleep(0.05)
    time.sleep(rng.uniform(0.0, 1.0))


def listed(client: httpx2.Client, state: str) -> list[Any]:
    found: list[Any] = client.get("/jobs", params={"state": state, "limit": 1000}).json()["jobs"]
    return found


@contextlib.contextmanager
def service(root: Path) -> Iterator[tuple[psutil.Process, httpx2.Client]]:
    port = free_port()
    settings = {"DISK_RESERVE": "0", "DEVICE": "cpu", "ENGINE": "torch", "MODEL": "toy", "LEASE_SECONDS": "5"}
    environment = {**os.environ, **{f"GEOUNET_SERVICE_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "geounet.cli.serve", "serve", "--port", str(port)]
    with (root / "service.log").open("ab") as log:
        started = subprocess.Popen(
            [*command, "--data", root / "data", "--bundles", root / "bundles"], env=environment, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(f"{url}/healthz")
                break
            time.sleep(0.1)
        with httpx2.Client(base_url=url, timeout=60) as client:
            yield psutil.Process(started.pid), client
    finally:
        started.terminate()
        started.wait(30)


def upload(client: httpx2.Client, scene: Path) -> str:
    answer = client.put(f"/scenes/{scene.name}", content=scene.read_bytes(), params={"process": "true"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"]["id"])


def wait(client: httpx2.Client, job: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = client.get(f"/jobs/{job}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.3)


def make_scene(path: Path, rows: int, cols: int = 130) -> Path:
    """A smooth random RGB scene of 0.6 m."""
    rng = np.random.default_rng(rows)
    coarse = rng.integers(1, 255, (3, rows // 10 + 1, cols // 10 + 1))
    pixels = np.kron(coarse, np.ones((1, 10, 10), dtype=np.int64))[:, :rows, :cols].astype(np.uint8)
    profile = {"driver": "GTiff", "width": cols, "height": rows, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    transform = Affine(0.6, 0, 700000, 0, -0.6, 4400000)
    with rasterio.open(path, "w", **profile, crs="EPSG:32616", transform=transform) as target:
        target.write(pixels)
    return path


def make_bundle(folder: Path) -> None:
    """A small network of random weights."""
    architecture = Architecture(encoder="resnet18", arguments={"encoder_depth": 3, "decoder_channels": [32, 16, 16]})
    torch.manual_seed(0)
    legend = [{"value": n + 1, "name": name, "color": (80 * n, 90, 60)} for n, name in enumerate("abc")]
    card = {
        "name": "toy",
        "architecture": architecture.model_dump(),
        "bands": ["red", "green", "blue"],
        "normalisation": {"mean": [127.0] * 3, "std": [40.0] * 3},
        "legend": legend,
        "gsd_m": [0.3, 1.2],
        "chip_size": 64,
        "overlap": 16,
    }
    network = build_architecture(architecture, bands=3, classes=3)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_bundle(folder, json.loads(json.dumps(card)), network.state_dict(), "# toy\n")


if __name__ == "__main__":
    main()
