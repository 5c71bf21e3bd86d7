"""`run.json`: what may differ between two runs: times, machine, versions."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

from geounet.model.bundle import SHIPPED, ModelBundle, models_folder
from geounet.outputs.decisions import Decisions
from tiles.chips.spool import Spool
from tiles.scene.source import is_remote


@dataclass
class Stopwatch:
    """Seconds by stage, for `run.json`."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add what happens inside to `stage`."""
        began = monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + monotonic() - began, 3)


_PACKAGES = ("geounet", "torch", "openvino", "rasterio", "numpy", "shapely", "pyogrio", "numba")


def run_record(
    spool: Spool, decided: Decisions, watch: Stopwatch, scene: str, bundle: ModelBundle, out: Path
) -> dict[str, Any]:
    """What may differ from run to run: times, machine, versions, and where scene and model lay, seen from the map."""
    predicted = watch.seconds.get("predict", 0.0)
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "scene": scene if is_remote(scene) else _seen_from(out, Path(scene)),
        "model": None if bundle.folder.parent in (SHIPPED, models_folder()) else _seen_from(out, bundle.folder),
        "seconds": watch.seconds,
        "megapixels": round(spool.rows * spool.width / 1e6, 3),
        "predict_mpx_per_s": round(spool.rows * spool.width / 1e6 / predicted, 3) if predicted else None,
        "engine": {k: decided.plan[k] for k in ("engine", "device", "precision")},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _seen_from(folder: Path, path: Path) -> str:
    """Relative, so that a folder tree may move as a whole, and no file tells whose machine it was made on."""
    return os.path.relpath(path.absolute(), folder.absolute())


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
