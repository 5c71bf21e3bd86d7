"""Web-map tiles of any zoom from one raster."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io import Reader

from tiles.rasters.web_tile import web_tile

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The dataset has no Overviews"),
]
PLACES = (
    (14, "EPSG:32617", Affine(10, 0, 300_000, 0, -10, 4_300_000)),
    (9, "EPSG:4326", Affine(0.01, 0, -84, 0, -0.01, 40)),
)


def _at(t: Affine, col: float, row: float) -> tuple[list[float], list[float]]:
    return [t.a * col + t.b * row + t.c], [t.d * col + t.e * row + t.f]


@pytest.mark.parametrize(
    ("zoom", "crs", "transform"), [*PLACES, (14, "EPSG:32617", Affine(7, 7, 300_000, 7, -7, 4_300_000))]
)
def test_a_tile_is_what_rio_tiler_makes(geotiff: Any, zoom: int, crs: str, transform: Affine) -> None:
    """Up to half a pixel: a smooth picture differs by little, and its border by a pixel."""
    rows, cols = np.mgrid[0:700, 0:800]
    picture = np.stack([rows // 4, cols // 4, (rows + cols) // 8]).astype(np.uint8)
    path: Path = geotiff(picture, crs=crs, transform=transform, nodata=0)
    with rasterio.open(path) as dataset, Reader(None, dataset=dataset) as reader:
        lon, lat = (v[0] for v in rasterio.warp.transform(crs, "EPSG:4326", *_at(transform, 400, 350)))
        tile = reader.tms.tile(lon, lat, zoom)
        theirs = reader.tile(tile.x, tile.y, tile.z, tilesize=256)
        ours = web_tile(dataset, (tile.x, tile.y, tile.z), (1, 2, 3))
    assert ours is not None
    there = np.asarray(theirs.mask) > 0
    assert np.mean(ours.valid != there) < 0.02
    both = ours.valid & there
    assert both.sum() > 1000
    assert np.abs(ours.values[:, both].astype(int) - theirs.data[:, both].astype(int)).mean() < 1.5


@pytest.mark.parametrize("zoom", range(0, 23))
def test_every_zoom_reads_little(geotiff: Any, monkeypatch: pytest.MonkeyPatch, zoom: int) -> None:
    path = geotiff(np.full((1, 2000, 2000), 7, dtype=np.uint8), overviews=(2, 4, 8))
    asked: list[int] = []

    class Counting:
        def __init__(self, dataset: Any) -> None:
            self._dataset = dataset

        def __getattr__(self, name: str) -> Any:
            return getattr(self._dataset, name)

        def read(self, *args: Any, out_shape: tuple[int, ...], **options: Any) -> Any:
            asked.append(int(np.prod(out_shape)))
            return self._dataset.read(*args, out_shape=out_shape, **options)

    with rasterio.open(path) as dataset, Reader(None, dataset=dataset) as reader:
        west, south, east, north = reader.get_geographic_bounds("EPSG:4326")
        tile = reader.tms.tile((west + east) / 2, (south + north) / 2, zoom)
        made = web_tile(Counting(dataset), (tile.x, tile.y, tile.z), (1,))
    assert made is not None
    assert set(np.unique(made.values[:, made.valid])) <= {7}
    assert sum(asked) <= 600 * 600


def test_a_tile_beside_the_raster_is_none(geotiff: Any) -> None:
    with (
        rasterio.open(geotiff(np.ones((1, 20, 20), dtype=np.uint8))) as dataset,
        Reader(None, dataset=dataset) as reader,
    ):
        assert web_tile(dataset, (0, 0, 12), (1,)) is None
        with pytest.raises(TileOutsideBounds):
            reader.tile(0, 0, 12)
