"""Converting a model for OpenVINO: in a process of its own, and nothing half-done wherever it stops."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle

pytest.importorskip("openvino", reason="the extra `openvino` is not installed")

CONVERT = """
import sys
from geounet.model.bundle import ModelBundle
from geounet.engines.convert import converted
path = converted(ModelBundle.load(sys.argv[1]), 64)
assert "torch" not in sys.modules
print(path.parent.name, path.stat().st_size, path.with_suffix(".bin").stat().st_size)
"""


def start(bundle: ModelBundle, cache: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "GEOUNET_CACHE": str(cache)}
    command = [sys.executable, "-c", CONVERT, str(bundle.folder)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def converter_of(process: "subprocess.Popen[str]") -> psutil.Process:
    """The process that converts for `process`, once it is at work."""
    until = monotonic() + 60
    while monotonic() < until:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.Error):  # a child that ends while it is looked at
                if "geounet.engines.convert" in child.cmdline():
                    return child
        sleep(0.01)
    raise AssertionError("no converter was started")


def test_whatever_is_killed_the_next_one_converts_and_two_at_once_do_no_harm(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    with start(bundle, tmp_path) as process:
        converter_of(process).kill()
        _, told = process.communicate()
    assert "was killed, most likely for want of memory" in told
    assert process.returncode != 0
    assert {p.suffix for p in (tmp_path / "openvino").iterdir()} == {".lock"}

    with start(bundle, tmp_path) as process:
        converter = converter_of(process)
        process.kill()
        converter.kill()
    left = {p.suffix for p in (tmp_path / "openvino").iterdir()}
    assert left == {".lock", ".part"}

    both = [start(bundle, tmp_path), start(bundle, tmp_path)]
    told_by = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], told_by
    assert told_by[0][0] == told_by[1][0]
    model = tmp_path / "openvino" / told_by[0][0].split()[0]
    assert {p.name for p in model.iterdir()} == {"model.xml", "model.bin"}
    assert {p.suffix for p in model.parent.iterdir() if p != model} == {".lock"}


def test_a_model_that_cannot_be_converted_or_kept_is_one_line(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geounet.engines.convert import converted

    monkeypatch.setenv("GEOUNET_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineError, match=r"cannot be kept.*set GEOUNET_CACHE"):
        converted(bundle, 64)
    monkeypatch.delenv("GEOUNET_CACHE")  # the user's own cache folder: where that cannot be had, a passing one
    monkeypatch.setattr("geounet.engines.machine.platformdirs.user_cache_dir", lambda _: str(tmp_path / "file"))
    passing = converted(bundle, 32)
    assert passing.exists()
    assert converted(bundle, 32) == passing
    assert tmp_path not in passing.parents
    monkeypatch.setenv("GEOUNET_CACHE", str(tmp_path))
    with pytest.raises(
        EngineError, match=r"toy: the model cannot be converted for OpenVINO \(\w+Error: .*another --engine"
    ):
        converted(bundle, -64)
