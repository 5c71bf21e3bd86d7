"""A scene lies where its file says, in metres that are right, whatever its CRS and transform."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint

from tiles.errors import SceneError
from tiles.scene.scene import open_scene
from tiles.window import Window

GeoTiff = Callable[..., Path]
RGB = ("red", "green", "blue")
PLAIN = np.full((3, 40, 60), 9, dtype=np.uint8)
FEET = "EPSG:2263"  # New York, US survey feet
CUSTOM = (
    'PROJCS["a company grid",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",10],PARAMETER["central_meridian",20],PARAMETER["scale_factor",1],'
    'PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)
DEGREE = 111_320.0

# name; CRS; transform; metres a pixel (down, along)
GRIDS = [
    ("UTM", "EPSG:32617", Affine(0.6, 0, 3e5, 0, -0.6, 4.3e6), (0.6, 0.6)),
    ("degrees on the equator", "EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 0), (1.1057, 1.1132)),
    ("degrees at 60 north", "EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 60), (1.1141, 0.558)),
    ("feet", FEET, Affine(1, 0, 980_000, 0, -1, 200_000), (0.3048, 0.3048)),
    ("custom WKT", CUSTOM, Affine(0.5, 0, 100, 0, -0.5, 100), (0.5, 0.5)),
    ("web Mercator at 60 north", "EPSG:3857", Affine(1, 0, 1e6, 0, -1, 8_399_737.9), (0.502, 0.5)),
    ("south-up", "EPSG:32617", Affine(0.6, 0, 3e5, 0, 0.6, 4.3e6), (0.6, 0.6)),
    ("mirrored", "EPSG:32617", Affine(-0.6, 0, 3e5, 0, -0.6, 4.3e6), (0.6, 0.6)),
    ("rotated", "EPSG:32617", Affine(0.48, 0.36, 3e5, 0.36, -0.48, 4.3e6), (0.6, 0.6)),
    ("sheared", "EPSG:32617", Affine(0.6, 0.45, 3e5, 0, -0.6, 4.3e6), (0.75, 0.6)),
    ("across the antimeridian", "EPSG:4326", Affine(1e-5, 0, 179.9997, 0, -1e-5, 0), (1.1057, 1.1132)),
    ("polar", "EPSG:3031", Affine(1, 0, -30, 0, -1, 20), (1.03, 1.03)),
    ("Chatham, beyond 180 degrees", "EPSG:4326", Affine(1e-5, 0, 183.5, 0, -1e-5, -44), (1.111, 0.803)),
]


@pytest.mark.parametrize(("crs", "transform", "metres"), [g[1:] for g in GRIDS], ids=[g[0] for g in GRIDS])
def test_the_grid_is_the_files_and_metres_are_right(
    geotiff: GeoTiff, crs: str, transform: Affine, metres: tuple[float, float]
) -> None:
    with open_scene(geotiff(PLAIN, crs=crs, transform=transform, photometric="RGB"), RGB) as scene:
        assert scene.georef.shape == (40, 60)
        assert scene.georef.transform.almost_equals(transform, precision=1e-9)
        assert scene.georef.metres_per_pixel() == pytest.approx(metres, rel=0.006)
        assert scene.georef.gsd == pytest.approx(math.sqrt(metres[0] * metres[1]), rel=0.006)
        assert not [n for n in scene.notices if n.topic == "position"]


def test_the_centre_counts_not_the_corner(geotiff: GeoTiff) -> None:
    """In degrees, a tall scene's pixels are narrower at its northern end."""
    path = geotiff(np.zeros((3, 400, 4), np.uint8), crs="EPSG:4326", transform=Affine(0.1, 0, 0, 0, -0.1, 60))
    with open_scene(path, RGB) as scene:
        assert scene.georef.metres_per_pixel()[1] == pytest.approx(0.1 * DEGREE * math.cos(math.radians(40)), rel=0.01)


def corners(rows: int, cols: int, transform: Affine) -> list[GroundControlPoint]:
    places = [(0, 0), (cols, 0), (0, rows), (cols, rows), (cols / 2, rows / 2)]
    t = transform
    return [
        GroundControlPoint(row=r, col=c, x=t.a * c + t.b * r + t.c, y=t.d * c + t.e * r + t.f, z=0.0) for c, r in places
    ]


def test_ground_control_points_give_a_north_up_map_in_their_crs(geotiff: GeoTiff) -> None:
    rows, cols = 120, 160
    values = np.zeros((3, rows, cols), dtype=np.uint8)
    values[0, 30:50, 100:130] = 200  # a bright patch whose place is known
    turned = Affine(0.48, 0.36, 3e5, 0.36, -0.48, 4.3e6)
    path = geotiff(values + 10, gcps=corners(rows, cols, turned), photometric="RGB")
    with open_scene(path, RGB) as scene:
        t, shape = scene.georef.transform, scene.georef.shape
        assert (t.b, t.d) == (0, 0)
        assert t.e < 0 < t.a
        assert scene.georef.crs.to_epsg() == 32617
        assert 0.59 < scene.georef.gsd < 0.85  # GDAL keeps the diagonal's pixels, so turned pixels grow
        assert any("ground control points" in n.text and n.level == "adjusted" for n in scene.notices)
        pixels = scene.read(Window(0, 0, *shape))
        assert 0.3 < pixels.valid.mean() < 0.7  # a turned rectangle in its frame
        where = np.argwhere((pixels.values[0] > 100) & pixels.valid).mean(axis=0) + 0.5
        expected_x = turned.a * 115 + turned.b * 40 + turned.c
        expected_y = turned.d * 115 + turned.e * 40 + turned.f
        assert t.a * where[1] + t.c == pytest.approx(expected_x, abs=0.6)
        assert t.e * where[0] + t.f == pytest.approx(expected_y, abs=0.6)
        assert scene.sample().shape == (3, rows * cols)


def test_control_points_that_contradict_each_other_are_warned_of(geotiff: GeoTiff) -> None:
    rng = np.random.default_rng(3)
    grid = Affine(0.6, 0, 3e5, 0, -0.6, 4.3e6)
    points = [
        GroundControlPoint(row=r, col=c, x=grid.a * c + grid.c + east, y=grid.e * r + grid.f + north, z=0)
        for (r, c), (east, north) in zip(
            [(r, c) for r in range(0, 41, 10) for c in range(0, 61, 12)], rng.normal(0, 6, (30, 2)), strict=True
        )
    ]
    for scatter, level in ((points, "warning"), (corners(40, 60, grid), "adjusted")):
        with open_scene(geotiff(PLAIN, gcps=scatter, photometric="RGB"), RGB) as scene:
            assert [n.level for n in scene.notices if "they fit to" in n.text] == [level]


def test_control_points_with_alpha_nodata_and_near_infrared(geotiff: GeoTiff) -> None:
    grid = Affine(0.6, 0, 3e5, 0, -0.6, 4.3e6)
    values = np.random.default_rng(5).integers(20, 90, (4, 50, 50)).astype(np.uint16)
    hole = np.zeros((50, 50), dtype=bool)
    hole[10:30, 10:30] = True
    masked = values.copy()
    masked[3] = np.where(hole, 0, 65535)
    colours = ("red", "green", "blue", "alpha")
    for stored, options in ((masked, {}), (np.where(hole, 0, values), {"nodata": 0}), (values, {})):
        path = geotiff(stored, gcps=corners(50, 50, grid), colours=colours, **options)
        with open_scene(path, ("blue", "green", "red")) as scene:
            assert scene.georef.shape == (50, 50)
            pixels = scene.read(Window(0, 0, 50, 50))
            expected = np.zeros((50, 50), bool) if stored is values else hole
            np.testing.assert_array_equal(pixels.valid[2:-2, 2:-2], ~expected[2:-2, 2:-2])
            kept = np.broadcast_to(pixels.valid, (3, 50, 50))
            inner = (slice(None), slice(32, 48), slice(32, 48))
            difference = pixels.values[inner].astype(int) - values[[2, 1, 0]][inner]
            assert np.abs(difference).max() <= 1
            assert (pixels.values[~kept] == 0).all()


def test_control_points_that_cannot_be_right_are_refused(geotiff: GeoTiff) -> None:
    points = corners(40, 60, Affine(0.6, 0, 3e5, 0, -0.6, 4.3e6))
    points[1] = GroundControlPoint(row=0, col=60, x=3e5, y=4.3e6, z=0)
    points[2] = GroundControlPoint(row=40, col=0, x=3e5, y=4.3e6, z=0)
    points[3] = GroundControlPoint(row=40, col=60, x=3e5, y=4.3e6, z=0)
    points[4] = GroundControlPoint(row=20, col=30, x=3e5, y=4.3e6, z=0)
    path = geotiff(PLAIN, gcps=points, photometric="RGB")
    with pytest.raises(SceneError, match="ground control points"):
        open_scene(path, RGB)


def test_assume_crs_serves_control_points_too(geotiff: GeoTiff) -> None:
    path = geotiff(PLAIN, gcps=corners(40, 60, Affine(0.6, 0, 3e5, 0, -0.6, 4.3e6)), crs=None, photometric="RGB")
    with pytest.raises(SceneError, match="--assume-crs"):
        open_scene(path, RGB)
    with open_scene(path, RGB, assume_crs="EPSG:32618") as scene:
        assert scene.georef.crs.to_epsg() == 32618
