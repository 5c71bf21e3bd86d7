"""One path from counts of any type to the 0-255 scale, the same for every pixel of a scene."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geounet.model.bundle import Normalisation, Quantiles
from geounet.model.stretch import (
    LEVELS,
    BandStretch,
    Stretch,
    fill_value,
    fit_stretch,
    network_input,
    parse_stretch,
    quantiles_at,
)
from tiles.errors import SceneError

TRAINED = Quantiles(levels=LEVELS, values=((28, 32, 75, 113, 152, 202, 210),) * 3)
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def scene(dtype: str = "uint16", size: int = 5000, seed: int = 0) -> npt.NDArray[Any]:
    """Counts (3, n) with a long tail, as a scene with one white roof has."""
    draws = np.random.default_rng(seed).gamma(2.0, 12.0, (3, size)) + 5
    return np.clip(draws, 0, 120).astype(dtype) if dtype in ("uint8", "int8") else (draws * 20).astype(dtype)


def stretched(stretch: Stretch, counts: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    image = counts[:, None, :]
    return stretch.apply(image, np.ones(image.shape[1:], dtype=bool))[:, 0]


def test_8_bit_counts_are_taken_as_they_are() -> None:
    counts = scene("uint8")
    stretch = fit_stretch(counts, np.dtype("uint8"), TRAINED)
    assert stretch == Stretch("none")
    np.testing.assert_array_equal(stretched(stretch, counts), counts)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_other_types_get_the_low_middle_and_high_of_the_training_imagery(dtype: str) -> None:
    counts = scene(dtype)
    found = stretched(fit_stretch(counts, np.dtype(dtype), TRAINED), counts)
    assert found.dtype == np.float32
    for band in found:
        assert np.quantile(band, (0.02, 0.5, 0.98)) == pytest.approx((32, 113, 202), abs=2.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_table_and_the_formula_agree(dtype: str) -> None:
    band = BandStretch(10.0, 90.0, 0.6, 20.0, 240.0)
    counts = np.arange(-128 if dtype.startswith("i") else 0, 128).astype(dtype)[None]
    share = np.clip((counts.astype(np.float64) - 10) / 80, 0, 1)
    np.testing.assert_allclose(stretched(Stretch("match", (band,)), counts), 20 + 220 * share**0.6, atol=1e-3)


@given(scale=st.floats(1e-4, 1e4), offset=st.floats(-1e4, 1e4))
def test_scale_and_offset_of_the_counts_do_not_matter(scale: float, offset: float) -> None:
    """Reflectance, digital numbers, and numbers with 1000 added are the same image."""
    counts = scene("float64")
    moved = counts * scale + offset
    one = stretched(fit_stretch(counts, counts.dtype, TRAINED), counts)
    other = stretched(fit_stretch(moved, moved.dtype, TRAINED), moved)
    np.testing.assert_allclose(one, other, atol=0.5)


@given(lo=st.floats(-1e4, 1e4), width=st.floats(0.1, 1e5), gamma=st.floats(0.25, 4), dtype=st.sampled_from(DTYPES))
def test_a_stretch_is_monotone_and_stays_on_the_scale(lo: float, width: float, gamma: float, dtype: str) -> None:
    stretch = Stretch("match", (BandStretch(lo, lo + width, gamma, 5.0, 250.0),))
    counts = np.sort(np.random.default_rng(1).integers(0, 127, (1, 200))).astype(dtype)
    found = stretched(stretch, counts)[0]
    assert found.min() >= 5.0 - 1e-3
    assert found.max() <= 250.0 + 1e-3
    assert (np.diff(found) >= -1e-4).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_pixels_that_are_not_valid_become_the_middle(dtype: str) -> None:
    counts = np.zeros((3, 4, 5), dtype=dtype)
    if dtype == "float32":
        counts[:, 1, 1] = np.nan
    valid = np.ones((4, 5), dtype=bool)
    valid[1, 1] = False
    found = fit_stretch(scene(dtype), np.dtype(dtype), TRAINED).apply(counts, valid)
    assert (found[:, 1, 1] == 127).all()
    assert np.isfinite(found).all()


def test_every_chip_is_stretched_alike() -> None:
    image = scene("uint16", 400).reshape(3, 20, 20)
    stretch = fit_stretch(image.reshape(3, -1), image.dtype, TRAINED)
    whole = stretch.apply(image, np.ones((20, 20), dtype=bool))
    part = stretch.apply(image[:, 5:9, 3:17], np.ones((4, 14), dtype=bool))
    np.testing.assert_array_equal(part, whole[:, 5:9, 3:17])


@pytest.mark.parametrize(
    ("sample", "dtype"),
    [(np.zeros((3, 0)), "uint16"), (np.full((3, 50), 7), "uint16"), (np.array([[5], [6], [7]]), "float32")],
)
def test_scenes_with_nothing_to_measure_still_have_a_stretch(sample: npt.NDArray[Any], dtype: str) -> None:
    counts = sample.astype(dtype)
    found = stretched(fit_stretch(counts, np.dtype(dtype), TRAINED), np.full((3, 4), 9, dtype=dtype))
    assert np.isfinite(found).all()


def test_a_given_stretch_is_linear_for_all_bands_and_types() -> None:
    stretch = fit_stretch(scene("uint8"), np.dtype("uint8"), TRAINED, "100,300")
    counts = np.array([[0, 100, 200, 300, 999]] * 3, dtype=np.uint16)
    assert stretched(stretch, counts).tolist() == [[0, 0, 127.5, 255, 255]] * 3


def test_none_and_match_can_be_asked_for() -> None:
    counts = np.array([[-5, 0, 100, 300]] * 3, dtype=np.int32)
    asked = fit_stretch(scene("int32"), np.dtype("int32"), TRAINED, "none")
    assert stretched(asked, counts).tolist() == [[0, 0, 100, 255]] * 3
    matched = stretched(fit_stretch(scene("uint8"), np.dtype("uint8"), TRAINED, "match"), scene("uint8"))
    assert np.median(matched) == pytest.approx(113, abs=3)


@pytest.mark.parametrize("text", ["", "5", "9,3", "3,3", "a,b", "1,2,3", "nan,5", "0,inf", "some"])
def test_a_stretch_that_makes_no_sense_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(SceneError, match="give LO,HI"):
        parse_stretch(text)


@pytest.mark.parametrize("choice", [None, "none", "match", "5,900.5"])
def test_a_stretch_survives_being_written_down(choice: str | None) -> None:
    stretch = fit_stretch(scene(), np.dtype("uint16"), TRAINED, choice)
    assert Stretch.from_record(stretch.as_record()) == stretch


@pytest.mark.parametrize("fill", [0, 65535])
def test_an_undeclared_fill_value_is_seen_and_stays_out(fill: int) -> None:
    counts = scene("uint16")
    spoiled = counts.copy()
    spoiled[:, ::2] = fill
    assert fill_value(counts) is None
    assert fill_value(spoiled) == fill
    clean = fit_stretch(counts[:, 1::2], counts.dtype, TRAINED)
    assert fit_stretch(spoiled, counts.dtype, TRAINED) == clean


def test_bright_clouds_and_single_bands_at_zero_are_no_fill() -> None:
    counts = scene("uint16")
    counts[:, ::10] = counts.max()
    counts[0, ::3] = 0
    assert fill_value(counts) is None


def test_large_offsets_keep_their_differences() -> None:
    counts = (scene("int32") + 1_000_000_000).astype(np.int32)
    found = stretched(fit_stretch(counts, counts.dtype, TRAINED), counts)
    assert np.median(found) == pytest.approx(113, abs=3)


def test_quantiles_between_the_kept_levels_are_interpolated() -> None:
    assert quantiles_at(TRAINED, 0, (0.5, 0.375)) == pytest.approx((113, 94))


def test_network_input_centres_and_scales_each_band() -> None:
    counts = np.full((2, 3, 4, 4), 100, dtype=np.float32)
    found = network_input(counts, Normalisation(mean=(100, 90, 80), std=(1, 10, 20)))
    assert found.dtype == np.float32
    assert found[1, :, 0, 0].tolist() == [0, 1, 1]
