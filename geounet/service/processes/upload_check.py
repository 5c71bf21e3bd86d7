"""Take an upload without trusting it: its directories are read here, its pixels decoded once by a fenced process."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geounet.service.errors import HostileSceneError, StorageError
from geounet.service.processes.sandbox.kernel import Fence, runtime_paths
from geounet.service.processes.sandbox.limits import fenced_environment
from geounet.service.processes.tiff_header import check_tiff
from geounet.service.settings import MEGA, ServiceSettings

log = logging.getLogger("geounet.service.processes.upload_check")


@dataclass(frozen=True)
class Wish:
    """The bundle (name and folder) a scene is to be read for, and the options that decide whether it can be.

    `reach` names every model that there is, with the finest and the coarsest resolution it knows, in metres.
    """

    model: str
    bundle: Path
    options: Mapping[str, Any]
    reach: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Inspection:
    """What was found: `facts` about the file and, for a model, `fit`: together what `geounet info` tells.

    `fit` is None where no model was named, else: `fits`; `checks` (topic, status, text, remedy); `map`, the rows and
    columns of the map; `validity`; `stretch`; `suited_models`, those that know the scene's resolution or a coarser
    one; and where it does not fit, `why` and the `field` to blame.
    """

    pixels: int
    facts: Mapping[str, Any]
    fit: Mapping[str, Any] | None


def ingest_upload(
    path: Path,
    clean: Path,
    name: str,
    settings: ServiceSettings,
    wish: Wish | None = None,
    *,
    check_room: Callable[[int, int], None] = lambda size, pixels: None,
) -> Inspection:
    """Check a file that came from outside and decode it into the empty folder `clean`; `name` is what messages call it.

    `check_room` is asked for bytes and pixels before any work, and may raise. Raises HostileSceneError,
    TooLargeError, or StorageError where the disk has no room. That a model cannot use the scene is no error: see
    `fit`.
    """
    images = check_tiff(path, settings)
    check_room(0, images[0].width * images[0].height)
    decoded = sum(image.decoded_bytes for image in images)
    room = min(decoded * 3 // 2 + 64 * MEGA, shutil.disk_usage(clean).free - settings.disk_reserve)
    request = {"path": str(path), "clean": str(clean), "seconds": settings.ingest_seconds, "file_bytes": max(room, 1)}
    answer = _ask(request, [path], [clean], name, settings, wish)
    if "full" in answer:
        raise StorageError(f"{name}: {answer['full']}")
    if "refused" in answer:
        raise HostileSceneError(answer["refused"], "file")
    _check_clean(clean, name, settings)
    return Inspection(images[0].width * images[0].height, answer["facts"], answer.get("fit"))


def inspect_clean(clean: Path, name: str, settings: ServiceSettings, wish: Wish) -> Mapping[str, Any]:
    """The fit of a decoded scene for a model: `Inspection.fit`. Raises HostileSceneError where it cannot be read."""
    request = {"path": None, "clean": str(clean), "seconds": settings.inspect_seconds, "file_bytes": 0}
    fit: Mapping[str, Any] = _ask(request, [clean], [], name, settings, wish)["fit"]
    return fit


def _check_clean(clean: Path, name: str, settings: ServiceSettings) -> None:
    """The process that decodes is not trusted either: what it wrote must be plain files that refer to nothing."""
    ours = settings.model_copy(update={"expansion": 10**9, "directories": 256, "scene_bytes": 2**62})
    for file in clean.iterdir():
        if file.is_symlink() or not file.is_file() or file.suffix not in (".tif", ".json"):
            raise HostileSceneError(f"{name} could not be decoded: it is damaged or hostile", "file")
        if file.suffix == ".tif":
            check_tiff(file, ours)


def _ask(
    request: Mapping[str, Any],
    read: Sequence[Path],
    write: Sequence[Path],
    name: str,
    settings: ServiceSettings,
    wish: Wish | None,
) -> dict[str, Any]:
    """What the fenced process answers to a request; it sees the files of `read` and `write` and no others."""
    fit = None
    seen = [str(path.resolve()) for path in read]
    if wish is not None:
        fit = {"bundle": str(wish.bundle), "options": dict(wish.options), "reach": dict(wish.reach)}
        seen.append(str(wish.bundle.resolve()))
    written = tuple(str(path.resolve()) for path in write)
    fence = Fence(settings.sandbox, (*runtime_paths(), *seen), written)
    asked = {**request, "name": name, "memory": settings.inspect_memory, "fit": fit, "fence": fence.as_record()}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "geounet.service.processes.upload_child"],
            input=json.dumps(asked) + "\n",
            capture_output=True,
            text=True,
            timeout=request["seconds"] * 2,  # on a busy machine the wall clock runs ahead of the processor's
            env=fenced_environment(),
            check=False,
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else None
        if answer is None:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            log.warning("an upload could not be opened", extra={"status": done.returncode, "said": last})
    except (subprocess.TimeoutExpired, ValueError):
        answer = None
    if not isinstance(answer, dict):
        raise HostileSceneError(
            f"{name} could not be opened within the limits on memory and time: it is damaged or hostile; write it "
            "again, for example with gdal_translate -of COG",
            "file",
        )
    return answer
