"""The spool: what the journal promises is there, whatever moment the run stopped at."""

from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.chips.blend import Strip
from tiles.chips.spool import JOURNAL, Spool
from tiles.errors import SpoolError


def strip_of(top: int, height: int, width: int, planes: int = 0) -> Strip:
    rng = np.random.default_rng(top)

    def draw(*shape: int) -> npt.NDArray[np.uint8]:
        return rng.integers(0, 101, shape, dtype=np.uint8)

    return Strip(top, draw(height, width), draw(height, width), draw(planes, height, width) if planes else None)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
    st.integers(0, 3),
    st.data(),
)
def test_goes_on_after_the_last_safe_row_wherever_it_was_cut_off(
    tmp_path_factory: pytest.TempPathFactory, heights: list[int], widths: list[int], planes: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool") / "map.partial"
    tops, lefts = np.cumsum([0, *heights]).tolist(), np.cumsum([0, *widths]).tolist()
    blocks = list(pairwise(lefts))
    strips = [
        [strip_of(top, height, width, planes) for top, height in zip(tops[:-1], heights, strict=True)]
        for width in widths
    ]
    with Spool.create(folder, (tops[-1], lefts[-1]), {"a": 1}, planes, blocks) as spool:
        for index, strip in enumerate(chain.from_iterable(strips)):
            spool.append(strip, {"strip": index})
        assert spool.complete
        classes = np.concatenate([c for c, _ in spool.strips(4)])
    expected = np.concatenate([np.concatenate([s.classes for s in column]) for column in strips], axis=1)
    assert (classes == expected).all()
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}

    # A power cut: the journal ends anywhere, and rows that it does not promise hold anything.
    header_end = whole[JOURNAL].index(b"\n") + 1
    cut = data.draw(st.integers(header_end, len(whole[JOURNAL])))
    (folder / JOURNAL).write_bytes(whole[JOURNAL][:cut])
    safe = whole[JOURNAL][:cut].count(b"\n") - 1
    block, row = divmod(safe, len(heights))
    with Spool.open(folder) as again:
        assert (again.block, again.next_row) == (block, tops[row] if block < len(widths) else 0)
        assert again.audit == ({"strip": safe - 1} if safe else None)
        assert again.header["about"] == {"a": 1}
        for name in ("classes", "confidence", "probabilities")[: 3 if planes else 2]:
            _scramble_all_but_safe_rows(again, name, planes if name == "probabilities" else 1)
        for index, strip in enumerate(chain.from_iterable(strips)):
            if index // len(heights) >= again.block:
                again.append(strip, {"strip": index})  # rows that are there already are dropped
        assert again.complete
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def _scramble_all_but_safe_rows(spool: Spool, layer: str, planes: int) -> None:
    raw = np.fromfile(spool.path(layer), np.uint8).reshape(spool.rows, planes, spool.width)
    for index, (left, right) in enumerate(spool.blocks):
        if index >= spool.block:
            raw[spool.next_row if index == spool.block else 0 :, :, left:right] = 77
    raw.tofile(spool.path(layer))


def test_gives_the_rows_back_in_strips_of_any_height(tmp_path: Path) -> None:
    strip = strip_of(0, 10, 4)
    with Spool.create(tmp_path / "s", (10, 4), {}) as spool:
        spool.append(strip)
        parts = list(spool.strips(3))
    assert [c.shape[0] for c, _ in parts] == [3, 3, 3, 1]
    assert (np.concatenate([c for c, _ in parts]) == strip.classes).all()
    assert (np.concatenate([c for _, c in parts]) == strip.confidence).all()


def test_gives_every_nth_class_of_every_nth_row(tmp_path: Path) -> None:
    strip = strip_of(0, 10, 7)
    with Spool.create(tmp_path / "s", (10, 7), {}) as spool:
        spool.append(strip)
        for step in (1, 3, 20):
            assert (spool.thinned(step) == strip.classes[::step, ::step]).all()


def test_a_strip_that_leaves_a_gap_is_refused(tmp_path: Path) -> None:
    with Spool.create(tmp_path / "s", (10, 4), {}) as spool, pytest.raises(SpoolError, match="missing"):
        spool.append(strip_of(2, 2, 4))


def test_rows_that_the_journal_promises_and_the_disk_lost_are_noticed(tmp_path: Path) -> None:
    with Spool.create(tmp_path / "s", (10, 4), {}) as spool:
        spool.append(strip_of(0, 10, 4))
    (tmp_path / "s" / "classes.u8").write_bytes(b"123")
    with pytest.raises(SpoolError, match="does not have the size"):
        Spool.open(tmp_path / "s")


def test_a_folder_without_a_journal_is_no_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="no readable journal"):
        Spool.open(tmp_path)
