"""Overviews: what each pixel stands for, whatever the size, and whatever part of the file was in memory."""

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tiles.legend import NODATA
from tiles.rasters.overviews import RawRaster, Rule, write_overviews

Bytes = npt.NDArray[np.uint8]
SIDES = st.integers(1, 23)
RASTERS = st.tuples(SIDES, st.integers(1, 3), SIDES).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 100, NODATA]))
)


def overviews(folder: Path, pixels: Bytes, rule: Rule, smallest: int) -> list[Bytes]:
    path = folder / "layer.u8"
    pixels.tofile(path)
    rows, planes, width = pixels.shape
    made = write_overviews(RawRaster(path, rows, width, planes), rule, smallest)
    return [np.fromfile(m.path, np.uint8).reshape(m.rows, m.planes, m.width) for m in made]


def halved(pixels: Bytes, rule: Rule) -> Bytes:
    """The definition, pixel by pixel."""
    rows, planes, width = pixels.shape
    out = np.full((-(-rows // 2), planes, -(-width // 2)), NODATA, dtype=np.uint8)
    for y, p, x in np.ndindex(*out.shape):
        under = [int(v) for v in pixels[2 * y : 2 * y + 2, p, 2 * x : 2 * x + 2].ravel() if v != NODATA]
        if under:
            mean = int(np.floor(np.mean(under) + 0.5))
            out[y, p, x] = Counter(under).most_common(1)[0][0] if rule == "mode" else mean
    return out


@settings(max_examples=150, deadline=None)
@given(RASTERS, st.sampled_from(["mode", "mean"]), st.sampled_from([1, 2, 5]), st.sampled_from([1, 100, 1 << 20]))
def test_each_overview_halves_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, pixels: Bytes, rule: Rule, smallest: int, at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiles.rasters.overviews._BYTES_AT_ONCE", at_once)
        made = overviews(tmp_path_factory.mktemp("raw"), pixels, rule, smallest)
    last = pixels
    for overview in made:
        assert max(last.shape[0], last.shape[2]) > smallest
        assert (overview == halved(last, rule)).all()
        last = overview
    assert max(last.shape[0], last.shape[2]) <= smallest


def test_a_raster_of_one_block_has_no_overviews(tmp_path: Path) -> None:
    assert overviews(tmp_path, np.zeros((512, 1, 512), dtype=np.uint8), "mode", 512) == []
