"""Real processes, really killed: whatever the moment, the same command ends with the same bytes."""

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from geounet.mapping.batch import run_batch
from geounet.mapping.pipeline import map_scene
from geounet.model.bundle import ModelBundle
from geounet.options import Options

MakeScene = Callable[..., Path]
OPTIONS = Options(chip_size=64, overlap=16, engine="torch", device="cpu", precision="f32")

MAP = """
import sys
from pathlib import Path
from geounet.model.bundle import ModelBundle
from geounet.mapping.pipeline import map_scene
from geounet.options import Options
options = Options(chip_size=64, overlap=16, engine="torch", device="cpu", precision="f32")
def say(progress): print(progress.stage, flush=True)
print("ready", flush=True)
map_scene(sys.argv[1], ModelBundle.load(sys.argv[2]), Path(sys.argv[3]), options, on_progress=say)
"""


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", MAP, *(str(a) for a in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_at_random_moments_until_it_gets_through(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path, seed: int
) -> None:
    scene = make_scene(tmp_path / "scene.tif", rows=900, cols=500)
    whole = map_scene(scene, bundle, tmp_path / "whole", OPTIONS)
    chance, kills = random.Random(seed), 0
    while True:
        with start(scene, bundle.folder, tmp_path / "killed") as process:
            assert process.stdout is not None
            if kills < 5:  # wait for some lines of progress, then some more milliseconds, so that all stages are met
                for _ in range(chance.choice([1, 2, 6, 14, 20])):
                    process.stdout.readline()
                sleep(chance.uniform(0, 0.2))
                process.kill()
            else:
                process.stdout.read()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "run.json").exists()
        kills += 1
    for path in whole.folder.iterdir():
        if path.name != "run.json":
            assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes(), path.name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "scene.tif", "whole"]


def test_ctrl_c_leaves_something_that_resumes(bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", rows=1000, cols=400)
    command = [sys.executable, "-m", "geounet", "predict", str(scene), "-m", str(bundle.folder), "-o", "map"]
    command += ["--chip-size", "64", "--overlap", "16", "--engine", "torch", "--precision", "f32"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_ctrl_c)
    journal, until = tmp_path / "map.partial" / "journal.jsonl", monotonic() + 60
    while not (journal.exists() and journal.read_text().count("\n") > 2) and monotonic() < until:
        sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "give the same command to go on" in told
    assert "Traceback" not in told
    assert not (tmp_path / "map").exists()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    whole = map_scene(scene, bundle, tmp_path / "whole", OPTIONS)
    assert (whole.folder / "classes.tif").read_bytes() == (tmp_path / "map" / "classes.tif").read_bytes()


@pytest.mark.parametrize("most", [1_000, 20_000])
def test_a_file_that_cannot_grow_is_one_line_and_resumes(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path, most: int
) -> None:
    """Stands for a full disk: every write beyond `most` bytes of a file fails, in the spool or in the finish pass."""
    scene = make_scene(tmp_path / "scene.tif", rows=120, cols=150)
    command = [sys.executable, "-m", "geounet", "predict", str(scene), "-m", str(bundle.folder), "-o", "map"]
    command += ["--chip-size", "64", "--overlap", "16", "--engine", "torch", "--precision", "f32"]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    stopped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=small_files)
    assert stopped.returncode in (3, 4), stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "cannot" in stopped.stderr
    assert not (tmp_path / "map").exists()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "map" / "classes.tif").exists()


def _hear_ctrl_c() -> None:
    """A shell that started the tests in the background made them, and so their children, deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_scene_that_kills_the_process_costs_only_itself(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path
) -> None:
    scenes = [make_scene(tmp_path / f"{name}.tif", rows=rows) for name, rows in (("a", 100), ("b", 3000), ("c", 120))]
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(os.getpid()), str(tmp_path / "maps" / "b.partial")])
    results = run_batch([str(s) for s in scenes], tmp_path / "maps", bundle, OPTIONS)
    killer.wait()
    assert [r.status for r in results] == ["done", "failed", "done"]
    assert "killed" in results[1].error
    again = run_batch([str(s) for s in scenes], tmp_path / "maps", bundle, OPTIONS)
    assert [r.status for r in again] == ["already there", "done", "already there"]


KILLER = """
import os, sys, time, psutil
from pathlib import Path
while not (Path(sys.argv[2]) / "journal.jsonl").exists():
    time.sleep(0.01)
for child in psutil.Process(int(sys.argv[1])).children():
    if child.pid != os.getpid() and "spawn_main" in " ".join(child.cmdline()):
        child.kill()
"""
