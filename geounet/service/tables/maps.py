"""Finished maps: the table `maps`, and one folder a map."""

import shutil
import sqlite3
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from geounet.service.database import Database
from geounet.service.errors import NotFoundError
from geounet.service.jobs import Job
from tiles.durable import folder_bytes


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


class Maps:
    """The maps below `folder`. A map carries the id of its job; no name in a path comes from a request."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.root = folder

    def get(self, map_id: str) -> MapRecord:
        """Raises NotFoundError."""
        row = self.database.one("SELECT * FROM maps WHERE id = ?", map_id)
        if row is None:
            raise NotFoundError(f"there is no map '{map_id}'")
        return MapRecord(**dict(row))

    def folder(self, map_id: str) -> Path:
        """Where the map lies; `map_id` is one that `get` has confirmed."""
        return self.root / map_id

    def page(self, owner: str | None, *, everyone: bool, after: str | None, limit: int) -> list[MapRecord]:
        """Maps in the order of their ids, after the id `after`."""
        rows = self.database.all(
            "SELECT * FROM maps WHERE (?1 OR owner IS ?2) AND id > ?3 ORDER BY id LIMIT ?4",
            everyone,
            owner,
            after or "",
            limit,
        )
        return [MapRecord(**dict(row)) for row in rows]

    def used(self) -> int:
        """Bytes of all maps."""
        row = self.database.one("SELECT coalesce(sum(bytes), 0) FROM maps")
        return int(row[0]) if row is not None else 0

    def used_by(self, owner: str | None) -> int:
        """Bytes of one owner's maps."""
        row = self.database.one("SELECT coalesce(sum(bytes), 0) FROM maps WHERE owner IS ?", owner)
        return int(row[0]) if row is not None else 0

    def record(self, db: sqlite3.Connection, job: Job, title: str) -> None:
        """Note a map that lies in its folder, inside the caller's transaction."""
        size = folder_bytes(self.folder(job.id))
        made = MapRecord(job.id, job.owner, job.scene, title, job.model, size, time.time())
        db.execute("INSERT OR REPLACE INTO maps VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(made))

    def remove(self, db: sqlite3.Connection, map_id: str) -> None:
        """Remove the record inside the caller's transaction. Raises NotFoundError."""
        if db.execute("DELETE FROM maps WHERE id = ?", (map_id,)).rowcount == 0:
            raise NotFoundError(f"there is no map '{map_id}'")

    def discard(self, map_id: str) -> None:
        """Remove the files of a map whose record is gone."""
        shutil.rmtree(self.folder(map_id), ignore_errors=True)
