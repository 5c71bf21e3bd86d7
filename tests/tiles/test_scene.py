"""A scene gives back what is in the file, however the file lays it out."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.errors import SceneError
from tiles.scene.scene import open_scene
from tiles.scene.validity import Validity
from tiles.scene.window_reader import DatasetLayer
from tiles.window import Window

GeoTiff = Callable[..., Path]
RGB = ("red", "green", "blue")


def noise(bands: int, rows: int, cols: int, dtype: str = "uint8", low: int = 1) -> npt.NDArray[Any]:
    high = {"uint8": 256, "int8": 128}.get(dtype, 4000)
    return np.random.default_rng(rows * cols + bands).integers(low, high, (bands, rows, cols)).astype(dtype)


def read_all(path: Path, wanted: tuple[str, ...] = RGB, **options: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    with open_scene(path, wanted, **options) as scene:
        pixels = scene.read(Window(0, 0, *scene.georef.shape))
    return pixels.values, pixels.valid


LAYOUTS: dict[str, dict[str, Any]] = {
    "tiled": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "striped": {"blockysize": 16},
    "one-row strips": {"blockysize": 1},
    "one huge block": {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"},
    "one huge strip": {"blockysize": 200, "compress": "deflate"},
    "deflate with predictor": {"compress": "deflate", "predictor": 2, "tiled": True},
    "zstd": {"compress": "zstd"},
    "lzw": {"compress": "lzw"},
    "packbits": {"compress": "packbits"},
    "lerc": {"compress": "lerc", "max_z_error": 0},
    "webp, lossless": {"compress": "webp", "webp_lossless": True, "tiled": True},
    "planar": {"interleave": "band", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "BigTIFF": {"bigtiff": "YES"},
    "big endian": {"endianness": "BIG"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_as_written(geotiff: GeoTiff, layout: str) -> None:
    values = noise(3, 200, 333)
    path = geotiff(values, photometric="RGB", **LAYOUTS[layout])
    with open_scene(path, RGB) as scene:
        for window in (Window(0, 0, 200, 333), Window(50, 7, 70, 301), Window(199, 332, 1, 1)):
            pixels = scene.read(window)
            expected = values[:, window.top : window.bottom, window.left : window.right]
            np.testing.assert_array_equal(pixels.values, expected)
            assert pixels.valid.all()


@pytest.mark.parametrize("creation", [{"compress": "jpeg", "photometric": "YCBCR"}, {"compress": "webp"}])
def test_lossy_colours_come_back_as_red_green_blue(geotiff: GeoTiff, creation: dict[str, Any]) -> None:
    values = np.stack([np.full((64, 64), level, dtype=np.uint8) for level in (200, 90, 20)])
    read, valid = read_all(geotiff(values, tiled=True, blockxsize=64, blockysize=64, **creation))
    assert np.abs(read.astype(int) - values).max() <= 6
    assert valid.all()


def test_blocks_that_the_file_does_not_hold_are_nodata_where_it_says_so(geotiff: GeoTiff) -> None:
    values = np.zeros((3, 128, 128), dtype=np.uint8)
    values[:, 64:, 64:] = 9
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True, "photometric": "RGB"}
    _, valid = read_all(geotiff(values, nodata=0, **options))
    np.testing.assert_array_equal(valid, values[0] > 0)
    _, valid = read_all(geotiff(values, **options))
    assert valid.all()


def test_companions_beside_a_local_file_are_used(geotiff: GeoTiff) -> None:
    values = noise(3, 300, 300)
    mask = np.zeros((300, 300), dtype=bool)
    mask[20:200, 10:100] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"):
        path = geotiff(values, mask=mask, photometric="RGB")
    assert path.with_name("scene.tif.msk").exists()
    _, valid = read_all(path)
    np.testing.assert_array_equal(valid, mask)
    with rasterio.open(path) as file, rasterio.Env(TIFF_USE_OVR="YES"):
        assert file.overviews(1) == []
    with rasterio.Env(TIFF_USE_OVR="YES"), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    assert path.with_name("scene.tif.ovr").exists()
    with open_scene(path, RGB) as scene:
        assert scene.source.overviews == (2, 4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (7, 5000), (33, 33), (3, 100_000)])
def test_odd_sizes(geotiff: GeoTiff, shape: tuple[int, int]) -> None:
    values = noise(3, *shape)
    path = geotiff(values, photometric="RGB", compress="deflate")
    read, valid = read_all(path, gsd_range=(0.3, 1.2))
    np.testing.assert_array_equal(read, values)
    assert valid.all()
    with open_scene(path, RGB) as scene:
        assert 1 <= scene.sample().shape[1] <= 1_000_000


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_window_of_any_type_is_that_part_of_the_file(geotiff: GeoTiff, data: st.DataObject) -> None:
    rows, cols = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    dtype = data.draw(st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]))
    order = data.draw(st.permutations([1, 2, 3, 4]))
    tiled = data.draw(st.booleans())
    values = noise(4, rows, cols, dtype)
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 32} if tiled else {"blockysize": 7}
    path = geotiff(values, photometric="MINISBLACK", interleave=data.draw(st.sampled_from(["pixel", "band"])), **blocks)
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    window = Window(top, left, data.draw(st.integers(1, rows - top)), data.draw(st.integers(1, cols - left)))
    with open_scene(path, RGB, bands=dict(zip(RGB, order, strict=False))) as scene:
        pixels = scene.read(window)
        assert scene.dtype == pixels.values.dtype == np.dtype(dtype)
    expected = values[[n - 1 for n in order[:3]], top : window.bottom, left : window.right]
    np.testing.assert_array_equal(pixels.values, expected)
    assert pixels.valid.all()


def test_another_thread_may_read_and_many_may_try(geotiff: GeoTiff) -> None:
    values = noise(3, 256, 64)
    found: dict[int, npt.NDArray[Any]] = {}
    with open_scene(geotiff(values, photometric="RGB", compress="deflate"), RGB) as scene:

        def work(top: int) -> None:
            for _ in range(5):
                found[top] = scene.read(Window(top, 0, 32, 64)).values

        threads = [threading.Thread(target=work, args=(top,)) for top in range(0, 256, 32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    np.testing.assert_array_equal(np.concatenate([found[t] for t in sorted(found)], axis=1), values)


def test_a_window_outside_the_scene_is_refused(geotiff: GeoTiff) -> None:
    scene = open_scene(geotiff(noise(3, 10, 10), photometric="RGB"), RGB)
    with scene, pytest.raises(SceneError, match="outside the scene of 10 x 10"):
        scene.read(Window(5, 0, 6, 10))


def test_the_block_cache_holds_a_row_of_blocks_up_to_a_limit(geotiff: GeoTiff) -> None:
    wide = np.zeros((8, 1, 40_000), dtype=np.uint16)
    path = geotiff(wide, tiled=True, blockxsize=256, blockysize=256, interleave="pixel", sparse_ok=True)
    with open_scene(path, RGB, bands={"red": 5, "green": 3, "blue": 2}) as scene:
        layer = scene._original
        assert layer.cache_bytes(1_000) == 64_000_000
        assert 8 * 2 * 256 * 30_000 <= layer.cache_bytes(30_000) <= 1.5 * 8 * 2 * 256 * 30_000
        assert layer.cache_bytes(10**6) <= 320_000_000


def test_the_cache_always_holds_one_block_however_large() -> None:
    huge = SimpleNamespace(
        block_shapes=[(20_000, 20_000)], interleaving=None, count=3, dtypes=["uint16"] * 3, width=20_000, height=20_000
    )
    layer = DatasetLayer(huge, "huge.tif", (1, 2, 3), Validity("all"))
    assert layer.block_bytes == 2_400_000_000
    assert layer.cache_bytes(20_000) >= layer.block_bytes


def test_blocks_too_large_for_comfort_are_told(geotiff: GeoTiff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiles.scene.scene._LARGE_BLOCK", 100_000)
    path = geotiff(noise(3, 200, 300), blockysize=200, compress="deflate", photometric="RGB")
    with open_scene(path, RGB) as scene:
        assert any(n.topic == "file" and "blocks of 300 x 200" in n.text for n in scene.notices)


def test_a_file_of_several_images_says_which_one_is_read(geotiff: GeoTiff) -> None:
    path = geotiff(noise(3, 20, 20), photometric="RGB")
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=10, width=10, dtype="uint8", photometric="RGB",
        crs="EPSG:32617", transform=rasterio.Affine(1, 0, 3e5, 0, -1, 4.3e6), append_subdataset=True,
    ) as second:  # fmt: skip
        second.write(noise(3, 10, 10))
    with open_scene(path, RGB) as scene:
        assert scene.georef.shape == (20, 20)
        assert any(n.level == "warning" and "holds 2 images" in n.text for n in scene.notices)


def test_a_world_file_places_a_scene_whose_crs_is_assumed(geotiff: GeoTiff) -> None:
    path = geotiff(noise(3, 8, 8), crs=None, transform=None, photometric="RGB")
    path.with_suffix(".tfw").write_text("0.5\n0\n0\n-0.5\n300000.25\n4299999.75\n")
    with open_scene(path, RGB, assume_crs="EPSG:32617") as scene:
        assert scene.georef.transform.almost_equals(rasterio.Affine(0.5, 0, 300_000, 0, -0.5, 4_300_000))


def test_without_wanted_bands_all_measurements_are_read(geotiff: GeoTiff) -> None:
    path = geotiff(noise(4, 8, 8), colours=("red", "green", "blue", "undefined"), names=("", "", "", "NIR"))
    with open_scene(path, ()) as scene:
        assert scene.bands == ("red", "green", "blue", "nir")
        assert scene.read(Window(0, 0, 8, 8)).values.shape == (4, 8, 8)
