"""The one SQLite file under the data folder: scenes, jobs, maps, keys.

Write-ahead logging lets the API read while a worker writes; `synchronous=FULL` makes a commit survive a power cut, so
what was answered with 201 or 202 is there after any restart.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geounet.service.errors import BusyError, StorageError

SCHEMA_VERSION = 1
BUSY_SECONDS = 30.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS scenes (
    id TEXT PRIMARY KEY, owner TEXT, name TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    pixels INTEGER NOT NULL, info TEXT NOT NULL, created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS scenes_owner ON scenes (owner, created);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT, scene TEXT NOT NULL,
    model TEXT NOT NULL, options TEXT NOT NULL, priority INTEGER NOT NULL, state TEXT NOT NULL
        CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    created REAL NOT NULL, started REAL, finished REAL, revision INTEGER NOT NULL DEFAULT 1,
    lease_owner TEXT, lease_until REAL, child_pid INTEGER, child_born REAL, attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0, progress TEXT, error TEXT
);
CREATE INDEX IF NOT EXISTS jobs_open ON jobs (priority DESC, number) WHERE state IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS jobs_owner ON jobs (owner, number);
CREATE INDEX IF NOT EXISTS jobs_scene ON jobs (scene);
CREATE TABLE IF NOT EXISTS maps (
    id TEXT PRIMARY KEY, owner TEXT, scene TEXT NOT NULL, title TEXT NOT NULL, model TEXT NOT NULL,
    bytes INTEGER NOT NULL, created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS maps_owner ON maps (owner, created);
CREATE TABLE IF NOT EXISTS corrections (
    map TEXT NOT NULL, revision INTEGER NOT NULL, features TEXT NOT NULL, count INTEGER NOT NULL,
    classes TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY (map, revision)
);
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL, scopes TEXT NOT NULL, created REAL NOT NULL,
    max_bytes INTEGER, max_pixels INTEGER, max_open_jobs INTEGER
);
CREATE TABLE IF NOT EXISTS idempotency (
    owner TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, scene TEXT NOT NULL, job TEXT,
    created REAL NOT NULL, PRIMARY KEY (owner, key)
);
"""


class Database:
    """Connections to one database file, one a thread; safe to share between threads and to open in many processes."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises StorageError where it is no database of this version."""
        self.path = path
        self._local = threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self._version() == SCHEMA_VERSION:
                return  # nothing to write: on a full disk, too, there is a service to make room with
            with self.write() as db:
                version = self._version()
                if version not in (0, SCHEMA_VERSION):
                    raise StorageError(
                        f"{path} was made by another version of geounet (schema {version}, this one reads "
                        f"{SCHEMA_VERSION}): take another data folder, or the geounet that made this one"
                    )
                for statement in SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{path} cannot be used as the service's database: {error}") from error

    def _version(self) -> int:
        return int(self.connection().execute("PRAGMA user_version").fetchone()[0])

    def connection(self) -> sqlite3.Connection:
        """This thread's connection; statements outside `write` commit one by one."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._local.connection = connection
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock from its start: all of it happens, or nothing.

        Raises BusyError where others hold the lock for too long, StorageError where the disk is full.
        """
        try:
            connection = self.connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have ended it already
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise _in_words(error) from error

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        row: sqlite3.Row | None = self.connection().execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Every row of a query."""
        return self.connection().execute(sql, values).fetchall()

    def version(self) -> int:
        """A number that changes whenever another connection has committed; asking costs microseconds."""
        return int(self.connection().execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close this thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


def _in_words(error: sqlite3.OperationalError) -> Exception:
    """What a client may hear of an error; anything else stays what it is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension that says where it happened
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyError("the database is held by others for too long: try again in a moment")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):  # where the log cannot grow the second is said
        return StorageError("the disk is full: delete scenes or maps, or try again later")
    return error
