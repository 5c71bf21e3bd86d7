"""How long the statistics of an area take, against reading the same rasters and doing nothing with them.

`python -m benchmarks.statistics --side 10000`: a class raster and its confidence, made here as a map's are, inside one
polygon with a border through every part of it, and whole.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from tiles.georef import Georef
from tiles.rasters.zonal import zonal_counts

TRANSFORM = Affine(0.5, 0, 700000, 0, -0.5, 4400000)


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=10_000, help="rows and columns")
    side = parser.parse_args().side
    with tempfile.TemporaryDirectory() as folder:
        paths = [_write(Path(folder) / f"{name}.tif", side, name) for name in ("classes", "confidence")]
        with rasterio.Env(GDAL_CACHEMAX=64_000_000), rasterio.open(paths[0]) as one, rasterio.open(paths[1]) as two:
            georef = Georef(one.crs, one.transform, one.shape)
            angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
            radius = np.where(np.arange(200) % 2, 0.3, 0.5) * side
            star = shapely.Polygon(np.column_stack([np.cos(angles), np.sin(angles)]) * radius[:, None] + side / 2)
            read = _best(lambda: _read((one, two)))
            whole = _best(lambda: zonal_counts(one, two, georef, shapely.box(-1, -1, side + 1, side + 1)))
            part = _best(lambda: zonal_counts(one, two, georef, star))
    print(f"{side} x {side}: read {read:.2f} s; whole {whole:.2f} s, {whole / read:.2f} times; star {part:.2f} s")


def _best(work: Callable[[], object], rounds: int = 3) -> float:
    took = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def _read(files: tuple[rasterio.DatasetReader, ...]) -> None:
    for row in range(0, files[0].height, 1024):
        for column in range(0, files[0].width, 1024):
            for file in files:
                file.read(1, window=Window(column, row, 1024, 1024))


def _write(path: Path, side: int, name: str) -> Path:
    rng = np.random.default_rng(1)
    coarse = rng.integers(1, 9, (side // 20 + 1, side // 20 + 1)).astype(np.uint8)
    values = np.kron(coarse, np.ones((20, 20), np.uint8))[:side, :side]
    if name == "confidence":
        values = np.clip(values * 9 + rng.integers(0, 5, values.shape, dtype=np.uint8), 0, 100).astype(np.uint8)
    profile = {"driver": "COG", "width": side, "height": side, "count": 1, "dtype": "uint8", "crs": "EPSG:32616"}
    with rasterio.open(path, "w", transform=TRANSFORM, nodata=255, compress="DEFLATE", **profile) as target:
        target.write(values, 1)
    return path


if __name__ == "__main__":
    main()
