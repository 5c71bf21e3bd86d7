"""Laws of blending, against an independent float64 blend of the whole scene.

And the same bytes from all ways to blend: the compiled loop, whole-array operations on NumPy arrays, and on tensors.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.chips import blend_arrays
from tiles.chips.arrays import namespace
from tiles.chips.blend import Scores, Strip, axis_weights, blend
from tiles.chips.grid import Axis, ChipGrid
from tiles.legend import NODATA, LandClass, Legend

LEGEND = Legend(tuple(LandClass(v, f"class-{v}", (v, v, v)) for v in (3, 7, 0, 11)))


@st.composite
def grids(draw: st.DrawFn) -> ChipGrid:
    chip = draw(st.integers(1, 24))
    shape = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    return ChipGrid(shape, chip, draw(st.integers(0, chip - 1)))


def random_scores(grid: ChipGrid, seed: int) -> tuple[list[Scores], npt.NDArray[np.bool_]]:
    """Random probabilities for every chip and one validity for the scene; chips without a valid pixel unscored."""
    rng = np.random.default_rng(seed)
    valid = rng.random(grid.shape) > rng.choice([0.0, 0.3, 0.97])
    padded = np.zeros((grid.shape[0] + grid.chip_size, grid.shape[1] + grid.chip_size), dtype=bool)
    padded[: grid.shape[0], : grid.shape[1]] = valid
    out = []
    for row, col in grid.positions():
        window = grid.window(row, col)
        raw = rng.random((len(LEGEND), grid.chip_size, grid.chip_size)).astype(np.float32) ** 4 + 1e-3
        mask = padded[window.top : window.bottom, window.left : window.right]
        out.append(Scores(row, col, window, raw / raw.sum(axis=0) if mask.any() else None, mask))
    return out, valid


def brute_force(grid: ChipGrid, scores: list[Scores]) -> npt.NDArray[np.float64]:
    """Blended probabilities float64 (classes, rows, columns), made with whole-scene arrays."""
    total = np.zeros((len(LEGEND), *grid.shape))
    weights = np.zeros(grid.shape)
    hann = np.sin(np.pi * (np.arange(grid.chip_size) + 0.5) / grid.chip_size) ** 2
    step = grid.chip_size - grid.overlap
    for score in scores:
        window = score.window
        # The last chip is slid inwards; it counts from where a chip that was not slid would have started.
        top = window.top if score.row == 0 else grid.rows.starts[score.row - 1] + step
        left = window.left if score.col == 0 else grid.cols.starts[score.col - 1] + step
        bottom, right = min(window.bottom, grid.shape[0]), min(window.right, grid.shape[1])
        ys, xs = np.arange(top, bottom), np.arange(left, right)
        weight = np.outer(hann[ys - window.top], hann[xs - window.left])
        weights[top:bottom, left:right] += weight
        if score.probabilities is not None:
            part = score.probabilities[:, top - window.top : bottom - window.top, left - window.left :][:, :, : xs.size]
            total[:, top:bottom, left:right] += weight * part
    return total / weights


def assemble(strips: Iterator[Strip], shape: tuple[int, int]) -> Strip:
    parts = list(strips)
    edge = 0
    for part in parts:
        assert part.top == edge
        edge += part.classes.shape[0]
    assert edge == shape[0]
    planes = [p.probabilities for p in parts if p.probabilities is not None]
    return Strip(
        0,
        np.concatenate([p.classes for p in parts]),
        np.concatenate([p.confidence for p in parts]),
        np.concatenate(planes, axis=1) if planes else None,
        np.sum([p.pairs for p in parts], axis=0),
    )


@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(0, 2**32 - 1))
def test_equals_a_brute_force_blend_of_the_whole_scene(grid: ChipGrid, seed: int) -> None:
    scores, valid = random_scores(grid, seed)
    found = assemble(blend(scores, grid, LEGEND, probabilities=True), grid.shape)
    expected = brute_force(grid, scores)
    assert found.probabilities is not None
    assert np.abs(found.probabilities[:, valid] - 100 * expected[:, valid]).max(initial=0) <= 0.5 + 1e-3
    assert np.abs(found.confidence[valid] - 100 * expected.max(axis=0)[valid]).max(initial=0) <= 0.5 + 1e-3
    ordered = np.sort(expected, axis=0)
    clear = valid & (ordered[-1] - ordered[-2] > 1e-5)
    assert (found.classes[clear] == LEGEND.values[expected.argmax(axis=0)][clear]).all()
    assert (found.classes[~valid] == NODATA).all()
    assert (found.confidence[~valid] == NODATA).all()
    assert (found.probabilities[:, ~valid] == NODATA).all()


@given(st.integers(1, 60), st.integers(1, 300), st.data())
def test_normalised_weights_sum_to_one(chip: int, length: int, data: st.DataObject) -> None:
    axis = Axis(length, chip, data.draw(st.integers(0, chip - 1)))
    total = np.zeros(length)
    for index, weights in enumerate(axis_weights(axis)):
        first, end = axis.used(index)
        assert weights.shape == (end - first,)
        assert (weights > 0).all()
        total[first:end] += weights
    assert np.allclose(total, 1.0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(grids())
def test_a_constant_prediction_stays_constant(grid: ChipGrid) -> None:
    scores, _ = random_scores(grid, 0)
    constant = np.array([0.1, 0.6, 0.2, 0.1], dtype=np.float32)[:, None, None]
    field = np.broadcast_to(constant, (4, grid.chip_size, grid.chip_size)).copy()
    whole = [replace(s, probabilities=field, valid=np.ones_like(s.valid)) for s in scores]
    found = assemble(blend(whole, grid, LEGEND), grid.shape)
    assert (found.classes == 7).all()
    assert (found.confidence == 60).all()
    assert found.pairs.sum() == found.pairs[1, 1]


@settings(max_examples=40, deadline=None)
@given(grids(), st.integers(0, 2**32 - 1), st.data())
def test_a_blend_that_goes_on_in_the_middle_gives_the_same_bytes(
    grid: ChipGrid, seed: int, data: st.DataObject
) -> None:
    scores, _ = random_scores(grid, seed)
    whole = assemble(blend(scores, grid, LEGEND), grid.shape)
    stopped = grid.rows.settled(data.draw(st.integers(0, len(grid.rows.starts) - 1)))[0]
    first = grid.rows.first_touching(stopped)
    for strip in blend([s for s in scores if s.row >= first], grid, LEGEND, first_row=first):
        skip = max(stopped - strip.top, 0)
        rows = slice(strip.top + skip, strip.top + strip.classes.shape[0])
        assert (strip.classes[skip:] == whole.classes[rows]).all()
        assert (strip.confidence[skip:] == whole.confidence[rows]).all()


@settings(max_examples=40, deadline=None)
@given(grids(), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_blocks_of_columns_give_the_same_bytes_and_the_same_audit(grid: ChipGrid, seed: int, chip_cols: int) -> None:
    scores, _ = random_scores(grid, seed)
    whole = assemble(blend(scores, grid, LEGEND, probabilities=True), grid.shape)
    assert whole.probabilities is not None
    pairs, edge = np.zeros_like(whole.pairs), 0
    for block in grid.blocks(chip_cols):
        assert block.left == edge
        edge = block.right
        mine = [s for s in scores if block.first <= s.col < block.last]
        strips = blend(mine, grid, LEGEND, block=block, probabilities=True)
        part = assemble(strips, (grid.shape[0], block.width))
        cols = slice(block.left, block.right)
        assert (part.classes == whole.classes[:, cols]).all()
        assert (part.confidence == whole.confidence[:, cols]).all()
        assert part.probabilities is not None
        assert (part.probabilities == whole.probabilities[:, :, cols]).all()
        pairs += part.pairs
    assert edge == grid.shape[1]
    if grid.overlap <= grid.chip_size // 2:
        assert (pairs == whole.pairs).all()


def test_the_audit_counts_overlap_pixels_that_disagree() -> None:
    grid = ChipGrid((4, 6), 4, 2)
    votes = [np.zeros((4, 4, 4), dtype=np.float32), np.zeros((4, 4, 4), dtype=np.float32)]
    votes[0][0] = 1.0
    votes[1][0, :1] = 1.0
    votes[1][2, 1:] = 1.0
    scores = [Scores(0, col, grid.window(0, col), votes[col], np.ones((4, 4), dtype=bool)) for col in range(2)]
    (strip,) = blend(scores, grid, LEGEND)
    assert strip.pairs.sum() == 8
    assert strip.pairs[0, 0] == 2
    assert strip.pairs[0, 2] == 6


def on_tensors(scores: list[Scores]) -> list[Scores]:
    tensor: Any = torch.from_numpy
    return [
        replace(
            s,
            probabilities=None if s.probabilities is None else tensor(s.probabilities),
            valid=tensor(s.valid.copy()),
        )
        for s in scores
    ]


def in_numpy(strip: Any) -> dict[str, npt.NDArray[Any]]:
    arrays = {name: getattr(strip, name) for name in ("classes", "confidence", "probabilities", "pairs")}
    return {name: np.asarray(array) for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(0, 2**32 - 1), st.integers(1, 4), st.booleans(), st.data())
def test_whole_array_operations_give_the_bytes_of_the_compiled_loop(
    kind: str, grid: ChipGrid, seed: int, chip_cols: int, probabilities: bool, data: st.DataObject
) -> None:
    """From any chip row on, in any block of columns; ties, invalid pixels and chips without scores among them."""
    scores, _ = random_scores(grid, seed)
    if data.draw(st.booleans()):  # few levels of probability, so many ties
        scores = [
            s if s.probabilities is None else replace(s, probabilities=np.round(4 * s.probabilities) / np.float32(4))
            for s in scores
        ]
    block = data.draw(st.sampled_from(grid.blocks(chip_cols)))
    first = data.draw(st.integers(0, len(grid.rows.starts) - 1))
    mine = [s for s in scores if s.row >= first and block.first <= s.col < block.last]
    compiled = list(blend(mine, grid, LEGEND, first_row=first, block=block, probabilities=probabilities))
    other = on_tensors(mine) if kind == "torch" else mine
    with patch("tiles.chips.blend._kernel_for", lambda _: blend_arrays.blend_chip):
        found = list(blend(other, grid, LEGEND, first_row=first, block=block, probabilities=probabilities))
    assert [s.top for s in found] == [s.top for s in compiled]
    for one, two in zip(found, compiled, strict=True):
        assert isinstance(one.classes, torch.Tensor if kind == "torch" else np.ndarray)
        expected = in_numpy(two)
        for name, array in in_numpy(one).items():
            assert array.dtype == expected[name].dtype
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_an_array_names_its_functions() -> None:
    class Other:
        def __array_namespace__(self) -> str:
            return "its own"

    assert namespace(np.zeros(1)) is np
    assert namespace(torch.zeros(1)) is torch
    assert namespace(Other()) == "its own"
