"""Finer scenes are averaged to the model's finest resolution; coarser ones are enlarged, up to twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.scene.reduce import ReducedLayer, Reduction
from tiles.scene.scene import open_scene
from tiles.scene.window_reader import Pixels
from tiles.window import Window

GeoTiff = Callable[..., Path]
RGB = ("red", "green", "blue")
RANGE = (0.3, 1.2)


def grid(metres: float) -> Affine:
    """North-up squares in UTM, scaled so that they measure `metres` on the ellipsoid where the tests are."""
    scale = 1.00009  # of UTM zone 17 at x = 300 km
    return Affine(metres * scale, 0, 3e5, 0, -metres * scale, 4.3e6)


def noise(rows: int, cols: int, dtype: str = "uint8") -> npt.NDArray[Any]:
    return np.random.default_rng(rows).integers(1, 250, (3, rows, cols)).astype(dtype)


class Memory:
    """A layer in memory."""

    def __init__(self, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> None:
        self.values, self.valid = values, valid
        self.largest = 0

    @property
    def shape(self) -> tuple[int, int]:
        return self.valid.shape[0], self.valid.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def read(self, window: Window) -> Pixels:
        self.largest = max(self.largest, window.height * window.width)
        part = slice(window.top, window.bottom), slice(window.left, window.right)
        return Pixels(self.values[:, *part], self.valid[part])

    def cache_bytes(self, columns: int) -> int:
        return 1000 * columns


def brute_force(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], down: float, across: float) -> Pixels:
    """Each coarse pixel from its definition: fine pixels weighted by the area they share with it."""
    rows, cols = Reduction(valid.shape, (down, across)).shape
    means = np.zeros((len(values), rows, cols))
    kept = np.zeros((rows, cols), dtype=bool)
    r, c = np.arange(valid.shape[0]), np.arange(valid.shape[1])
    for i in range(rows):
        high = np.clip(np.minimum((i + 1) * down, r + 1) - np.maximum(i * down, r), 0, None)
        for j in range(cols):
            wide = np.clip(np.minimum((j + 1) * across, c + 1) - np.maximum(j * across, c), 0, None)
            weight = np.outer(high, wide)
            seen = (weight * valid).sum()
            kept[i, j] = seen >= weight.sum() / 2 * (1 - 1e-9) and seen > 0
            if kept[i, j]:
                means[:, i, j] = (values * (weight * valid)).sum(axis=(1, 2)) / seen
    return Pixels(means, kept)


def test_memory_is_told_in_fine_columns() -> None:
    layer = ReducedLayer(Memory(noise(8, 90), np.ones((8, 90), dtype=bool)), Reduction((8, 90), (2.0, 4.5)))
    assert layer.cache_bytes(20) - layer.cache_bytes(10) == 45_000


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    down=st.floats(1, 9),
    across=st.floats(1, 9),
    holes=st.floats(0, 1),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_a_coarse_pixel_is_the_average_of_what_it_covers(
    rows: int, cols: int, down: float, across: float, holes: float, dtype: str
) -> None:
    values = noise(rows, cols, dtype)
    valid = np.random.default_rng(cols).random((rows, cols)) >= holes
    expected = brute_force(values, valid, down, across)
    layer = ReducedLayer(Memory(values, valid), Reduction((rows, cols), (down, across)))
    found = layer.read(Window(0, 0, *layer.shape))
    assert found.values.dtype == values.dtype
    np.testing.assert_array_equal(found.valid, expected.valid)
    tolerance = 1e-4 if dtype == "float32" else 0.5001
    np.testing.assert_allclose(found.values.astype(float), expected.values, atol=tolerance)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), factor=st.floats(1, 7))
def test_a_window_is_a_part_of_the_whole(data: st.DataObject, factor: float) -> None:
    values = noise(60, 50)
    valid = np.random.default_rng(1).random((60, 50)) > 0.3
    layer = ReducedLayer(Memory(values, valid), Reduction((60, 50), (factor, factor)))
    rows, cols = layer.shape
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    window = Window(top, left, data.draw(st.integers(1, rows - top)), data.draw(st.integers(1, cols - left)))
    whole, part = layer.read(Window(0, 0, rows, cols)), layer.read(window)
    np.testing.assert_array_equal(part.values, whole.values[:, top : window.bottom, left : window.right])
    np.testing.assert_array_equal(part.valid, whole.valid[top : window.bottom, left : window.right])


def test_a_strip_is_read_in_parts_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiles.scene.reduce._BATCH_BYTES", 3 * 20 * 400)
    base = Memory(noise(400, 400), np.ones((400, 400), dtype=bool))
    layer = ReducedLayer(base, Reduction((400, 400), (10.0, 10.0)))
    found = layer.read(Window(0, 0, 40, 40))
    assert base.largest <= 20 * 400
    np.testing.assert_array_equal(
        found.values, np.rint(base.values.reshape(3, 40, 10, 40, 10).astype(float).mean(axis=(2, 4)))
    )


def test_a_drone_scene_is_mapped_at_the_models_finest_resolution(geotiff: GeoTiff) -> None:
    values = noise(300, 450)
    path = geotiff(values, transform=grid(0.05), photometric="RGB")
    with open_scene(path, RGB, gsd_range=RANGE) as scene:
        assert scene.georef.shape == (50, 75)
        assert scene.georef.gsd == pytest.approx(0.3, rel=0.001)
        assert scene.source.gsd == pytest.approx(0.05, rel=0.001)
        assert (scene.georef.transform.c, scene.georef.transform.f) == (3e5, 4.3e6)
        assert scene.upsample == 1.0
        assert [n.level for n in scene.notices if n.topic == "resolution"] == ["adjusted"]
        found = scene.read(Window(0, 0, 50, 75))
    expected = values.reshape(3, 50, 6, 75, 6).astype(float).mean(axis=(2, 4))
    assert np.abs(found.values - expected).max() <= 0.5
    assert found.valid.all()


def test_a_turned_grid_keeps_its_turn(geotiff: GeoTiff) -> None:
    turned = Affine(0.08, 0.06, 3e5, 0.06, -0.08, 4.3e6)
    with open_scene(geotiff(noise(60, 60), transform=turned, photometric="RGB"), RGB, gsd_range=RANGE) as scene:
        t = scene.georef.transform
        assert scene.georef.shape == (20, 20)
        assert (t.a, t.b, t.d, t.e) == pytest.approx((0.24, 0.18, 0.18, -0.24))


def test_degrees_become_squares_on_the_ground(geotiff: GeoTiff) -> None:
    """At 60 degrees north, pixels square in degrees are half as wide as high."""
    path = geotiff(noise(100, 100), crs="EPSG:4326", transform=Affine(1e-6, 0, 10, 0, -1e-6, 60), photometric="RGB")
    with open_scene(path, RGB, gsd_range=RANGE) as scene:
        assert scene.georef.metres_per_pixel() == pytest.approx((0.3, 0.3), rel=0.02)


def test_validity_follows_the_same_rules_when_reduced(geotiff: GeoTiff) -> None:
    values = np.concatenate([noise(60, 60), noise(60, 60)[:1]])
    values[:, :30] = 0
    path = geotiff(values, transform=grid(0.1), nodata=0, colours=("red", "green", "blue", "alpha"))
    with open_scene(path, RGB, gsd_range=RANGE) as scene:  # the fourth band is near infrared, not alpha
        valid = scene.read(Window(0, 0, *scene.georef.shape)).valid
    assert not valid[:10].any()
    assert valid[10:].all()


def test_nodata_does_not_bleed_into_averages(geotiff: GeoTiff) -> None:
    values = np.full((3, 30, 30), 100, dtype=np.int16)
    values[:, :, 10:] = -9999
    with open_scene(geotiff(values, transform=grid(0.1), nodata=-9999, photometric="RGB"), RGB, gsd_range=RANGE) as s:
        pixels = s.read(Window(0, 0, 10, 10))
    assert set(np.unique(pixels.values)) == {0, 100}
    np.testing.assert_array_equal(pixels.valid[0], [True] * 3 + [False] * 7)


@pytest.mark.parametrize("masked", [False, True])
def test_overviews_are_read_instead_of_the_full_resolution(geotiff: GeoTiff, masked: bool) -> None:
    values = np.full((3, 512, 512), 50, dtype=np.uint8)
    mask = np.ones((512, 512), dtype=bool)
    mask[:256] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        path = geotiff(values, transform=grid(0.05), overviews=(2, 4), photometric="RGB", mask=mask if masked else None)
    with rasterio.open(path, "r+") as file:  # full resolution now contradicts the overviews
        file.write(np.full((3, 512, 512), 200, dtype=np.uint8))
    with open_scene(path, RGB, gsd_range=RANGE) as scene:
        pixels = scene.read(Window(0, 0, *scene.georef.shape))
    assert scene.georef.shape == (86, 86)
    assert set(np.unique(pixels.values)) <= {0, 50}
    np.testing.assert_array_equal(pixels.valid[:, 5], [not masked] * 43 + [True] * 43)


def test_control_points_and_a_too_fine_scene(geotiff: GeoTiff) -> None:
    points = [
        rasterio.control.GroundControlPoint(row=r, col=c, x=3e5 + 0.1 * c, y=4.3e6 - 0.1 * r, z=0)
        for r, c in ((0, 0), (0, 90), (90, 0), (90, 90))
    ]
    with open_scene(geotiff(noise(90, 90), gcps=points, photometric="RGB"), RGB, gsd_range=RANGE) as scene:
        assert scene.georef.shape == (30, 30)
        assert scene.read(Window(0, 0, 30, 30)).valid[1:-1, 1:-1].all()


@pytest.mark.parametrize(
    ("metres", "upsample", "level"),
    [(0.295, 1.0, None), (0.6, 1.0, None), (1.2, 1.0, None), (1.25, 1.0, None), (1.8, 1.5, "warning"),
     (2.4, 2.0, "warning"), (10.0, 2.0, "warning")],
)  # fmt: skip
def test_a_coarser_scene_is_enlarged_up_to_twice(
    geotiff: GeoTiff, metres: float, upsample: float, level: str | None
) -> None:
    with open_scene(geotiff(noise(20, 20), transform=grid(metres), photometric="RGB"), RGB, gsd_range=RANGE) as scene:
        assert scene.upsample == pytest.approx(upsample, rel=0.001)
        assert scene.georef.shape == (20, 20)
        levels = [n.level for n in scene.notices if n.topic == "resolution"]
        assert levels == ([level] if level else [])


def test_without_a_range_nothing_is_changed(geotiff: GeoTiff) -> None:
    with open_scene(geotiff(noise(20, 20), transform=grid(0.01), photometric="RGB"), RGB) as scene:
        assert scene.georef.shape == (20, 20)
