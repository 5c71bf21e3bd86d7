"""What goes by itself: scenes, maps and jobs past the days to keep, and what a crash left without an owner."""

import contextlib
import fcntl
import shutil
import time
from pathlib import Path

from geounet.service.errors import ConflictError, NotFoundError
from geounet.service.store import Store

_YOUNG_SECONDS = 600
"""A folder is made before its record: a younger one may belong to a request that is just running."""


def tidy(store: Store, now: float | None = None) -> None:
    """Remove what is older than the days to keep, and what a crash left without an owner."""
    now = time.time() if now is None else now
    if store.settings.keep_days is not None:
        _expire(store, now - store.settings.keep_days * 86400)
    for part in (store.root / "incoming").glob("*.part"):
        _unlink_unless_locked(part)
    for clean in (store.root / "incoming").glob("*.clean"):
        if not clean.with_suffix(".part").exists() and _age(clean, now) > _YOUNG_SECONDS:
            shutil.rmtree(clean, ignore_errors=True)
    _sweep(store, "scenes", "SELECT id FROM scenes", now)
    _sweep(store, "maps", "SELECT id FROM maps UNION SELECT id FROM jobs WHERE state IN ('queued', 'running')", now)
    _sweep(store, "work", "SELECT id FROM jobs WHERE state IN ('queued', 'running')", now)


def _expire(store: Store, before: float) -> None:
    for row in store.database.all("SELECT id FROM maps WHERE created < ?", before):
        with contextlib.suppress(NotFoundError):
            store.delete_map(row["id"])
    store.queue.expire(before)
    for row in store.database.all("SELECT id FROM scenes WHERE created < ?", before):
        with contextlib.suppress(NotFoundError, ConflictError):
            store.delete_scene(row["id"])


def _sweep(store: Store, kind: str, known: str, now: float) -> None:
    # The folders are listed before the records are read, so that one made in between is not on the list.
    folders = [f for f in (store.root / kind).iterdir() if _age(f, now) > _YOUNG_SECONDS]
    ids = {row["id"] for row in store.database.all(known)}
    for folder in folders:
        if folder.name not in ids:
            shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0


def _unlink_unless_locked(part: Path) -> None:
    with contextlib.suppress(OSError), part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
