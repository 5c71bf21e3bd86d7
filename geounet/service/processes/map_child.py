"""The process that makes maps for a worker (`python -m` with this module), one JSON line a job on standard input.

It answers with JSON lines: `{"ready": true}` once, `{"progress": {...}}` while it works, then `{"done": true}` or
`{"error": {...}}`. A crash in here - a damaged scene in a decoder, memory running out - costs the job in hand only.
The network stays warm between jobs.
"""

import errno
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from geounet.service.processes.sandbox.kernel import Fence, enter
from geounet.service.processes.sandbox.limits import die_with_parent

if TYPE_CHECKING:
    from geounet.mapping.engine_shelf import EngineShelf
    from geounet.mapping.progress import Progress
    from geounet.options import Options
    from geounet.outputs.land_cover_map import LandCoverMap

Say = Callable[[Mapping[str, Any]], None]
Make = Callable[[Mapping[str, Any], Say], None]

PROGRESS_SECONDS = 0.5
FROM = "from"
"""Folder in a job's own one: what a correction needs of the map that it starts from."""


class MapMaker:
    """Makes one map after another with `geounet.mapping.pipeline.map_scene`."""

    def __init__(self) -> None:
        from geounet.service.processes.sandbox.decoders import load_decoders

        load_decoders(kept=None)
        import_module("geounet.mapping.pipeline")
        import_module("geounet.outputs.finish")
        self._shelf: EngineShelf | None = None

    def __call__(self, task: Mapping[str, Any], say: Say) -> None:
        """Make the map of one task: `scene` and `out` (paths), `model`, `options`, `device`, `engine`, `max_polygons`.

        Raises whatever `map_scene` raises.
        """
        from geounet.mapping.engine_shelf import EngineShelf
        from geounet.mapping.pipeline import map_scene
        from geounet.model.bundle import ModelBundle
        from geounet.service.features.texts import write_feature_texts

        self._shelf = self._shelf or EngineShelf()
        out = Path(task["out"])
        out.parent.mkdir(parents=True, exist_ok=True)
        options = options_of(task)
        scene = Path(task["scene"])
        if task["options"].get("area"):
            from tiles.scene.crop import cut_area

            scene = cut_area(scene, task["options"]["area"], out.parent / "area.tif", options.assume_crs)
        report = _Throttled(say)
        bundle = ModelBundle.load(task["model"])
        if "correct" in task["options"]:
            _corrected(task, scene, out, report, self._shelf)
        else:
            map_scene(scene, bundle, out, options, on_progress=report, engines=self._shelf)
        write_feature_texts(out)


def _corrected(
    task: Mapping[str, Any], scene: Path, out: Path, report: "_Throttled", shelf: "EngineShelf"
) -> "LandCoverMap":
    """The map of a correction; what it needs of the earlier map lies beside `out`. Raises what `correct_map` raises."""
    from geounet.correction.correct import correct_map

    earlier = out.parent / FROM
    model = None if (earlier / "model").is_dir() else task["model"]
    given = task["options"]["correct"]["corrections"]
    found = correct_map(earlier, given, out, scene=scene, model=model, on_progress=report, engines=shelf).map
    assert found is not None  # with `out` there is one
    return found


def options_of(task: Mapping[str, Any]) -> "Options":
    """`geounet.options.Options` of a job's options; the GeoPackage is always made, the service reads it."""
    from geounet.options import Options

    given = {name: value for name, value in task["options"].items() if name != "correct"}
    given["formats"] = ("gpkg", *(given.get("formats") or ("geojson",)))
    more = {"engine": task["engine"], "device": task["device"], "max_polygons": task["max_polygons"]}
    return Options.from_record({**given, **more})


class _Throttled:
    """Passes progress on, twice a second at most, and always the first of a stage."""

    def __init__(self, say: Say) -> None:
        self._say, self._stage, self._last = say, "", 0.0

    def __call__(self, progress: "Progress") -> None:
        now = time.monotonic()
        if progress.stage == self._stage and now - self._last < PROGRESS_SECONDS:
            return
        self._stage, self._last = progress.stage, now
        self._say(
            {
                "progress": {
                    "stage": progress.stage,
                    "done": progress.done,
                    "total": progress.total,
                    "rate": progress.rate,
                    "seconds_left": progress.seconds_left,
                }
            }
        )


def serve(make: Make, tasks: IO[str], say: Say) -> None:
    """Do the tasks that come, until there are no more."""
    say({"ready": True})
    for line in tasks:
        task = json.loads(line)
        try:
            make(task, say)
        except Exception as error:
            say({"error": _told(error, task)})
        else:
            say({"done": True})


def _told(error: Exception, task: Mapping[str, Any]) -> dict[str, str]:
    """The error for the job's owner: no path of this machine, and no inner workings where it is a bug."""
    from geounet.errors import GeounetError
    from tiles.errors import TilesError

    if isinstance(error, (TilesError, GeounetError)):
        kind, detail = type(error).__name__, str(error)
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
            kind = "ResourceError"
    elif isinstance(error, MemoryError):
        kind, detail = "ResourceError", "there is not enough memory for this scene"
    else:
        traceback.print_exception(error, file=sys.stderr)
        kind, detail = "bug", f"something went wrong inside ({type(error).__name__}); the operator's log has the rest"
    for path, name in ((task["scene"], task["name"]), (str(Path(task["out"]).parent / "area.tif"), task["name"])):
        detail = detail.replace(path, name)
    detail = detail.replace(str(Path(task["out"]).parent), "the job's folder")
    # The disk is the service's: its clients can make room in it, and choose no other.
    detail = detail.replace("make room or choose another -o", "delete scenes or maps, or map a smaller area")
    detail = detail.replace("Make room and give the same command to go on", "Delete scenes or maps and try again")
    for flag, option in (
        ("--assume-crs", "assume_crs"),
        ("--bands", "bands"),
        ("--force", "force"),
        ("--nodata", "nodata"),
    ):
        detail = detail.replace(flag, f"the option {option}")
    return {"kind": kind, "detail": detail}


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Talk to the worker on the standard pipes; what libraries print goes to standard error."""
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    module, _, name = (sys.argv[1] if len(sys.argv) > 1 else "geounet.service.processes.map_child:MapMaker").partition(
        ":"
    )
    make = getattr(import_module(module), name)()
    if len(sys.argv) > 2:
        enter(Fence(**json.loads(sys.argv[2])))
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    serve(make, sys.stdin, say)


if __name__ == "__main__":
    main()
