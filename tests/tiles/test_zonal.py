"""What a polygon covers of a class raster."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from tiles.georef import Georef
from tiles.rasters.zonal import zonal_counts

TRANSFORM = Affine(0.6, 0, 700000, 0, -0.6, 4400000)


@pytest.mark.parametrize("shape", [(1, 1), (90, 70), (1030, 1500)])
def test_zones_are_those_of_a_pixel_by_pixel_count(geotiff: Callable[..., Path], shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    classes = rng.choice(np.array([1, 2, 255], np.uint8), shape)
    confidence = np.where(classes == 255, 255, rng.integers(0, 101, shape)).astype(np.uint8)
    paths = [geotiff(v[None], crs="EPSG:32616", transform=TRANSFORM, nodata=255) for v in (classes, confidence)]
    rows, columns = shape
    star = shapely.Polygon(
        [(0, 0), (columns, rows * 0.2137), (columns * 0.7319, rows), (columns * 0.4111, rows * 0.5237)]
    )
    centres = shapely.points(*np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5))
    inside = shapely.contains(star, centres)
    georef = Georef(rasterio.crs.CRS.from_epsg(32616), TRANSFORM, shape)
    with rasterio.open(paths[0]) as one, rasterio.open(paths[1]) as two:
        zones = zonal_counts(one, two, georef, star)
    assert {z.value: z.pixels for z in zones} == {
        int(v): int((inside & (classes == v)).sum()) for v in np.unique(classes[inside])
    }
    pixel = float(georef.pixel_area_m2(columns / 2, rows / 2))
    for zone in zones:
        here = inside & (classes == zone.value)
        assert zone.area_m2 == pytest.approx(pixel * here.sum(), rel=1e-6)
        if zone.value == 255:
            assert zone.confidence is None
        else:
            assert zone.confidence == pytest.approx(confidence[here].mean() / 100, abs=1e-9)


def test_a_polygon_beside_the_raster_covers_nothing(geotiff: Callable[..., Path]) -> None:
    path = geotiff(np.ones((1, 9, 9), np.uint8), crs="EPSG:32616", transform=TRANSFORM)
    with rasterio.open(path) as one, rasterio.open(path) as two:
        georef = Georef(one.crs, one.transform, one.shape)
        assert zonal_counts(one, two, georef, shapely.box(-50, -50, -1, -1)) == ()
        assert zonal_counts(one, two, georef, shapely.box(20, 20, 40, 40)) == ()
        assert [z.pixels for z in zonal_counts(one, two, georef, shapely.box(-50, -50, 400, 400))] == [81]
