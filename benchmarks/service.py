"""How fast the service is: pages of a box, deep pages, single items, tiles; memory under load; a large upload.

    python benchmarks/service.py [--side 1640] [--requests 200] [--upload-gb 2] [--peer PYTHON]

A map of about 500,000 polygons (side 1640) is made of noise, put into a fresh data folder and served by
`geounet serve` on loopback. Prints medians, 95th percentiles and requests a second over one connection, one request
at a time. With `--peer`, the Python of an environment that has pygeoapi and gunicorn, the same GeoPackage is served by
pygeoapi at the same time, ten of our requests are followed by ten of the peer's, and ratios are printed. pygeoapi's
own GeoPackage providers need GDAL's Python bindings or SpatiaLite; where neither can be had,
`benchmarks/pygeoapi_gpkg.py` stands in: the same reads through pyogrio.
"""

import argparse
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import numpy as np
import psutil
import pyogrio
import rasterio
from affine import Affine
from pyproj import Transformer
from scipy.ndimage import uniform_filter

from geounet.service.features.texts import write_feature_texts
from geounet.service.jobs import JobRequest, worker_name
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store
from geounet.service.uploads import Share
from tiles.georef import Georef
from tiles.legend import LandClass, Legend
from tiles.polygons.polygonise import polygonise
from tiles.vectors.write import write_vectors

NAMES = ("building", "road", "bare", "tree", "water")
LEGEND = Legend(tuple(LandClass(i + 1, n, (40 * i, 200 - 30 * i, 90)) for i, n in enumerate(NAMES)))
WINDOW = 0.1  # of each side: 1 % of the area
BLOCK = 10  # requests before it is the peer's turn
DEEP = 0.9  # of all features lie before a deep page

Process = subprocess.Popen[bytes]
Ask = Callable[[], Callable[[], bytes]]
Query = tuple[str, dict[str, str | int]]
Ids = np.ndarray[tuple[int], np.dtype[np.int64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1640, help="pixels a side of the noise raster")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--upload-gb", type=float, default=2.0)
    parser.add_argument("--peer", type=Path, help="python of an environment with pygeoapi")
    parser.add_argument("--keep", type=Path, help="a folder to keep the map in between runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = args.keep or Path(scratch)
        made = root / f"noise-{args.side}"
        if not made.exists():
            make_map(made, args.side)
        store = Store(ServiceSettings(data=Path(scratch) / "data", disk_reserve=0))
        map_id = put(store, made)
        gpkg = store.maps.folder(map_id) / "polygons.gpkg"
        count = pyogrio.read_info(gpkg, layer="landcover")["features"]
        print(f"{count:,} polygons, {gpkg.stat().st_size / 1e6:.0f} MB")
        with contextlib.ExitStack() as stack:
            port, process = stack.enter_context(our_service(store))
            peer = stack.enter_context(peer_service(args.peer, gpkg, Path(scratch))) if args.peer else None
            measure(port, process, peer, map_id, gpkg, args)


def make_map(folder: Path, side: int) -> None:
    """A map folder of smoothed noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    fields = np.stack([uniform_filter(rng.random((side, side), dtype=np.float32), 3) for _ in NAMES])
    classes = (fields.argmax(0) + 1).astype(np.uint8)
    confidence = np.full_like(classes, 77)
    crs, transform = rasterio.crs.CRS.from_epsg(32616), Affine(0.6, 0, 700000, 0, -0.6, 4400000)
    georef = Georef(crs, transform, (side, side))
    write_vectors(polygonise([(classes, confidence)], georef, LEGEND), folder, ("gpkg",), georef, LEGEND)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", "nodata": 255}
    for name, values in (("classes", classes), ("confidence", confidence)):
        path = folder / f"{name}.tif"
        with rasterio.open(path, "w", crs=crs, transform=transform, tiled=True, compress="deflate", **profile) as out:
            out.write(values, 1)
            if name == "classes":
                out.write_colormap(1, LEGEND.colormap())
            out.build_overviews([2, 4, 8])
    grid = {"crs": "EPSG:32616", "transform": list(transform)[:6], "rows": side, "columns": side}
    shares = [{"value": c.value, "name": c.name, "area_m2": 1.0, "share": 0.2} for c in LEGEND.classes]
    (folder / "summary.json").write_text(json.dumps({"scene": "noise.tif", "grid": grid, "classes": shares}))
    write_feature_texts(folder)


def put(store: Store, made: Path) -> str:
    """Put the map into the store as a worker does."""
    upload = store.begin_upload(None, Share(), 10**6, None)
    upload.write(b"no scene")
    scene = store.keep(upload, None, "noise.tif", {}, 1, Share())
    upload.close()
    store.queue.submit(JobRequest(None, scene.id, "noise", {}))
    worker = worker_name()
    job = store.queue.claim(worker, 600)
    assert job is not None
    folder = store.work_folder(job) / "map"
    folder.mkdir(parents=True)
    for path in made.iterdir():
        os.link(path, folder / path.name) if made.stat().st_dev == folder.stat().st_dev else copy(path, folder)
    store.publish(job, worker)
    return job.id


def copy(path: Path, folder: Path) -> None:
    (folder / path.name).write_bytes(path.read_bytes())


def measure(port: int, process: Process, peer: int | None, map_id: str, gpkg: Path, args: argparse.Namespace) -> None:
    items = f"/collections/{map_id}/items"
    ours = {
        name: partial(get, Client(port), items, query)
        for name, query in queries(gpkg, "after", lambda ids: int(ids[int(len(ids) * DEEP)])).items()
    }
    theirs = {
        name: partial(get, Client(peer), "/collections/noise/items", query)
        for name, query in queries(gpkg, "offset", lambda ids: int(len(ids) * DEEP)).items()
        if peer is not None
    }
    for _ in range(10):
        ours["bbox page"]()()
    memory = psutil.Process(process.pid).memory_info().rss
    for name, ask in ours.items():
        run(name, args.requests, ask, theirs.get(name))
    run("tile", args.requests, tile_getter(Client(port), map_id))
    after = psutil.Process(process.pid).memory_info().rss
    print(f"memory of the API: {memory / 1e6:.0f} MB after 10 pages, {after / 1e6:.0f} MB after all")
    read_by_gdal(f"http://127.0.0.1:{port}", map_id)
    if args.upload_gb:
        upload(port, process.pid, args.upload_gb)


@contextlib.contextmanager
def our_service(store: Store) -> Iterator[tuple[int, Process]]:
    port = free_port()
    command = [sys.executable, "-m", "geounet.cli.serve", "serve", "--no-worker", "--port", str(port)]
    settings = {"GEOUNET_SERVICE_DISK_RESERVE": "0"}
    with running([*command, "--data", str(store.root)], f"http://127.0.0.1:{port}/healthz", settings) as process:
        yield port, process


class Client:
    """One connection that stays open where the server lets it; the plainest client costs the least."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def get(self, path: str, params: dict[str, str | int] | None = None) -> bytes:
        self._connection.request("GET", path + ("?" + urlencode(params) if params else ""))
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body[:500]
        return body


def windows(gpkg: Path, count: int) -> Iterator[str]:
    """Boxes of 1 % of the map, in degrees."""
    left, bottom, right, top = pyogrio.read_info(gpkg, layer="landcover")["total_bounds"]
    to_lonlat = Transformer.from_crs(32616, "OGC:CRS84", always_xy=True)
    rng = np.random.default_rng(2)
    for _ in range(count):
        x = left + rng.random() * (right - left) * (1 - WINDOW)
        y = bottom + rng.random() * (top - bottom) * (1 - WINDOW)
        box = to_lonlat.transform_bounds(x, y, x + (right - left) * WINDOW, y + (top - bottom) * WINDOW)
        yield ",".join(f"{v:.7f}" for v in box)


def tile_getter(client: Client, map_id: str) -> Ask:
    told = json.loads(client.get(f"/maps/{map_id}/tilejson.json"))
    west, south, east, north = told["bounds"]
    z = told["maxzoom"]
    rng = np.random.default_rng(3)

    def get() -> Callable[[], bytes]:
        across, up = 0.1 + 0.8 * rng.random(2)  # the corners of the bounds lie outside a tilted map
        lon, lat = west + (east - west) * across, south + (north - south) * up
        x = int((lon + 180) / 360 * 2**z)
        y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**z)
        return partial(client.get, f"/maps/{map_id}/tiles/{z}/{x}/{y}.png")

    return get


def run(name: str, count: int, ask: Ask, peer: Ask | None = None) -> None:
    """Prints a line for us, one for the peer, whose requests come in between ours, and the ratio."""
    ours, theirs = Times(name), Times(f"pygeoapi: {name}")
    for _ in range(max(count // BLOCK, 1)):
        for _ in range(BLOCK):
            ours.add(ask)
        if peer is not None:
            for _ in range(BLOCK):
                theirs.add(peer)
    print(ours.line(), flush=True)
    if peer is not None:
        print(theirs.line())
        told = f"{ours.rate / theirs.rate:.1f} times pygeoapi's requests a second"
        print(f"{name}: {told}, {theirs.p50 / ours.p50:.1f} times by the medians", flush=True)


class Times:
    """How long requests took."""

    def __init__(self, name: str) -> None:
        self.name, self._seconds, self._bytes = name, list[float](), 0

    def add(self, ask: Ask) -> None:
        send = ask()  # what to ask for is thought out before the clock starts
        began = time.perf_counter()
        body = send()
        self._seconds.append(time.perf_counter() - began)
        self._bytes += len(body)

    @property
    def p50(self) -> float:
        return statistics.median(self._seconds)

    @property
    def rate(self) -> float:
        return len(self._seconds) / sum(self._seconds)

    def line(self) -> str:
        p95, size = statistics.quantiles(self._seconds, n=20)[-1], self._bytes / len(self._seconds) / 1e3
        told = f"p50 {self.p50 * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms, {self.rate:.1f} requests/s, {size:.0f} kB each"
        return f"{self.name}: {told}"


def read_by_gdal(base: str, map_id: str) -> None:
    began = time.perf_counter()
    got = pyogrio.read_dataframe(f"OAPIF:{base}/collections/{map_id}", max_features=10_000, PAGE_SIZE="1000")
    print(f"GDAL's OAPIF driver: {len(got):,} features in {time.perf_counter() - began:.2f} s")


def upload(port: int, pid: int, gigabytes: float) -> None:
    """Send zeros, which are refused at the end; memory is what counts."""
    process = psutil.Process(pid)
    before = peak = process.memory_info().rss
    chunk = b"\0" * (1 << 20)

    def body() -> Iterator[bytes]:
        nonlocal peak
        for n in range(int(gigabytes * 1e9) >> 20):
            if n % 64 == 0:
                peak = max(peak, process.memory_info().rss)
            yield chunk

    began = time.perf_counter()
    url = f"http://127.0.0.1:{port}/scenes/zeros.tif"
    status = httpx2.put(url, content=body(), timeout=600).status_code
    took = time.perf_counter() - began
    print(f"upload of {gigabytes:g} GB: {took:.1f} s, +{(peak - before) / 1e6:.1f} MB of memory (status {status})")


@contextlib.contextmanager
def peer_service(python: Path, gpkg: Path, scratch: Path) -> Iterator[int]:
    port = free_port()
    config = scratch / "pygeoapi.json"
    config.write_text(json.dumps(peer_config(gpkg, port)))
    environment = {
        "PYGEOAPI_CONFIG": str(config),
        "PYGEOAPI_OPENAPI": str(scratch / "openapi.yml"),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    subprocess.run(
        [python.parent / "pygeoapi", "openapi", "generate", config, "--output-file", environment["PYGEOAPI_OPENAPI"]],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    # As pygeoapi's own container runs it, but for threads, which keep connections open.
    server = [str(python), "-m", "gunicorn", "--worker-class", "gthread", "--threads", "4", "--bind"]
    command = [*server, f"127.0.0.1:{port}", "pygeoapi.flask_app:APP"]
    with running(command, f"http://127.0.0.1:{port}/conformance", environment):
        yield port


def queries(gpkg: Path, deep: str, place: Callable[[Ids], int]) -> dict[str, Callable[[], Query]]:
    """What is asked for, by name: a path below the items and the parameters, new ones at each call."""
    boxes = windows(gpkg, 100_000)
    ids: Ids = pyogrio.raw.read(gpkg, layer="landcover", read_geometry=False, columns=[], return_fids=True)[1]
    pick = np.random.default_rng(1)
    there = place(ids)
    return {
        "bbox page": lambda: ("", {"bbox": next(boxes), "limit": 1000, "f": "json"}),
        "first page": lambda: ("", {"limit": 1000, "f": "json"}),
        "deep page": lambda: ("", {"limit": 1000, deep: there, "f": "json"}),
        "item": lambda: (f"/{pick.choice(ids)}", {"f": "json"}),
    }


def get(client: Client, items: str, query: Callable[[], Query]) -> Callable[[], bytes]:
    path, params = query()
    return partial(client.get, items + path, params)


def peer_config(gpkg: Path, port: int) -> dict[str, object]:
    url = f"http://127.0.0.1:{port}"
    contact = {"name": "x", "position": "x", "address": "x", "city": "x", "stateorprovince": "x", "postalcode": "x"}
    contact |= {"country": "x", "phone": "x", "fax": "x", "email": "x@example.org", "url": url, "hours": "x"}
    contact |= {"instructions": "x", "role": "x"}
    return {
        "server": {
            "bind": {"host": "127.0.0.1", "port": port},
            "url": url,
            "mimetype": "application/json; charset=UTF-8",
            "encoding": "utf-8",
            "languages": ["en-US"],
            "limits": {"default_items": 1000, "max_items": 1000},
            "map": {"url": "https://example.org/{z}/{x}/{y}.png", "attribution": "x"},
        },
        "logging": {"level": "ERROR"},
        "metadata": {
            "identification": {
                "title": "x", "description": "x", "keywords": ["x"], "keywords_type": "theme",
                "terms_of_service": "x", "url": url,
            },
            "license": {"name": "x", "url": url},
            "provider": {"name": "x", "url": url},
            "contact": contact,
        },
        "resources": {
            "noise": {
                "type": "collection", "title": "noise", "description": "noise", "keywords": ["x"], "links": [],
                "extents": {"spatial": {"bbox": [-180, -90, 180, 90]}},
                "providers": [
                    {"type": "feature", "name": "pygeoapi_gpkg.GpkgProvider", "data": str(gpkg), "id_field": "fid"}
                ],
            }
        },
    }  # fmt: skip


@contextlib.contextmanager
def running(command: list[str], url: str, environment: dict[str, str]) -> Iterator[Process]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            assert process.poll() is None, f"{command[0]} did not start"
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(url).status_code == 200:
                    break
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
