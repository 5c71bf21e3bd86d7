"""One answer a pixel: valid or not, as rasterio's `dataset_mask` has it, and never a number that is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.errors import SceneError
from tiles.scene.scene import Scene, open_scene
from tiles.scene.validity import holds, is_mask_band
from tiles.window import Window

GeoTiff = Callable[..., Path]
RGB = ("red", "green", "blue")
COLOURS = ("red", "green", "blue")


def whole(scene: Scene) -> Window:
    return Window(0, 0, *scene.georef.shape)


def valid_of(path: Path, **options: Any) -> npt.NDArray[np.bool_]:
    with open_scene(path, RGB, **options) as scene:
        pixels = scene.read(whole(scene))
    assert (pixels.values[:, ~pixels.valid] == 0).all()
    assert np.isfinite(pixels.values.astype(np.float64)).all()
    return pixels.valid


def counts(dtype: str = "uint8", bands: int = 3, rows: int = 20, cols: int = 30) -> npt.NDArray[Any]:
    return np.random.default_rng(7).integers(10, 120, (bands, rows, cols)).astype(dtype)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_nodata_is_where_rasterio_says(geotiff: GeoTiff, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]))
    limits = {"uint8": [0, 255, 17], "uint16": [0, 65535, 17], "int16": [0, -32768, -9999, 17]}
    nodata = data.draw(st.sampled_from(limits.get(dtype, [0, -9999, -1, 17])))
    bands, rows, cols = data.draw(st.integers(3, 5)), data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    values = counts(dtype, bands, rows, cols)
    holes = np.random.default_rng(data.draw(st.integers(0, 99))).random((rows, cols)) < data.draw(st.floats(0, 1))
    values[:, holes] = nodata
    if nodata >= 0:  # a count that may be real: one band alone may hold it
        values[0, 0, 0] = nodata
    path = geotiff(values, nodata=nodata, photometric="MINISBLACK", colours=("gray", *["undefined"] * (bands - 1)))
    with rasterio.open(path) as file:
        expected = file.dataset_mask() > 0
    np.testing.assert_array_equal(valid_of(path, bands={"red": 1, "green": 2, "blue": 3}), expected)


def test_black_in_the_wanted_bands_is_data_where_another_band_has_some(geotiff: GeoTiff) -> None:
    values = counts(bands=4)
    values[:3, 5, 5] = 0
    values[:, 6, 6] = 0
    valid = valid_of(geotiff(values, nodata=0, colours=(*COLOURS, "undefined")))
    assert valid[5, 5]
    assert not valid[6, 6]
    assert (~valid).sum() == 1


@pytest.mark.parametrize("layout", [{"blockysize": 3}, {"tiled": True, "blockxsize": 32, "blockysize": 32}])
def test_a_tall_window_with_holes_is_one_piece(geotiff: GeoTiff, layout: dict[str, Any]) -> None:
    values = counts(bands=4, rows=150, cols=40)
    values[:, 60:100, 5:20] = 0
    with open_scene(geotiff(values, nodata=0, colours=(*COLOURS, "undefined"), **layout), RGB) as scene:
        pixels = scene.read(Window(7, 2, 140, 30))
    np.testing.assert_array_equal(pixels.values, values[:3, 7:147, 2:32])
    np.testing.assert_array_equal(pixels.valid, values[0, 7:147, 2:32] > 0)


@pytest.mark.parametrize(("scale", "level"), [(0.0001, "ok"), (-1.0, "warning")])
def test_scale_tags_are_told(geotiff: GeoTiff, scale: float, level: str) -> None:
    path = geotiff(counts("int16"), scales=(scale,) * 3, offsets=(2.0,) * 3, photometric="RGB")
    with open_scene(path, RGB) as scene:
        assert [n.level for n in scene.notices if n.topic == "values"] == [level]
        np.testing.assert_array_equal(scene.read(whole(scene)).values, counts("int16"))


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("float32", -3.4e38), ("float32", 1e20)])
def test_a_value_that_no_sensor_measures_spoils_the_pixel_even_in_one_band(
    geotiff: GeoTiff, dtype: str, nodata: float
) -> None:
    values = counts(dtype)
    values[1, 3, 4] = nodata
    valid = valid_of(geotiff(values, nodata=nodata, photometric="RGB"))
    assert not valid[3, 4]
    assert (~valid).sum() == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("nodata", [None, np.nan, 0.0])
def test_what_is_no_number_is_never_valid(geotiff: GeoTiff, bad: float, nodata: float | None) -> None:
    values = counts("float32")
    values[2, 3, 4] = bad
    values[:, 8, 9] = np.nan
    valid = valid_of(geotiff(values, nodata=nodata, photometric="RGB"))
    assert not valid[3, 4]
    assert not valid[8, 9]
    assert (~valid).sum() == 2


def test_an_alpha_band_masks(geotiff: GeoTiff) -> None:
    values = counts(bands=4)
    values[3] = 255
    values[3, :7] = 0
    path = geotiff(values, colours=(*COLOURS, "alpha"))
    np.testing.assert_array_equal(valid_of(path), values[3] > 0)
    with open_scene(path, RGB) as scene:
        assert scene.source.validity == "alpha, band 4"


@pytest.mark.parametrize(("dtype", "top"), [("uint16", 65535), ("uint16", 255), ("uint16", 1), ("float32", 1)])
def test_an_alpha_band_masks_whatever_its_maximum(geotiff: GeoTiff, dtype: str, top: int) -> None:
    values = counts(dtype, bands=4)
    values[3] = top
    values[3, :7] = 0
    np.testing.assert_array_equal(valid_of(geotiff(values, colours=(*COLOURS, "alpha"))), values[3] > 0)


def test_near_infrared_tagged_as_alpha_is_no_mask_and_that_is_said(geotiff: GeoTiff) -> None:
    values = counts(bands=4)
    values[3, :5] = 0
    path = geotiff(values, colours=(*COLOURS, "alpha"))
    assert valid_of(path).all()
    with open_scene(path, RGB) as scene:
        assert any("tagged alpha" in n.text and "not as a mask" in n.text for n in scene.notices)
    with open_scene(path, (*RGB, "nir"), bands={"nir": 4}) as scene:
        np.testing.assert_array_equal(scene.read(whole(scene)).values, values)
        assert any("was named: no mask" in n.text for n in scene.notices)


def test_nodata_counts_where_the_alpha_band_is_no_mask(geotiff: GeoTiff) -> None:
    values = counts(bands=4)
    values[:, 2:5] = 0
    valid = valid_of(geotiff(values, nodata=0, colours=(*COLOURS, "alpha")))
    np.testing.assert_array_equal(valid, values[0] > 0)


def test_a_band_described_as_nir_is_no_mask_even_when_it_looks_like_one(geotiff: GeoTiff) -> None:
    values = counts(bands=4)
    values[3] = np.where(values[0] > 60, 255, 0)
    assert valid_of(geotiff(values, colours=(*COLOURS, "alpha"), names=("", "", "", "nir"))).all()


def test_soft_edges_do_not_make_a_mask_a_measurement(geotiff: GeoTiff) -> None:
    values = counts(bands=4, rows=100, cols=100)
    values[3] = 255
    values[3, :40] = 0
    values[3, 40] = 128
    path = geotiff(values, colours=(*COLOURS, "alpha"))
    np.testing.assert_array_equal(valid_of(path), values[3] > 0)
    with open_scene(path, RGB) as scene:
        assert any("half transparent" in n.text for n in scene.notices)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_an_alpha_band_of_one_value_is_a_mask(level: int) -> None:
    assert is_mask_band(np.full(100, level, dtype=np.uint8)) == (True, 0.0)


@pytest.mark.parametrize("inside", ["YES", "NO"])
def test_a_mask_in_or_beside_the_file(geotiff: GeoTiff, inside: str) -> None:
    mask = np.random.default_rng(3).random((20, 30)) < 0.4
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
        path = geotiff(counts(), mask=mask, photometric="RGB")
    np.testing.assert_array_equal(valid_of(path), mask)


def test_a_mask_and_no_number_at_once(geotiff: GeoTiff) -> None:
    mask = np.ones((20, 30), dtype=bool)
    mask[:4] = False
    values = counts("float32")
    values[1, 10, 10] = np.nan
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        path = geotiff(values, mask=mask, photometric="RGB")
    mask[10, 10] = False
    np.testing.assert_array_equal(valid_of(path), mask)


@pytest.mark.parametrize("nodata", [0, 255])
def test_all_nodata_gives_an_empty_sample(geotiff: GeoTiff, nodata: int) -> None:
    path = geotiff(np.full((3, 50, 60), nodata, dtype=np.uint8), nodata=nodata, photometric="RGB")
    assert not valid_of(path).any()
    with open_scene(path, RGB) as scene:
        assert scene.sample().shape == (3, 0)
        assert scene.survey.valid_share == 0


@pytest.mark.parametrize(
    ("dtype", "nodata", "values", "expected"),
    [
        ("uint8", -9999, [0, 241], [False, False]),  # -9999 as 8 bits would be 241
        ("uint8", 12.5, [12, 13], [False, False]),
        ("float32", -3.3999999521443642e38, [-3.4e38, 0.0], [True, False]),
        ("float32", 1e300, [np.inf, 5.0], [True, False]),
        ("float32", 0.1, [0.1, 0.100001], [True, False]),
        ("float64", np.nan, [np.nan, 1.0], [True, False]),
        ("int32", np.nan, [0, 1], [False, False]),
        ("int64", 2**53, [2**53, 0], [True, False]),
    ],
)
def test_a_nodata_value_is_compared_in_the_type_of_the_counts(
    dtype: str, nodata: float, values: list[float], expected: list[bool]
) -> None:
    assert holds(np.array(values, dtype=dtype), nodata).tolist() == expected


LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize(
    ("dtype", "nodata", "pixel"),
    [
        ("float32", "-3.40282e+38", LOWEST),
        ("float32", "-3.4028234663852886e+38", LOWEST),
        ("float32", "-1.7976931348623157e+308", LOWEST),
        ("float64", "-1.79769e+308", float(np.finfo(np.float64).min)),
        ("float32", "-9.99e+08", -999_000_000.0),
        ("float32", "3.40282e+38", -LOWEST),
        ("float32", "1e+20", 1e20),
    ],
)
def test_a_nodata_value_that_was_written_with_few_digits_is_recognised(dtype: str, nodata: str, pixel: float) -> None:
    values = np.array([0.0, pixel, 1.0, -5.0, 65_535.0], dtype=dtype)
    np.testing.assert_array_equal(holds(values, float(nodata)), [False, True, False, False, False])


def test_a_count_that_a_sensor_measures_is_compared_to_the_last_digit() -> None:
    assert not holds(np.array([1000.001], np.float32), 1000.0).any()


@pytest.mark.parametrize(("chosen", "empty"), [((0,), 0), ((0, 255), 255), ((7, 0), 7)])
@pytest.mark.parametrize("declared", [None, 9])
def test_the_users_nodata_takes_the_place_of_the_files(
    geotiff: GeoTiff, chosen: tuple[float, ...], empty: int, declared: int | None
) -> None:
    values = counts()
    values[values == empty] = 100
    values[:, 3, 4:9] = empty
    values[0, 5, 5] = empty  # in one band alone it is a count
    values[:, 6, 6] = 9
    valid = valid_of(geotiff(values, nodata=declared, photometric="RGB"), nodata=chosen)
    expected = np.ones((20, 30), np.bool_)
    expected[3, 4:9] = False
    np.testing.assert_array_equal(valid, expected)


def test_the_users_nodata_counts_beside_a_mask(geotiff: GeoTiff) -> None:
    values, mask = counts(), np.ones((20, 30), np.bool_)
    values[:, 0, 0], mask[1, 1] = 0, False
    valid = valid_of(geotiff(values, mask=mask, photometric="RGB"), nodata=(0,))
    assert np.argwhere(~valid).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("nodata", ["-9999", "256", "nan", "0.5", "-3.4e+38"])
def test_a_nodata_value_that_the_counts_cannot_hold_is_told(
    geotiff: GeoTiff, declare_nodata: Callable[[Path, str], None], nodata: str
) -> None:
    path = geotiff(counts(), nodata=77, photometric="RGB")
    declare_nodata(path, nodata)
    with open_scene(path, RGB) as scene:
        (notice,) = (n for n in scene.notices if n.topic == "nodata")
    assert notice.level == "warning"
    assert f"nodata value {nodata}" in notice.text
    assert "--nodata VALUE" in notice.text


def test_a_chosen_nodata_value_that_would_change_nothing_is_refused(geotiff: GeoTiff) -> None:
    with pytest.raises(SceneError, match="--nodata -9999 is none of its counts, uint8 from 0 to 255"):
        open_scene(geotiff(counts(), photometric="RGB"), RGB, nodata=(-9999,))
