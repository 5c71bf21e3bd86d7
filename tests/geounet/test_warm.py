"""Processes that open uploads are ready before they are needed, and used once."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio

from geounet.service.errors import HostileSceneError
from geounet.service.processes.upload_check import CHILD, Inspection, ingest_upload
from geounet.service.processes.warm import WarmChildren
from geounet.service.settings import ServiceSettings

SETTINGS = ServiceSettings(disk_reserve=0)


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmChildren]:
    """Children that tell their process number, or sleep."""
    (tmp_path / "echoing.py").write_text(
        "import os, sys, time\nline = sys.stdin.readline().strip()\n"
        "time.sleep(60) if line == 'sleep' else None\nprint(os.getpid(), line)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    children = WarmChildren("echoing", 2)
    yield children
    children.close()


def test_every_process_answers_once_and_none_is_left(echo: WarmChildren) -> None:
    seen = [echo.ask("hello\n", 60)[1].split() for _ in range(5)]
    assert [word for _, word in seen] == ["hello"] * 5
    assert len({number for number, _ in seen}) == 5
    echo.close()
    assert not [number for number, _ in seen if psutil.pid_exists(int(number))]
    assert not [p for p in psutil.Process().children() if "echoing" in " ".join(p.cmdline())]


def test_one_that_has_died_while_it_waited_is_replaced(echo: WarmChildren) -> None:
    echo.ask("hello\n", 60)
    echo._fill()
    waiting = [p for p in psutil.Process().children() if "echoing" in " ".join(p.cmdline())]
    assert waiting
    for process in waiting:
        process.kill()
        process.wait(10)
    assert echo.ask("again\n", 60)[1].split()[1] == "again"


def test_one_that_takes_too_long_is_ended(echo: WarmChildren) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        echo.ask("sleep\n", 0.5)
    assert echo.ask("hello\n", 60)[0] == 0


def test_a_warm_check_says_what_a_cold_one_does(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "width": 40, "height": 30, "count": 3, "dtype": "uint8", "crs": "EPSG:32616"}
    with rasterio.open(path, "w", transform=rasterio.Affine(0.6, 0, 7e5, 0, -0.6, 4.4e6), **profile) as target:
        target.write(np.full((3, 30, 40), 7, np.uint8))
    children = WarmChildren(CHILD, 1)

    def taken(name: str, settings: ServiceSettings, warm: WarmChildren | None) -> Inspection:
        (tmp_path / name).mkdir()
        return ingest_upload(path, tmp_path / name, "a.tif", settings, None, warm)

    try:
        first, second = taken("first", SETTINGS, children), taken("second", SETTINGS, children)
        with pytest.raises(HostileSceneError, match="within the limits"):
            taken("tight", ServiceSettings(inspect_memory=60_000_000), children)
    finally:
        children.close()
    assert json.dumps(first.facts) == json.dumps(second.facts) == json.dumps(taken("cold", SETTINGS, None).facts)
