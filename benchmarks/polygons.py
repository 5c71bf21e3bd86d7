"""Polygons against peers: seconds per 100 megapixels and peak memory, same raster, same run.

    python benchmarks/polygons.py                        # a noisy map, 25 Mpx
    python benchmarks/polygons.py --classes CLASSES.tif  # a real class map, tiled to the size asked for
    python benchmarks/polygons.py --memory               # peak memory from 10,000 to 40,000 rows

Every measurement runs in a process of its own, compiled code warm; times are CPU seconds of that process (this is
about one core) with the wall clock behind; --repeat gives medians.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.features
import shapely
from affine import Affine
from rasterio.crs import CRS

from tiles.georef import Georef
from tiles.legend import NODATA, LandClass, Legend
from tiles.polygons.polygonise import PolygonBatch, default_generalisation, polygonise
from tiles.vectors.write import write_vectors

Bytes = npt.NDArray[np.uint8]
LEGEND = Legend(tuple(LandClass(v, f"class {v}", (40 * v, 90, 200 - 30 * v)) for v in range(6)))
_TILE = 2048


def noisy_tile(smoothness: float) -> Bytes:
    """Six classes, seamless, from the largest of six smoothed noise fields; seeded."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(1)
    best, classes = np.full((_TILE, _TILE), -np.inf, np.float32), np.zeros((_TILE, _TILE), np.uint8)
    for value in range(6):
        field = gaussian_filter(rng.standard_normal((_TILE, _TILE), dtype=np.float32), smoothness, mode="wrap")
        classes[field > best], best = value, np.maximum(best, field)
    return classes


def real_tile(path: str) -> Bytes:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


def strips(tile: Bytes, shape: tuple[int, int], height: int = 512) -> Iterator[tuple[Bytes, Bytes]]:
    """The tile over and over, never the whole raster at once."""
    wide = np.tile(tile, (1, -(-shape[1] // tile.shape[1])))[:, : shape[1]]
    for top in range(0, shape[0], height):
        rows = wide[np.arange(top, min(top + height, shape[0])) % len(wide)]
        yield rows, np.where(rows == NODATA, rows, np.uint8(80))


def georef(shape: tuple[int, int]) -> Georef:
    return Georef(CRS.from_epsg(32613), Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 4_400_000.0), shape)


def ours(tile: Bytes, shape: tuple[int, int], min_area: float, simplify: float) -> Iterator[PolygonBatch]:
    return polygonise(strips(tile, shape), georef(shape), LEGEND, min_area_m2=min_area, simplify_px=simplify)


def count(batches: Iterator[PolygonBatch]) -> tuple[int, int]:
    polygons = vertices = 0
    for batch in batches:
        polygons += len(batch)
        vertices += int(shapely.get_num_coordinates(batch.geometries).sum())
    return polygons, vertices


def theirs(tile: Bytes, shape: tuple[int, int], simplify: float) -> tuple[int, int]:
    classes = np.concatenate([rows for rows, _ in strips(tile, shape)])
    found = rasterio.features.shapes(classes, mask=classes != NODATA, connectivity=4, transform=georef(shape).transform)
    shapes = np.array([shapely.geometry.shape(s) for s, _ in found], dtype=object)
    if simplify:
        shapes = shapely.coverage_simplify(shapes, simplify, simplify_boundary=False)
    return len(shapes), int(shapely.get_num_coordinates(shapes).sum())


def written(tile: Bytes, shape: tuple[int, int], formats: list[str]) -> tuple[int, int]:
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(ours(tile, shape, 0.0, 0.0), Path(folder), formats, georef(shape), LEGEND)
    return 0, 0


def measurements(tile: Bytes, shape: tuple[int, int]) -> dict[str, Callable[[], tuple[int, int]]]:
    unit, tolerance = default_generalisation(georef(shape))
    return {
        "exact": lambda: count(ours(tile, shape, 0.0, 0.0)),
        "simplified": lambda: count(ours(tile, shape, 0.0, 1.0)),
        "mapping unit": lambda: count(ours(tile, shape, unit, 0.0)),
        "defaults": lambda: count(ours(tile, shape, unit, tolerance)),
        "exact + fgb": lambda: written(tile, shape, ["fgb"]),
        "exact + gpkg": lambda: written(tile, shape, ["gpkg"]),
        "exact + geojson": lambda: written(tile, shape, ["geojson"]),
        "rasterio": lambda: theirs(tile, shape, 0.0),
        "rasterio + coverage_simplify": lambda: theirs(tile, shape, 1.0),
    }


def measure(name: str, arguments: argparse.Namespace) -> None:
    """One measurement, printed as JSON; runs in a process of its own."""
    tile = np.load(arguments.tile)
    shape = (arguments.rows, arguments.cols)
    measurements(tile[:64, :64], (64, 64))[name]()  # compile, import, warm up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    polygons, vertices = measurements(tile, shape)[name]()
    print(
        json.dumps(
            {
                "wall": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
                "polygons": polygons,
                "vertices": vertices,
                "before": before / 1024,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def spawn(name: str, tile: Path, rows: int, cols: int) -> dict[str, Any]:
    sizes = ["--rows", str(rows), "--cols", str(cols)]
    command = [sys.executable, __file__, "--measure", name, "--tile", str(tile), *sizes]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def compare(tile: Path, arguments: argparse.Namespace) -> None:
    per = arguments.rows * arguments.cols / 1e8
    print(f"{arguments.rows} x {arguments.cols}; CPU seconds per 100 Mpx (wall), MB at peak, polygons, vertices")
    names = arguments.only or list(measurements(np.zeros((1, 1), np.uint8), (1, 1)))
    medians: dict[str, float] = {}
    for name in names:
        runs = [spawn(name, tile, arguments.rows, arguments.cols) for _ in range(arguments.repeat)]
        cpu, wall = (statistics.median(r[key] for r in runs) / per for key in ("cpu", "wall"))
        medians[name] = cpu
        peak = max(r["peak"] for r in runs)
        print(
            f"{name:30} {cpu:8.1f} ({wall:8.1f}) {peak:8.0f} {runs[0]['polygons']:10,} {runs[0]['vertices']:12,}",
            flush=True,
        )
    for one, other in (("exact", "rasterio"), ("simplified", "rasterio + coverage_simplify")):
        if one in medians and other in medians:
            print(f"{other} / {one}: {medians[other] / medians[one]:.1f}")


def memory(tile: Path, arguments: argparse.Namespace) -> None:
    print(f"{arguments.cols} columns; peak MB (before the work), polygons, wall seconds")
    for rows in (10_000, 20_000, 40_000):
        for name in arguments.only or ["exact", "defaults"]:
            r = spawn(name, tile, rows, arguments.cols)
            print(
                f"{rows:7,} rows {name:12} {r['peak']:6.0f} ({r['before']:4.0f}) {r['polygons']:10,} {r['wall']:7.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", help="a real class map; without it a noisy one is made")
    parser.add_argument("--smoothness", type=float, default=5.5, help="of the noisy map, in pixels")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--cols", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--only", action="append", help="a measurement by name; may be given several times")
    parser.add_argument("--memory", action="store_true", help="peak memory over growing heights instead")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--tile", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        tile = Path(folder) / "tile.npy"
        np.save(tile, real_tile(arguments.classes) if arguments.classes else noisy_tile(arguments.smoothness))
        (memory if arguments.memory else compare)(tile, arguments)


if __name__ == "__main__":
    main()
