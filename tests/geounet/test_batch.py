"""Many scenes: one warm engine, one bar for all of them, a table that is there even if the batch is stopped."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from geounet.cli.screen import Screen
from geounet.mapping.batch import find_scenes, run_batch
from geounet.mapping.engine_shelf import EngineShelf
from geounet.mapping.plan import Plan
from geounet.mapping.progress import OnProgress, Progress
from geounet.model.bundle import ModelBundle
from geounet.options import Options

PLAN = Plan("torch", "cpu", "f32", chip_size=64, overlap=16, upsample=1.0)


def test_the_engine_stays_warm_while_only_the_way_chips_lie_changes(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def open_engine(_: ModelBundle, spec: object, chip_size: int, *rest: object, **more: object) -> SimpleNamespace:
        opened.append(chip_size)
        return SimpleNamespace(spec=spec)

    monkeypatch.setattr("geounet.mapping.engine_shelf.open_engine", open_engine)
    shelf = EngineShelf()
    first = shelf.get(bundle, PLAN)
    assert shelf.get(bundle, replace(PLAN, block_chips=3)) is first
    assert shelf.get(bundle, replace(PLAN, overlap=0)) is first
    assert shelf.get(bundle, replace(PLAN, chip_size=96)) is not first
    assert opened == [64, 96]


def test_two_bars_tell_the_batch_and_the_scene_in_work() -> None:
    screen, told = Screen(), io.StringIO()
    screen.err = Console(file=told, force_terminal=True, width=120)
    with screen.batch_progress(4) as bars:
        for ok in (True, False):
            bars.begin("a.tif")
            bars.end(ok=ok)
        bars.begin("b.tif")(Progress("predict", 50, 100, 1.5, 3.0))
    last = told.getvalue()
    assert "2 of 4 scenes, 1 failed" in last
    assert "62 %" in last  # two and a half of four
    assert "b.tif" in last
    assert "50 %" in last
    assert "1.50 Mpx/s" in last


def test_a_stopped_batch_leaves_its_table(bundle: ModelBundle, tmp_path: Path) -> None:
    """Ctrl-C in the second scene; the first one cannot be opened, which is told at once."""
    (tmp_path / "a.tif").write_text("no GeoTIFF")
    (tmp_path / "b.tif").write_text("no GeoTIFF")

    def stop_at_the_second(title: str) -> OnProgress:
        if title == "b.tif":
            raise KeyboardInterrupt
        return lambda _: None

    with pytest.raises(KeyboardInterrupt):
        run_batch(find_scenes([str(tmp_path)]), tmp_path / "maps", bundle, Options(), on_begin=stop_at_the_second)
    with (tmp_path / "maps" / "batch.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["scene"]).name for row in rows] == ["a.tif"]
    assert rows[0]["status"] == "failed"
    assert "not a GeoTIFF" in rows[0]["error"]
