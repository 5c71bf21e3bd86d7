"""A sample stands for the scene, is the same every time, and costs a part of the file only."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tiles.scene import fingerprint as fingerprint_module
from tiles.scene.scene import open_scene
from tiles.scene.window_reader import DatasetLayer
from tiles.window import Window

GeoTiff = Callable[..., Path]
RGB = ("red", "green", "blue")
TILED = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate", "photometric": "RGB"}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of every window that is read at full resolution."""
    sizes: list[int] = []
    read = DatasetLayer.read

    def counting(self: DatasetLayer, window: Window) -> Any:
        sizes.append(window.height * window.width)
        return read(self, window)

    monkeypatch.setattr(DatasetLayer, "read", counting)
    return sizes


def ramp(rows: int, cols: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    """Values that grow from left to right and top to bottom, so that a lopsided sample shows."""
    down, across = np.mgrid[0:rows, 0:cols]
    return np.stack([down / rows * 4000, across / cols * 4000, (down + across) / (rows + cols) * 4000]).astype(dtype)


def test_a_small_scene_is_read_whole(geotiff: GeoTiff) -> None:
    values = ramp(100, 120)
    with open_scene(geotiff(values, photometric="RGB"), RGB) as scene:
        np.testing.assert_array_equal(scene.sample(), values.reshape(3, -1))
        assert scene.survey.valid_share == 1.0


def test_a_large_scene_is_sampled_evenly_from_a_part_of_its_blocks(geotiff: GeoTiff, counted: list[int]) -> None:
    values = ramp(2048, 2048)
    path = geotiff(values, **TILED)
    with open_scene(path, RGB) as scene:
        sample = scene.sample()
        assert sum(counted) <= 0.55 * values[0].size
        assert 100_000 < sample.shape[1] <= 1_000_000
        np.testing.assert_array_equal(scene.sample(), sample)
    for band, truth in zip(sample, values, strict=True):
        levels = (0.02, 0.25, 0.5, 0.75, 0.98)
        assert np.abs(np.quantile(band, levels) - np.quantile(truth, levels)).max() < 0.04 * 4000
    with open_scene(path, RGB) as scene:
        np.testing.assert_array_equal(scene.sample(), sample)


@pytest.mark.parametrize("layout", [{"blockysize": 1}, {"blockysize": 64}, {"tiled": True}])
def test_any_layout_can_be_sampled(geotiff: GeoTiff, layout: dict[str, Any], counted: list[int]) -> None:
    values = ramp(1500, 1200)
    with open_scene(geotiff(values, photometric="RGB", **layout), RGB) as scene:
        sample = scene.sample(50_000)
    assert 5_000 < sample.shape[1] <= 50_000
    assert sum(counted) < 0.7 * values[0].size
    assert abs(np.median(sample[0]) - 2000) < 300


def test_an_overview_serves_where_one_fits(geotiff: GeoTiff, counted: list[int]) -> None:
    values = ramp(2048, 2048)
    with open_scene(geotiff(values, overviews=(2, 4, 8), **TILED), RGB) as scene:
        sample = scene.sample()
    assert counted == []
    assert sample.shape[1] > 200_000
    assert abs(np.median(sample[1]) - 2000) < 60


def test_only_valid_pixels_are_in_it(geotiff: GeoTiff) -> None:
    values = ramp(1400, 1400) + 10
    values[:, :, :900] = 0
    with open_scene(geotiff(values, nodata=0, overviews=(2, 4), **TILED), RGB) as scene:
        assert scene.sample().min() > 0
        assert scene.survey.valid_share == pytest.approx(500 / 1400, abs=0.02)
    with open_scene(geotiff(values, nodata=0, **TILED), RGB) as scene:
        assert scene.sample().min() > 0
        assert scene.survey.valid_share == pytest.approx(500 / 1400, abs=0.1)


def test_a_little_data_in_a_sea_of_nodata_is_found(geotiff: GeoTiff) -> None:
    values = np.zeros((3, 2048, 2048), dtype=np.uint16)
    values[:, 1930:1970, 60:100] = 700
    with open_scene(geotiff(values, nodata=0, **TILED), RGB) as scene:
        assert (scene.sample() == 700).all()
        assert 400 <= scene.sample().shape[1] <= 1600


def test_a_copy_has_the_same_fingerprint_whatever_its_name_and_date(geotiff: GeoTiff, tmp_path: Path) -> None:
    path = geotiff(ramp(100, 100), photometric="RGB")
    copy = tmp_path / "another name.tif"
    copy.write_bytes(path.read_bytes())
    os.utime(copy, (1, 1))
    with open_scene(path, RGB) as one, open_scene(copy, RGB) as other:
        assert one.fingerprint() == other.fingerprint() == one.fingerprint()
        assert len(one.fingerprint()) == 64


@pytest.mark.parametrize("whole", [64_000_000, 10_000])
@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_a_changed_pixel_changes_the_fingerprint(
    geotiff: GeoTiff, monkeypatch: pytest.MonkeyPatch, whole: int, compress: str
) -> None:
    monkeypatch.setattr(fingerprint_module, "WHOLE_BYTES", whole)
    monkeypatch.setattr(fingerprint_module, "PIECE_BYTES", 16)
    values = np.random.default_rng(2).integers(0, 200, (3, 300, 300)).astype(np.uint8)
    changed = values.copy()
    changed[1, 133:140, 157:170] = 255
    prints = set()
    for date, image in enumerate((values, changed)):
        path = geotiff(image, tiled=True, blockxsize=64, blockysize=64, compress=compress, photometric="RGB")
        os.utime(path, (date, date))
        with open_scene(path, RGB) as scene:
            prints.add(scene.fingerprint())
    assert len(prints) == 2


def test_a_large_file_is_not_read_whole_for_its_fingerprint(geotiff: GeoTiff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint_module, "WHOLE_BYTES", 10_000)
    monkeypatch.setattr(fingerprint_module, "PIECE_BYTES", 64)
    path = geotiff(np.random.default_rng(2).integers(0, 200, (3, 600, 600)).astype(np.uint8), **TILED)
    copy = path.with_name("copy.tif")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, (1, 1))
    with open_scene(path, RGB) as one, open_scene(copy, RGB) as other:
        assert one.fingerprint() == other.fingerprint()
    read = 0
    opened = Path.open

    class Counting:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> "Counting":
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def seek(self, place: int) -> None:
            self.stream.seek(place)

        def read(self, size: int) -> bytes:
            nonlocal read
            found: bytes = self.stream.read(size)
            read += len(found)
            return found

    with open_scene(path, RGB) as scene:
        monkeypatch.setattr(Path, "open", lambda self, mode: Counting(opened(self, mode)))
        scene.fingerprint()
    assert 0 < read <= 257 * 64


def test_a_mask_beside_the_file_is_part_of_its_identity(geotiff: GeoTiff) -> None:
    import rasterio

    values = ramp(40, 40)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"):
        path = geotiff(values, mask=np.ones((40, 40), dtype=bool), photometric="RGB")
    with open_scene(path, RGB) as scene:
        before = scene.fingerprint()
    path.with_name("scene.tif.msk").unlink()
    with open_scene(path, RGB) as scene:
        assert scene.fingerprint() != before
