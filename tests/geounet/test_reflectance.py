"""Counts become reflectance the way the user, the file or the values say, and what was taken is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geounet.engines.transfer import DeviceStretch
from geounet.errors import MismatchError
from geounet.mapping.preflight import examine
from geounet.model.bundle import ModelBundle
from geounet.model.reflectance import Reflectance, find_reflectance, reflectance_stretch
from geounet.model.stretch import Stretch
from geounet.options import Options
from tiles.errors import SceneError
from tiles.scene.scene import open_scene

GeoTiff = Callable[..., Path]
U16 = np.dtype(np.uint16)


def counts(low: int, high: int, dtype: Any = np.uint16) -> Any:
    return np.random.default_rng(3).integers(low, high, (4, 40, 50)).astype(dtype)


def found(
    values: Any, scales: tuple[float, ...] = (1.0,), offsets: tuple[float, ...] = (0.0,), choice: Any = None
) -> Any:
    return find_reflectance(values.reshape(len(values), -1), values.dtype, scales, offsets, choice)


@given(
    st.floats(-2000, 2000),
    st.floats(1000, 50_000),
    st.sampled_from([1.0, 10_000.0]),
    st.sampled_from(["uint16", "int16", "float32", "int32"]),
)
def test_every_count_becomes_its_reflectance(zero: float, span: float, one: float, kind: str) -> None:
    dtype = np.dtype(kind)
    values = np.linspace(max(zero - span, 0), zero + 3 * span, 60).reshape(1, 6, 10)
    if dtype.kind in "iu":
        values = np.clip(values, *(getattr(np.iinfo(dtype), end) for end in ("min", "max")))
    values = values.astype(dtype)
    stretch = reflectance_stretch(Reflectance(zero, zero + span, ""), dtype, one, [0.25])
    valid = np.ones((6, 10), dtype=bool)
    valid[2, 3] = False
    ours = stretch.apply(values, valid)
    expected = (values.astype(np.float64) - zero) / span * one
    assert np.abs(ours - expected)[:, valid].max() < 2e-5 * one
    assert ours[0, 2, 3] == np.float32(0.25)
    assert Stretch.from_record(stretch.as_record()) == stretch
    device = DeviceStretch(stretch, dtype, torch.device("cpu"))
    packed = np.empty(values.shape, dtype=device.packed)

    class OneChip:
        counts = values
        valid = np.ones((6, 10), dtype=bool)

    chip: Any = OneChip()
    chip.valid[2, 3] = False
    device.pack(chip, packed)
    theirs = device(torch.from_numpy(packed)[None], torch.from_numpy(valid)[None])[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-5 * one


def test_the_offset_of_2022_is_found_from_values_and_is_no_certainty() -> None:
    new, old = found(counts(1010, 6000)), found(counts(30, 6000))
    assert (new.zero, new.one, new.sure) == (1000.0, 11_000.0, False)
    assert (old.zero, old.one, old.sure) == (0.0, 10_000.0, False)
    assert "offset of 1,000 that products since 2022 have" in new.told


def test_tags_outrank_values_and_the_user_outranks_tags() -> None:
    values = counts(1010, 6000)
    tagged = found(values, (0.0000275,) * 4, (-0.2,) * 4)
    assert tagged.sure
    assert tagged.zero == pytest.approx(0.2 / 0.0000275)
    assert tagged.one == pytest.approx(1.2 / 0.0000275)
    asked = found(values, (0.0001,), (0.0,), "500,8000")
    assert (asked.zero, asked.one, asked.sure) == (500.0, 8000.0, True)
    assert found(values, choice="none").one == 1.0


def test_floats_on_0_1_are_reflectance_and_larger_ones_counts() -> None:
    assert found(counts(0, 100).astype(np.float32) / 100).one == 1.0
    assert found(counts(0, 9000).astype(np.float32)).one == 10_000.0


def test_a_picture_is_no_reflectance() -> None:
    with pytest.raises(MismatchError, match="8-bit counts, a picture's; this model wants reflectance"):
        found(counts(0, 255, np.uint8))
    with pytest.raises(SceneError, match="--stretch match is for pictures"):
        found(counts(0, 9000), choice="match")


def test_the_pre_flight_says_how_counts_were_taken(
    geotiff: GeoTiff, make_onnx: Callable[..., Any], make_onnx_bundle: Callable[..., ModelBundle], tmp_path: Path
) -> None:
    reflecting = make_onnx_bundle(
        tmp_path / "m",
        make_onnx(bands=4),
        bands=4,
        normalisation={"mean": [0.2] * 4, "std": [0.1] * 4},
        reflectance_one=1.0,
    )
    names = ("red", "green", "blue", "nir")
    with open_scene(geotiff(counts(1010, 6000), names=names), reflecting.bands) as scene:
        told = examine(scene, reflecting, Options())
    rows = [row for row in told.rows if row.topic == "values"]
    assert [row.status for row in rows] == ["warning"]
    assert "offset of 1,000" in rows[0].text
    assert told.stretch.method == "reflectance"
    assert told.stretch.fills(4) == (0.2,) * 4
    with (
        open_scene(geotiff(counts(0, 255, np.uint8), names=names), reflecting.bands) as scene,
        pytest.raises(MismatchError, match=r"scene\.tif: the scene has 8-bit counts"),
    ):
        examine(scene, reflecting, Options())
