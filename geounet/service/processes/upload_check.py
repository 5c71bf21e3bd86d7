"""Look at an upload without trusting it: its directories are read here, its header by a fenced process."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geounet.service.errors import HostileSceneError
from geounet.service.processes.sandbox.kernel import Fence, runtime_paths
from geounet.service.processes.tiff_header import check_tiff
from geounet.service.processes.warm import WarmChildren
from geounet.service.settings import ServiceSettings


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


CHILD = "geounet.service.processes.upload_child"


def inspect_upload(
    path: Path, name: str, settings: ServiceSettings, wish: Wish | None = None, children: WarmChildren | None = None
) -> Inspection:
    """Check a file that came from outside; `name` is what messages call it; `children` are warm ones of `CHILD`.

    Raises HostileSceneError or TooLargeError. That a model cannot use the scene is no error here: see `fit`.
    """
    images = check_tiff(path, settings)
    answer = _ask(path, name, settings, wish, children)
    if "refused" in answer:
        raise HostileSceneError(answer["refused"], "file")
    return Inspection(images[0].width * images[0].height, answer["facts"], answer.get("fit"))


def _ask(
    path: Path, name: str, settings: ServiceSettings, wish: Wish | None, children: WarmChildren | None
) -> dict[str, Any]:
    fit = None
    if wish is not None:
        fit = {"bundle": str(wish.bundle), "options": dict(wish.options), "reach": dict(wish.reach)}
    seen = [str(path.resolve()), *([str(wish.bundle.resolve())] if wish is not None else [])]
    request = {
        "path": str(path),
        "name": name,
        "memory": settings.inspect_memory,
        "seconds": settings.inspect_seconds,
        "fit": fit,
        "fence": Fence(settings.sandbox, (*runtime_paths(), *seen)).as_record(),
    }
    used = children or WarmChildren(CHILD, 0)
    try:
        # On a busy machine the wall clock runs ahead of the processor's.
        status, printed = used.ask(json.dumps(request) + "\n", settings.inspect_seconds * 2)
        answer = json.loads(printed) if status == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        answer = None
    finally:
        if children is None:
            used.close()
    if not isinstance(answer, dict):
        raise HostileSceneError(
            f"{name} could not be opened within the limits on memory and time: it is damaged or hostile; write it "
            "again, for example with gdal_translate -of COG",
            "file",
        )
    return answer
