"""What decoding an upload once costs, against the mapping itself, and what it gives back.

    python -m benchmarks.ingest [SCENE] [--model NAME]

Time and disk of `tiles.ingest` for one scene, the time of its map with the same process, and a tile of the scene at
every zoom: from the decoded scene as the service makes it, and by rio-tiler's warped view of the file as it came.
"""

import argparse
import resource
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import rasterio
from rasterio.warp import transform_bounds
from rio_tiler.io import Reader

from geounet.mapping.pipeline import map_scene
from geounet.model.bundle import ModelBundle
from geounet.options import Options
from tiles.clean.original import PIXELS
from tiles.durable import folder_bytes
from tiles.ingest import ingest
from tiles.rasters.web_tile import web_tile


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", nargs="?", default="../shared/data/scenes/naip_block0.tif", type=Path)
    parser.add_argument("--model", default="overhead-rgb")
    parser.add_argument("--no-map", action="store_true", help="leave the map out")
    parser.add_argument("--warped", nargs="*", type=int, default=[10, 14], help="zooms at which the file is warped too")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "clean"
        clean.mkdir()
        began = time.perf_counter()
        original = ingest(given.scene, clean, given.scene.name)
        ingested = time.perf_counter() - began
        pixels = original.shape[0] * original.shape[1] / 1e6
        print(
            f"{given.scene.name}: {original.shape[1]} x {original.shape[0]}, {len(original.dtypes)} bands, "
            f"{pixels:.1f} Mpx"
        )
        print(f"ingest: {ingested:.2f} s, {pixels / ingested:.1f} Mpx/s")
        came, kept = given.scene.stat().st_size, folder_bytes(clean)
        print(f"disk: {came / 1e6:.1f} MB came, {kept / 1e6:.1f} MB are kept, {kept / came:.2f} times")
        print(f"peak memory so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
        _tiles(given.scene, clean / PIXELS, tuple(given.warped))
        if not given.no_map:
            began = time.perf_counter()
            map_scene(clean, ModelBundle.load(given.model), Path(folder) / "map", Options())
            mapped = time.perf_counter() - began
            print(f"map: {mapped:.1f} s; ingest is {ingested / mapped:.1%} of it")
            shutil.rmtree(Path(folder) / "map")


def _tiles(scene: Path, pixels: Path, warped: tuple[int, ...]) -> None:
    with rasterio.open(scene) as came, rasterio.open(pixels) as clean, Reader(None, dataset=came) as reader:
        west, south, east, north = transform_bounds(clean.crs, "EPSG:4326", *clean.bounds)
        bands = (1, 2, 3) if clean.count >= 3 else (1,)
        web_tile(clean, (0, 0, 0), bands)
        print("zoom   decoded scene   warped view of the file")
        for zoom in range(0, 20):
            place = reader.tms.tile((west + east) / 2, (south + north) / 2, zoom)
            began = time.perf_counter()
            web_tile(clean, (place.x, place.y, place.z), bands)
            ours = time.perf_counter() - began
            theirs = ""
            if zoom in warped:
                began = time.perf_counter()
                reader.tile(place.x, place.y, place.z, indexes=bands, tilesize=256)
                theirs = f"{(time.perf_counter() - began) * 1000:20.0f} ms"
            print(f"{zoom:4d} {ours * 1000:12.0f} ms {theirs}")


if __name__ == "__main__":
    main()
