"""What the service keeps on disk, below its data folder: uploaded scenes and finished maps.

    geounet.sqlite3        records; `geounet.service.database`
    incoming/ID.part       an upload on its way in, locked by the process that writes it
    scenes/ID/scene.tif    one folder an upload, so that no file beside it is ever taken for a part of it
    work/ID/               where a job works; what an interrupted one left is gone on from
    maps/ID/               a finished map, moved here in one step

All names in paths are made here; none comes from a request.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from geounet.service.database import Database
from geounet.service.errors import ConflictError, NotFoundError, QuotaError, StorageError, TooLargeError
from geounet.service.jobs import Job, JobState, Queue
from geounet.service.settings import MEGA, ServiceSettings

SCENE_FILE = "scene.tif"
DATABASE_FILE = "geounet.sqlite3"


@dataclass(frozen=True)
class SceneRecord:
    """An accepted upload. `name` is the client's label for it, `info` what the header check found."""

    id: str
    owner: str | None
    name: str
    bytes: int
    sha256: str
    pixels: int
    info: Mapping[str, Any]
    created: float


@dataclass(frozen=True)
class MapRecord:
    """A finished map; the folder holds the rest."""

    id: str
    owner: str | None
    scene: str
    title: str
    model: str
    bytes: int
    created: float


@dataclass(frozen=True)
class Share:
    """What one owner may hold in scenes and maps together; None is no limit."""

    max_bytes: int | None = None
    max_pixels: int | None = None


class Upload:
    """A body on its way to disk: counted, hashed, refused in mid-stream, and gone unless it is kept."""

    def __init__(self, path: Path, limit: int, check: Callable[[int], None]) -> None:
        self.path = path
        self.bytes = 0
        self._limit = limit
        self._check = check
        self._checked = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO = path.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    @property
    def sha256(self) -> str:
        """Digest of what has come so far."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append. Raises TooLargeError over the limit, QuotaError or StorageError where room runs out."""
        self.bytes += len(chunk)
        if self.bytes > self._limit:
            raise TooLargeError(f"the scene is over the limit of {self._limit} bytes: send a smaller one")
        if self.bytes - self._checked > 16 * MEGA:  # others write too: look again as the bytes come in
            self._check(self.bytes)
            self._checked = self.bytes
        self._digest.update(chunk)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise StorageError(f"the upload cannot be written: {error.strerror}: try again later") from error

    def sync(self) -> None:
        """Make the bytes survive a power cut."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"the upload cannot be written: {error.strerror}: try again later") from error

    def close(self) -> None:
        """Let go of the file; what was not kept is deleted."""
        with contextlib.suppress(OSError):  # a full disk may refuse the last buffered bytes: the file goes anyway
            self._file.close()
        self.path.unlink(missing_ok=True)


class Store:
    """Scenes and maps under one data folder. Safe to use from many threads and processes."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Open the folder, making what is missing. Raises StorageError where that cannot be."""
        self.settings = settings
        self.root = settings.data.resolve()
        try:
            for name in ("incoming", "scenes", "work", "maps", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.root} cannot be the data folder: {error.strerror}") from error
        self.database = Database(self.root / DATABASE_FILE)
        self.queue = Queue(self.database)

    # -- uploads -----------------------------------------------------------------------------------------------

    def begin_upload(self, owner: str | None, share: Share, limit: int, announced: int | None) -> Upload:
        """Room for an upload of at most `limit` bytes; `announced` is the client's Content-Length.

        Raises TooLargeError, QuotaError, StorageError before a byte is taken.
        """
        if announced is not None and announced > limit:
            raise TooLargeError(f"the body has {announced} bytes, the limit is {limit}: send a smaller scene")

        def check(size: int) -> None:
            self.check_room(owner, share, size)

        check(announced or 0)
        return Upload(self.root / "incoming" / f"{secrets.token_hex(10)}.part", limit, check)

    def check_room(self, owner: str | None, share: Share, size: int, pixels: int = 0) -> None:
        """Raise QuotaError or StorageError where `size` more bytes or `pixels` more pixels do not fit."""
        free = shutil.disk_usage(self.root).free
        if size + self.settings.disk_reserve > free:
            raise StorageError(f"the disk has no room for {size} more bytes: delete scenes or maps, or try later")
        if self.settings.quota is not None and self.used() + size > self.settings.quota:
            raise StorageError(f"the service may hold {self.settings.quota} bytes: delete scenes or maps first")
        used_bytes, used_pixels = self.used_by(owner)
        if share.max_bytes is not None and used_bytes + size > share.max_bytes:
            raise QuotaError(f"your key may hold {share.max_bytes} bytes and holds {used_bytes}: delete some first")
        if share.max_pixels is not None and used_pixels + pixels > share.max_pixels:
            raise QuotaError(f"your key may hold {share.max_pixels} pixels and holds {used_pixels}: delete some first")

    def used(self) -> int:
        """Bytes of all scenes and maps."""
        row = self.database.one(
            "SELECT (SELECT coalesce(sum(bytes), 0) FROM scenes) + (SELECT coalesce(sum(bytes), 0) FROM maps)"
        )
        return int(row[0]) if row is not None else 0

    def used_by(self, owner: str | None) -> tuple[int, int]:
        """(bytes of scenes and maps, pixels of scenes) of one owner."""
        scenes = self.database.one(
            "SELECT coalesce(sum(bytes), 0), coalesce(sum(pixels), 0) FROM scenes WHERE owner IS ?", owner
        )
        maps = self.database.one("SELECT coalesce(sum(bytes), 0) FROM maps WHERE owner IS ?", owner)
        if scenes is None or maps is None:
            return 0, 0
        return int(scenes[0] + maps[0]), int(scenes[1])

    def keep(
        self, upload: Upload, owner: str | None, name: str, info: Mapping[str, Any], pixels: int, share: Share
    ) -> SceneRecord:
        """Make a checked upload a scene: from here on it survives any restart. Raises QuotaError, StorageError."""
        upload.sync()
        record = SceneRecord(secrets.token_hex(10), owner, name, upload.bytes, upload.sha256, pixels, info, time.time())
        folder = self.root / "scenes" / record.id
        try:
            folder.mkdir()
            upload.path.rename(folder / SCENE_FILE)
            _sync_folder(folder)
            _sync_folder(folder.parent)
            with self.database.write() as db:
                self.check_room(owner, share, upload.bytes, pixels)
                db.execute(
                    "INSERT INTO scenes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        record.id,
                        owner,
                        name,
                        record.bytes,
                        record.sha256,
                        pixels,
                        json.dumps(dict(info)),
                        record.created,
                    ),
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return record

    # -- scenes ------------------------------------------------------------------------------------------------

    def scene(self, scene_id: str) -> SceneRecord:
        """Raises NotFoundError."""
        row = self.database.one("SELECT * FROM scenes WHERE id = ?", scene_id)
        if row is None:
            raise NotFoundError(f"there is no scene '{scene_id}'")
        return _scene(row)

    def scene_path(self, scene_id: str) -> Path:
        """Where the scene's bytes lie; `scene_id` is one that `scene` has confirmed."""
        return self.root / "scenes" / scene_id / SCENE_FILE

    def same_scene(self, owner: str | None, name: str, sha256: str) -> SceneRecord | None:
        """The scene that this owner uploaded under this name with these very bytes."""
        row = self.database.one(
            "SELECT * FROM scenes WHERE owner IS ? AND name = ? AND sha256 = ? ORDER BY created LIMIT 1",
            owner,
            name,
            sha256,
        )
        return _scene(row) if row is not None else None

    def scenes(self, owner: str | None, *, everyone: bool, after: str | None, limit: int) -> list[SceneRecord]:
        """Scenes in the order of their ids, after the id `after`."""
        rows = self.database.all(
            "SELECT * FROM scenes WHERE (?1 OR owner IS ?2) AND id > ?3 ORDER BY id LIMIT ?4",
            everyone,
            owner,
            after or "",
            limit,
        )
        return [_scene(row) for row in rows]

    def delete_scene(self, scene_id: str) -> None:
        """Remove a scene. Raises NotFoundError, and ConflictError while an open job needs it."""
        with self.database.write() as db:
            busy = db.execute(
                "SELECT id FROM jobs WHERE scene = ? AND state IN ('queued', 'running')", (scene_id,)
            ).fetchone()
            if busy is not None:
                raise ConflictError(f"job '{busy['id']}' still needs this scene: cancel it or wait for it")
            if db.execute("DELETE FROM scenes WHERE id = ?", (scene_id,)).rowcount == 0:
                raise NotFoundError(f"there is no scene '{scene_id}'")
            db.execute("DELETE FROM idempotency WHERE scene = ?", (scene_id,))
        shutil.rmtree(self.root / "scenes" / scene_id, ignore_errors=True)

    # -- maps --------------------------------------------------------------------------------------------------

    def map(self, map_id: str) -> MapRecord:
        """Raises NotFoundError."""
        row = self.database.one("SELECT * FROM maps WHERE id = ?", map_id)
        if row is None:
            raise NotFoundError(f"there is no map '{map_id}'")
        return MapRecord(**dict(row))

    def map_folder(self, map_id: str) -> Path:
        """Where the map lies; `map_id` is one that `map` has confirmed."""
        return self.root / "maps" / map_id

    def maps(self, owner: str | None, *, everyone: bool, after: str | None, limit: int) -> list[MapRecord]:
        """Maps in the order of their ids, after the id `after`."""
        rows = self.database.all(
            "SELECT * FROM maps WHERE (?1 OR owner IS ?2) AND id > ?3 ORDER BY id LIMIT ?4",
            everyone,
            owner,
            after or "",
            limit,
        )
        return [MapRecord(**dict(row)) for row in rows]

    def delete_map(self, map_id: str) -> None:
        """Remove a map and its job's record. Raises NotFoundError."""
        with self.database.write() as db:
            if db.execute("DELETE FROM maps WHERE id = ?", (map_id,)).rowcount == 0:
                raise NotFoundError(f"there is no map '{map_id}'")
            db.execute("DELETE FROM jobs WHERE id = ?", (map_id,))
            db.execute("DELETE FROM idempotency WHERE job = ?", (map_id,))
        shutil.rmtree(self.map_folder(map_id), ignore_errors=True)

    # -- jobs on disk ------------------------------------------------------------------------------------------

    def work_folder(self, job: Job) -> Path:
        """Where a job works; `publish` takes the folder `map` inside."""
        return self.root / "work" / job.id

    def published(self, job: Job) -> bool:
        """Whether the map lies in its place already, though a worker died before it could say so."""
        return self.map_folder(job.id).is_dir()

    def publish(self, job: Job, worker: str) -> None:
        """Move a finished map into its place and end its job, under the lease. Raises LostLeaseError."""
        target = self.map_folder(job.id)
        with self.database.write() as db:
            self.queue.close(db, job, worker, JobState.DONE)
            if not target.is_dir():
                (self.work_folder(job) / "map").rename(target)
                _sync_folder(target.parent)
            scene = db.execute("SELECT name FROM scenes WHERE id = ?", (job.scene,)).fetchone()
            db.execute(
                "INSERT OR REPLACE INTO maps VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    job.id,
                    job.owner,
                    job.scene,
                    scene["name"] if scene else job.scene,
                    job.model,
                    folder_bytes(target),
                    time.time(),
                ),
            )
        self.discard_work(job)

    def discard_work(self, job: Job) -> None:
        """Remove what a job has left in its working folder."""
        shutil.rmtree(self.work_folder(job), ignore_errors=True)

    # -- housekeeping ------------------------------------------------------------------------------------------

    def tidy(self, now: float | None = None) -> None:
        """Remove what is older than the days to keep, and what a crash left without an owner."""
        now = time.time() if now is None else now
        if self.settings.keep_days is not None:
            self._expire(now - self.settings.keep_days * 86400)
        for part in (self.root / "incoming").glob("*.part"):
            _unlink_unless_locked(part)
        self._sweep("scenes", "SELECT id FROM scenes", now)
        self._sweep("maps", "SELECT id FROM maps UNION SELECT id FROM jobs WHERE state IN ('queued', 'running')", now)
        self._sweep("work", "SELECT id FROM jobs WHERE state IN ('queued', 'running')", now)

    def _expire(self, before: float) -> None:
        for row in self.database.all("SELECT id FROM maps WHERE created < ?", before):
            with contextlib.suppress(NotFoundError):
                self.delete_map(row["id"])
        with self.database.write() as db:
            db.execute("DELETE FROM jobs WHERE finished < ? AND state IN ('failed', 'cancelled')", (before,))
            db.execute("DELETE FROM idempotency WHERE created < ?", (before,))
        for row in self.database.all("SELECT id FROM scenes WHERE created < ?", before):
            with contextlib.suppress(NotFoundError, ConflictError):
                self.delete_scene(row["id"])

    def _sweep(self, kind: str, known: str, now: float) -> None:
        # A folder is made before its record: the young ones may belong to a request that is just running. The
        # folders are listed first, so that one made in between is not on the list.
        folders = [f for f in (self.root / kind).iterdir() if _age(f, now) > 600]
        ids = {row["id"] for row in self.database.all(known)}
        for folder in folders:
            if folder.name not in ids:
                shutil.rmtree(folder, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Bytes of every file below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _scene(row: sqlite3.Row) -> SceneRecord:
    return SceneRecord(**{**dict(row), "info": json.loads(row["info"])})


def _age(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unlink_unless_locked(part: Path) -> None:
    with contextlib.suppress(OSError), part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
