"""Accepted uploads: the table `scenes`, and one folder of decoded files an upload (`tiles.ingest`)."""

import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geounet.service.database import Database
from geounet.service.errors import NotFoundError
from geounet.service.uploads import Upload
from tiles.clean.original import PIXELS
from tiles.durable import folder_bytes, sync_folder

ORIGINAL_FILE = "upload.bin"
"""The bytes that came, where they are kept: never opened again, by a name that no decoder looks for."""


@dataclass(frozen=True)
class SceneRecord:
    """An accepted upload. `name` is the client's label for it, `info` what was found; `bytes` lie on the disk."""

    id: str
    owner: str | None
    name: str
    bytes: int
    sha256: str
    pixels: int
    info: Mapping[str, Any]
    created: float


class Scenes:
    """The scenes below `folder`. The ids in paths are made here; none comes from a request."""

    def __init__(self, database: Database, folder: Path, *, keep_originals: bool = False) -> None:
        self.database = database
        self.keep_originals = keep_originals
        self.folder = folder

    def get(self, scene_id: str) -> SceneRecord:
        """Raises NotFoundError."""
        row = self.database.one("SELECT * FROM scenes WHERE id = ?", scene_id)
        if row is None:
            raise NotFoundError(f"there is no scene '{scene_id}'")
        return _record(row)

    def name_of(self, scene_id: str) -> str | None:
        """The client's label for a scene; None where the scene is gone."""
        row = self.database.one("SELECT name FROM scenes WHERE id = ?", scene_id)
        return None if row is None else str(row["name"])

    def path(self, scene_id: str) -> Path:
        """The folder of the decoded scene; `scene_id` is one that `get` has confirmed."""
        return self.folder / scene_id

    def pixels(self, scene_id: str) -> Path:
        """The GeoTIFF of ours that tiles are made of."""
        return self.path(scene_id) / PIXELS

    def same(self, owner: str | None, name: str, sha256: str) -> SceneRecord | None:
        """The scene that this owner uploaded under this name with these very bytes."""
        row = self.database.one(
            "SELECT * FROM scenes WHERE owner IS ? AND name = ? AND sha256 = ? ORDER BY created LIMIT 1",
            owner,
            name,
            sha256,
        )
        return _record(row) if row is not None else None

    def page(self, owner: str | None, *, everyone: bool, after: str | None, limit: int) -> list[SceneRecord]:
        """Scenes in the order of their ids, after the id `after`."""
        rows = self.database.all(
            "SELECT * FROM scenes WHERE (?1 OR owner IS ?2) AND id > ?3 ORDER BY id LIMIT ?4",
            everyone,
            owner,
            after or "",
            limit,
        )
        return [_record(row) for row in rows]

    def used(self) -> int:
        """Bytes of all scenes."""
        row = self.database.one("SELECT coalesce(sum(bytes), 0) FROM scenes")
        return int(row[0]) if row is not None else 0

    def used_by(self, owner: str | None) -> tuple[int, int]:
        """(bytes, pixels) of one owner's scenes."""
        row = self.database.one(
            "SELECT coalesce(sum(bytes), 0), coalesce(sum(pixels), 0) FROM scenes WHERE owner IS ?", owner
        )
        return (int(row[0]), int(row[1])) if row is not None else (0, 0)

    def add(
        self,
        upload: Upload,
        owner: str | None,
        name: str,
        info: Mapping[str, Any],
        pixels: int,
        check_room: Callable[[int], None],
    ) -> SceneRecord:
        """Make a checked upload a scene: from here on it survives any restart.

        What was decoded is moved into its place, the original only where the operator keeps originals. `check_room`
        is asked for the bytes of both inside the transaction, and may raise.
        """
        upload.sync()
        size = folder_bytes(upload.clean) + (upload.bytes if self.keep_originals else 0)
        record = SceneRecord(secrets.token_hex(10), owner, name, size, upload.sha256, pixels, info, time.time())
        folder = self.folder / record.id
        try:
            if self.keep_originals:
                upload.path.rename(upload.clean / ORIGINAL_FILE)
            upload.clean.rename(folder)
            sync_folder(folder)
            sync_folder(folder.parent)
            with self.database.write() as db:
                check_room(size)
                db.execute("INSERT INTO scenes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _row(record))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return record

    def name(self, db: sqlite3.Connection, scene_id: str) -> str | None:
        """The client's label for a scene, inside the caller's transaction; None where the scene is gone."""
        row = db.execute("SELECT name FROM scenes WHERE id = ?", (scene_id,)).fetchone()
        return None if row is None else str(row["name"])

    def remove(self, db: sqlite3.Connection, scene_id: str) -> None:
        """Remove the record inside the caller's transaction. Raises NotFoundError."""
        if db.execute("DELETE FROM scenes WHERE id = ?", (scene_id,)).rowcount == 0:
            raise NotFoundError(f"there is no scene '{scene_id}'")

    def discard(self, scene_id: str) -> None:
        """Remove the bytes of a scene whose record is gone."""
        shutil.rmtree(self.folder / scene_id, ignore_errors=True)


def _record(row: sqlite3.Row) -> SceneRecord:
    return SceneRecord(**{**dict(row), "info": json.loads(row["info"])})


def _row(record: SceneRecord) -> tuple[Any, ...]:
    return tuple({**vars(record), "info": json.dumps(dict(record.info))}.values())
