"""What every benchmark shares: a big scene with real texture, the machine in words, a table and a JSON file."""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

ROOT = Path(__file__).parents[1]


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    default = os.environ.get("GEOUNET_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with naip/images")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "benchmarks", help="folder for scenes and results")
    parser.add_argument("--model", default="overhead-rgb")
    return parser


def mosaic_scene(data: Path, folder: Path, rows: int, cols: int) -> Path:
    """A tiled, deflated RGB GeoTIFF of 0.6 m: training tiles in random order and turns, so texture is real."""
    path = folder / f"mosaic_{rows}x{cols}.tif"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    tiles = [_read_rgb(p) for p in sorted((data / "naip" / "images").glob("*.tif"))]
    if not tiles:
        raise SystemExit(f"{data / 'naip' / 'images'} holds no GeoTIFF: give --data")
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "width": cols,
        "height": rows,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:26917",
        "transform": Affine(0.6, 0, 300000, 0, -0.6, 4500000),
        "photometric": "RGB",
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "interleave": "pixel",
        "bigtiff": "if_safer",
    }
    part = path.with_suffix(".part.tif")
    side = tiles[0].shape[1]
    with rasterio.Env(GDAL_CACHEMAX=256), rasterio.open(part, "w", **profile) as target:
        for top in range(0, rows, 2 * side):
            height = min(2 * side, rows - top)
            band = [_row_of_tiles(tiles, rng, cols) for _ in range(2)]
            strip = np.concatenate(band, axis=1)[:, :height]
            target.write(strip, window=rasterio.windows.Window(0, top, cols, height))
    part.replace(path)
    return path


def _read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    with rasterio.open(path) as source:
        pixels: npt.NDArray[np.uint8] = source.read([1, 2, 3])
    return pixels


def _row_of_tiles(tiles: Sequence[npt.NDArray[np.uint8]], rng: np.random.Generator, cols: int) -> npt.NDArray[np.uint8]:
    side = tiles[0].shape[1]
    picks = rng.integers(0, len(tiles), -(-cols // side))
    turns = rng.integers(0, 4, picks.size)
    return np.concatenate([np.rot90(tiles[p], t, (1, 2)) for p, t in zip(picks, turns, strict=True)], axis=2)[
        :, :, :cols
    ]


def measure(work: Callable[[], Any]) -> dict[str, float]:
    """Wall and processor seconds of a call in this process, and the process's peak memory in MB after it."""
    wall, cpu = perf_counter(), process_time()
    work()
    wall, cpu = perf_counter() - wall, process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def median(values: Sequence[float]) -> float:
    """Median."""
    return statistics.median(values)


def machine() -> dict[str, Any]:
    """The machine in words."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {"processor": model, "cores": len(os.sched_getaffinity(0)), "python": sys.version.split()[0]}


def report(name: str, rows: Sequence[dict[str, Any]], work: Path) -> None:
    """Print a table and write `NAME.json`."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = [[_shown(row.get(c, "")) for c in columns] for row in rows]
    widths = [max(len(c), *(len(t[i]) for t in text)) for i, c in enumerate(columns)]
    print("  ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True)))
    for line in text:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)))
    work.mkdir(parents=True, exist_ok=True)
    target = work / f"{name}.json"
    target.write_text(json.dumps({"machine": machine(), "rows": list(rows)}, indent=2) + "\n")
    print(f"\n{machine()['processor']}, {machine()['cores']} cores; written to {target}")


def _shown(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)
