"""kill -9 at the steps of the finish pass and of putting the map into place, with an old map that is to be replaced.

A process with everything loaded forks a victim for each kill, and a rescuer after it. The victim kills itself before
the n-th file operation that Python's audit hooks see (every rename, the step after it, and every 20th step), or is
killed at a random moment, GDAL's own work included. The spool is full, so no network runs.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from geounet.mapping.pipeline import map_scene
from geounet.mapping.progress import Progress
from geounet.mapping.workspace import partial_of
from geounet.model.bundle import ModelBundle
from geounet.options import Options

MakeScene = Callable[..., Path]
OPTIONS = Options(chip_size=64, overlap=16, engine="torch", device="cpu", precision="f32", formats=("gpkg",))

KILLS = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import numpy as np
import geounet.mapping.preflight, geounet.outputs.finish
from geounet.model.bundle import ModelBundle
from geounet.mapping.pipeline import map_scene
from geounet.options import Options
from tiles.polygons.polygonise import polygonise
from tiles.scene.scene import open_scene

scene, bundle, root, record, every, randomly = sys.argv[1:]
root, bundle = Path(root), ModelBundle.load(bundle)
options = Options(**{**json.loads(record), "formats": ("gpkg",)})
out, partial = root / "map", root / "map.partial"

def finish():
    map_scene(scene, bundle, out, options, overwrite=True)

def content(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "run.json"}

def lay_out():
    for folder in (out, partial):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "old", out)
    shutil.copytree(root / "spool", partial)

def load_kernels():
    # All that may be done before forking: GDAL would start threads, which a fork does not take along.
    with open_scene(scene, bundle.bands) as opened:
        rows = np.random.default_rng(0).integers(1, 4, opened.georef.shape, dtype=np.uint8)
        list(polygonise([(rows, rows)], opened.georef, bundle.legend, min_area_m2=2.0, simplify_px=1.0))

def victim(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid

def to_the_end():
    assert os.waitpid(victim(finish), 0)[1] == 0

def watch(kill_at):
    seen = []
    def hook(event, arguments):
        if any(isinstance(a, (str, bytes, Path)) and str(out) in os.fsdecode(a) for a in arguments):
            seen.append(event)
            if len(seen) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    finish()
    (root / "steps.json").write_text(json.dumps(seen))

def check(pid, what):
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), (what, status)
    if out.exists():
        there = content(out)
        assert there in (old, new), (what, "neither the old nor the new map")
        outcome = "old" if there == old else "new"
    else:
        assert content(partial / "old") == old, (what, "the old map is lost")
        outcome = "between"
    to_the_end()
    assert content(out) == new, what
    assert not partial.exists() and not (root / "map.partial.lock").exists(), what
    return outcome

old = content(root / "old")
load_kernels()
lay_out()
to_the_end()
new = content(out)
assert new != old
lay_out()
os.waitpid(victim(lambda: watch(0)), 0)
steps = json.loads((root / "steps.json").read_text())
renames = [number for number, event in enumerate(steps, start=1) if event == "os.rename"]
outcomes = []
for step in sorted({*renames, *(r + 1 for r in renames), *range(1, len(steps) + 1, int(every))}):
    lay_out()
    outcomes.append(check(victim(lambda: watch(step)), f"step {step} of {len(steps)}, {steps[step - 1]}"))
lay_out()
began = time.monotonic()
to_the_end()
seconds = time.monotonic() - began
for seed in range(int(randomly)):
    lay_out()
    pid = victim(finish)
    time.sleep(random.Random(seed).uniform(0, 1.2 * seconds))
    os.kill(pid, signal.SIGKILL)
    check(pid, f"random kill {seed}")
print(json.dumps({"steps": len(steps), "renames": len(renames), "outcomes": outcomes}))
"""


class PowerCutError(Exception):
    """Stands for the moment before the finish pass."""


def test_the_old_map_stays_until_the_new_one_is_whole_whatever_the_moment(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path
) -> None:
    map_scene(make_scene(tmp_path / "other.tif", rows=90), bundle, tmp_path / "old", OPTIONS)
    scene = make_scene(tmp_path / "scene.tif")

    def stop(progress: Progress) -> None:
        if progress.stage == "write":
            raise PowerCutError

    shutil.copytree(tmp_path / "old", tmp_path / "map")
    with pytest.raises(PowerCutError):
        map_scene(scene, bundle, tmp_path / "map", OPTIONS, overwrite=True, on_progress=stop)
    partial_of(tmp_path / "map").rename(tmp_path / "spool")

    record = json.dumps(asdict(OPTIONS))
    command = [sys.executable, "-c", KILLS, *map(str, (scene, bundle.folder, tmp_path, record, 20, 4))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"] > 60
    assert found["renames"] >= 3
    assert set(found["outcomes"]) == {"old", "between", "new"}
