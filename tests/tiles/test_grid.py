"""Laws of the chip grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiles.chips.grid import Axis, ChipGrid
from tiles.errors import GridError


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    chip = draw(st.integers(1, 60))
    return Axis(draw(st.integers(1, 300)), chip, draw(st.integers(0, chip - 1)))


@given(axes())
def test_used_ranges_cover_every_pixel_and_stay_inside_their_chip(axis: Axis) -> None:
    covered = np.zeros(axis.length, dtype=int)
    for index, start in enumerate(axis.starts):
        first, end = axis.used(index)
        assert start <= first < end <= min(start + axis.chip, axis.length)
        covered[first:end] += 1
    assert covered.min() >= 1


@given(axes())
def test_settled_ranges_partition_the_axis_in_order(axis: Axis) -> None:
    edge = 0
    for index in range(len(axis.starts)):
        first, end = axis.settled(index)
        assert first == edge
        assert end > first
        edge = end
    assert edge == axis.length


@given(axes())
def test_chips_lie_inside_the_scene_unless_it_is_smaller_than_a_chip(axis: Axis) -> None:
    assert list(axis.starts) == sorted(set(axis.starts))
    if axis.length > axis.chip:
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.chip == axis.length
    else:
        assert axis.starts == (0,)


@given(axes())
def test_neighbours_share_at_least_the_overlap_and_blending_keeps_no_more_than_it(axis: Axis) -> None:
    for index in range(1, len(axis.starts)):
        shared = axis.starts[index - 1] + axis.chip - axis.starts[index]
        kept = axis.used(index - 1)[1] - axis.used(index)[0]
        assert shared >= axis.overlap
        assert kept == axis.overlap


@given(axes(), st.data())
def test_first_touching_is_the_first_chip_that_reaches_the_pixel(axis: Axis, data: st.DataObject) -> None:
    pixel = data.draw(st.integers(0, axis.length - 1))
    index = axis.first_touching(pixel)
    assert axis.used(index)[1] > pixel
    assert index == 0 or axis.used(index - 1)[1] <= pixel


def test_redundancy_counts_the_pixels_the_network_sees() -> None:
    assert ChipGrid((100, 100), 50, 0).redundancy() == 1.0
    assert ChipGrid((10, 10), 20, 0).redundancy() == 4.0


@pytest.mark.parametrize(
    ("shape", "chip", "overlap"), [((0, 5), 4, 0), ((5, 5), 0, 0), ((5, 5), 4, 4), ((5, 5), 4, -1)]
)
def test_impossible_grids_are_refused(shape: tuple[int, int], chip: int, overlap: int) -> None:
    with pytest.raises(GridError):
        ChipGrid(shape, chip, overlap)
