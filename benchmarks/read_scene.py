"""What reading a scene costs beyond decoding it once: time, memory, sample and fingerprint.

    python benchmarks/read_scene.py [FOLDER] [--megapixels 128]

Makes one noisy RGB scene a layout in FOLDER (a temporary one by default) and prints, for each: seconds to decode
every block once with rasterio, the ratio of cutting it into chips (512 px, overlap 64), and of the too-fine scene
reduced fourfold; seconds for the sample and the fingerprint; the memory that cutting added.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from affine import Affine

from tiles.chips.cut import cut
from tiles.chips.grid import ChipGrid
from tiles.scene.scene import open_scene

RGB = ("red", "green", "blue")
LAYOUTS: dict[str, dict[str, Any]] = {
    "tiles of 512, deflate": {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"},
    "tiles of 256, jpeg": {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "jpeg"},
    "one-row strips, lzw": {"blockysize": 1, "compress": "lzw"},
    "planar tiles of 512, zstd": {
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "interleave": "band",
    },
    "tiles of 2048, deflate": {"tiled": True, "blockxsize": 2048, "blockysize": 2048, "compress": "deflate"},
}  # fmt: skip


def main() -> None:
    """Measure every layout."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", type=Path)
    arguments.add_argument("--megapixels", type=float, default=128)
    given = arguments.parse_args()
    rows = int((given.megapixels * 1e6 / 2) ** 0.5)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for name, layout in LAYOUTS.items():
            measure(name, make(Path(folder) / "scene.tif", rows, 2 * rows, layout))


def make(path: Path, rows: int, cols: int, layout: dict[str, Any]) -> Path:
    """A scene of 0.075 m pixels with structure and noise, written strip by strip."""
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "count": 3, "height": rows, "width": cols, "dtype": "uint8", "photometric": "RGB"}
    place = {"crs": "EPSG:32617", "transform": Affine(0.075, 0, 3e5, 0, -0.075, 4.3e6)}
    with rasterio.open(path, "w", **profile, **place, **layout) as file:
        for top in range(0, rows, 2048):
            height = min(2048, rows - top)
            coarse = rng.integers(20, 200, (3, height // 32 + 1, cols // 32 + 1))
            strip = np.kron(coarse, np.ones((1, 32, 32)))[:, :height, :cols] + rng.integers(0, 30, (3, height, cols))
            file.write(strip.astype(np.uint8), window=rasterio.windows.Window(0, top, cols, height))
    return path


def measure(name: str, path: Path) -> None:
    """Print one layout's line."""
    floor = timed(lambda: decode_once(path))
    with peak_memory() as grown:
        chips = timed(lambda: cut_all(path, None))
    reduced = timed(lambda: cut_all(path, (0.3, 1.2)))
    with open_scene(path, RGB) as scene:
        sample, fingerprint = timed(lambda: scene.survey), timed(scene.fingerprint)
    print(
        f"{name:28} decode {floor:6.2f} s   cut {chips / floor:5.2f} x   reduced {reduced / floor:5.2f} x   "
        f"sample {sample:5.2f} s   fingerprint {fingerprint:5.2f} s   memory +{grown[0] / 1e6:,.0f} MB   "
        f"file {path.stat().st_size / 1e6:,.0f} MB",
        flush=True,
    )


def decode_once(path: Path) -> None:
    """Every block, once, in file order."""
    with rasterio.Env(GDAL_CACHEMAX=64_000_000, GDAL_NUM_THREADS="1"), rasterio.open(path) as file:
        for _, window in file.block_windows(1):
            file.read(window=window)


def cut_all(path: Path, gsd_range: tuple[float, float] | None) -> None:
    """All chips of a scene."""
    with open_scene(path, RGB, gsd_range=gsd_range) as scene:
        for _ in cut(scene, ChipGrid(scene.georef.shape, 512, 64)):
            pass


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Bytes of resident memory added at most while the block runs, sampled 50 times a second."""
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    grown = [0]

    def watch() -> None:
        while not done.wait(0.02):
            grown[0] = max(grown[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield grown
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
