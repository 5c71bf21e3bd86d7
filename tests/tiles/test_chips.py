"""Cutting: every chip holds what the scene holds there, each pixel is read once, errors pass through."""

import threading
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.chips.cut import cut
from tiles.chips.grid import ChipGrid
from tiles.errors import SceneError
from tiles.window import Window


@dataclass(frozen=True)
class Block:
    values: npt.NDArray[np.uint16]
    valid: npt.NDArray[np.bool_]


@dataclass
class ArrayScene:
    """A scene in memory that remembers which windows were read."""

    values: npt.NDArray[np.uint16]
    valid: npt.NDArray[np.bool_]
    broken_row: int | None = None
    reads: list[Window] = field(default_factory=list)

    def read(self, window: Window) -> Block:
        self.reads.append(window)
        rows, cols = slice(window.top, window.bottom), slice(window.left, window.right)
        if self.broken_row is not None and window.bottom > self.broken_row:
            raise SceneError("scene.tif: a block cannot be read")
        return Block(self.values[:, rows, cols], self.valid[rows, cols])


def scene_of(rows: int, cols: int, seed: int = 0) -> ArrayScene:
    rng = np.random.default_rng(seed)
    return ArrayScene(rng.integers(0, 60000, (2, rows, cols), dtype=np.uint16), rng.random((rows, cols)) > 0.2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.data())
def test_chips_hold_the_scene_and_every_row_is_read_once(rows: int, cols: int, chip: int, data: st.DataObject) -> None:
    grid = ChipGrid((rows, cols), chip, data.draw(st.integers(0, chip - 1)))
    first = data.draw(st.integers(0, len(grid.rows.starts) - 1))
    scene = scene_of(rows, cols)
    chips = list(cut(scene, grid, first))
    assert [(c.row, c.col) for c in chips] == list(grid.positions(first))
    for c in chips:
        w = c.window
        assert c.counts.shape == (2, chip, chip)
        height, width = min(w.bottom, rows) - w.top, min(w.right, cols) - w.left
        assert (c.counts[:, :height, :width] == scene.values[:, w.top : w.bottom, w.left : w.right]).all()
        assert (c.valid[:height, :width] == scene.valid[w.top : w.bottom, w.left : w.right]).all()
    seen = [row for w in scene.reads for row in range(w.top, w.bottom)]
    assert seen == list(range(grid.rows.starts[first], rows))
    assert all(w.width == cols for w in scene.reads)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.integers(1, 4), st.data())
def test_a_block_has_its_chips_and_reads_no_other_columns(
    rows: int, cols: int, chip: int, chip_cols: int, data: st.DataObject
) -> None:
    grid = ChipGrid((rows, cols), chip, data.draw(st.integers(0, chip - 1)))
    whole = {(c.row, c.col): c for c in cut(scene_of(rows, cols), grid)}
    for block in grid.blocks(chip_cols):
        scene = scene_of(rows, cols)
        chips = list(cut(scene, grid, block=block))
        assert [c.col for c in chips] == [*range(block.first, block.last)] * len(grid.rows.starts)
        for c in chips:
            assert c.window == whole[c.row, c.col].window
            assert (c.counts == whole[c.row, c.col].counts).all()
            assert (c.valid == whole[c.row, c.col].valid).all()
        right = min(grid.cols.starts[block.last - 1] + chip, cols)
        assert {(w.left, w.left + w.width) for w in scene.reads} == {(grid.cols.starts[block.first], right)}


def test_a_small_scene_is_padded_by_reflection() -> None:
    scene = scene_of(5, 3)
    (chip,) = cut(scene, ChipGrid((5, 3), 8, 0))
    assert (chip.counts == np.pad(scene.values, ((0, 0), (0, 3), (0, 5)), mode="reflect")).all()


def test_one_pixel_fills_its_chip() -> None:
    scene = scene_of(1, 1)
    (chip,) = cut(scene, ChipGrid((1, 1), 4, 1))
    assert (chip.counts == scene.values[:, :1, :1]).all()


def test_a_broken_block_reaches_the_caller_as_the_scenes_own_error() -> None:
    scene = scene_of(40, 10)
    scene.broken_row = 25
    chips = cut(scene, ChipGrid((40, 10), 10, 0))
    with pytest.raises(SceneError, match="cannot be read"):
        list(chips)


def test_leaving_early_ends_the_reading_thread() -> None:
    chips = cut(scene_of(200, 10), ChipGrid((200, 10), 10, 0))
    next(chips)
    chips.close()
    assert not [t for t in threading.enumerate() if t.name == "geounet-reader"]
