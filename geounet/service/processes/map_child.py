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

from geounet.service.processes.map_task import MapTask
from geounet.service.processes.sandbox.kernel import Fence, enter
from geounet.service.processes.sandbox.limits import die_with_parent

if TYPE_CHECKING:
    from geounet.mapping.engine_shelf import EngineShelf
    from geounet.mapping.progress import Progress
    from geounet.outputs.land_cover_map import LandCoverMap

Say = Callable[[Mapping[str, Any]], None]
Make = Callable[[MapTask, Say], None]

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

    def __call__(self, task: MapTask, say: Say) -> None:
        """Make the map of one task. Raises whatever `map_scene` raises."""
        from geounet.mapping.engine_shelf import EngineShelf
        from geounet.mapping.pipeline import map_scene
        from geounet.model.bundle import ModelBundle
        from geounet.service.features.texts import write_feature_texts

        self._shelf = self._shelf or EngineShelf()
        out, scene, options = Path(task.out), Path(task.scene), task.map_options()
        task.folder.mkdir(parents=True, exist_ok=True)
        if task.area is not None:
            from tiles.scene.crop import cut_area

            scene = cut_area(scene, task.area, task.cropped, options.assume_crs)
        report = _Throttled(say)
        if "correct" in task.options:
            _corrected(task, scene, report, self._shelf)
        else:
            bundle = ModelBundle.load(task.model)
            map_scene(scene, bundle, out, options, on_progress=report, engines=self._shelf)
        write_feature_texts(out)


def _corrected(task: MapTask, scene: Path, report: "_Throttled", shelf: "EngineShelf") -> "LandCoverMap":
    """The map of a correction; what it needs of the earlier map lies beside it. Raises what `correct_map` raises."""
    from geounet.correction.correct import correct_map

    earlier, out = task.folder / FROM, Path(task.out)
    model = None if (earlier / "model").is_dir() else task.model
    given = task.options["correct"]["corrections"]
    found = correct_map(earlier, given, out, scene=scene, model=model, on_progress=report, engines=shelf).map
    assert found is not None  # with `out` there is one
    return found


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
        task = MapTask.from_record(json.loads(line))
        try:
            make(task, say)
        except Exception as error:
            say({"error": _told(error, task)})
        else:
            say({"done": True})


def _told(error: Exception, task: MapTask) -> dict[str, str]:
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
    return {"kind": kind, "detail": task.for_owner(detail)}


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
