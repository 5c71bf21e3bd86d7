"""`run.json`: what may differ between two runs: times, machine, versions."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from typing import Any

from geounet.outputs.decisions import Decisions
from tiles.chips.spool import Spool


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


def run_record(spool: Spool, decided: Decisions, watch: Stopwatch) -> dict[str, Any]:
    """What may differ from run to run: times, machine, versions."""
    predicted = watch.seconds.get("predict", 0.0)
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": watch.seconds,
        "megapixels": round(spool.rows * spool.width / 1e6, 3),
        "predict_mpx_per_s": round(spool.rows * spool.width / 1e6 / predicted, 3) if predicted else None,
        "engine": {k: decided.plan[k] for k in ("engine", "device", "precision")},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
