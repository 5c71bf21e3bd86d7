"""The spool: what the journal promises is there, whatever moment the run stopped at."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.blend import Strip
from tiles.errors import SpoolError
from tiles.spool import JOURNAL, Spool


def strip_of(top: int, height: int, width: int, planes: int = 0) -> Strip:
    rng = np.random.default_rng(top)
    draw = lambda *shape: rng.integers(0, 101, shape, dtype=np.uint8)  # noqa: E731
    return Strip(top, draw(height, width), draw(height, width), draw(planes, height, width) if planes else None)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 7), st.integers(0, 3), st.data())
def test_goes_on_after_the_last_safe_row_wherever_the_files_were_cut(
    tmp_path_factory: pytest.TempPathFactory, heights: list[int], width: int, planes: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool") / "map.partial"
    tops = np.cumsum([0, *heights]).tolist()
    strips = [strip_of(top, height, width, planes) for top, height in zip(tops[:-1], heights, strict=True)]
    with Spool.create(folder, (tops[-1], width), {"a": 1}, planes) as spool:
        for index, strip in enumerate(strips):
            spool.append(strip, {"strip": index})
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}

    # A power cut: a prefix of the journal, and at least the rows that its whole lines promise.
    header_end = whole[JOURNAL].index(b"\n") + 1
    cut = data.draw(st.integers(header_end, len(whole[JOURNAL])))
    (folder / JOURNAL).write_bytes(whole[JOURNAL][:cut])
    safe = whole[JOURNAL][:cut].count(b"\n") - 1
    for layer, row_bytes in (("classes", width), ("confidence", width), ("probabilities", width * planes)):
        if row_bytes:
            least = tops[safe] * row_bytes
            kept = data.draw(st.integers(least, len(whole[f"{layer}.u8"])))
            (folder / f"{layer}.u8").write_bytes(whole[f"{layer}.u8"][:kept])

    with Spool.open(folder) as again:
        assert again.next_row == tops[safe]
        assert again.audit == ({"strip": safe - 1} if safe else None)
        assert again.header["about"] == {"a": 1}
        for index, strip in enumerate(strips):
            again.append(strip, {"strip": index})  # rows that are there already are dropped
        assert again.complete
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_gives_the_rows_back_in_strips_of_any_height(tmp_path: Path) -> None:
    strip = strip_of(0, 10, 4)
    with Spool.create(tmp_path / "s", (10, 4), {}) as spool:
        spool.append(strip)
        parts = list(spool.strips(3))
    assert [c.shape[0] for c, _ in parts] == [3, 3, 3, 1]
    assert (np.concatenate([c for c, _ in parts]) == strip.classes).all()
    assert (np.concatenate([c for _, c in parts]) == strip.confidence).all()


def test_a_strip_that_leaves_a_gap_is_refused(tmp_path: Path) -> None:
    with Spool.create(tmp_path / "s", (10, 4), {}) as spool, pytest.raises(SpoolError, match="missing"):
        spool.append(strip_of(2, 2, 4))


def test_rows_that_the_journal_promises_and_the_disk_lost_are_noticed(tmp_path: Path) -> None:
    with Spool.create(tmp_path / "s", (10, 4), {}) as spool:
        spool.append(strip_of(0, 10, 4))
    (tmp_path / "s" / "classes.u8").write_bytes(b"123")
    with pytest.raises(SpoolError, match="shorter than its journal"):
        Spool.open(tmp_path / "s")


def test_a_folder_without_a_journal_is_no_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="no readable journal"):
        Spool.open(tmp_path)
