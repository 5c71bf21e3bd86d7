"""A SQLite file and the journals that SQLite keeps beside it while, and because, somebody writes."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tiles.errors import VectorError

_ENDINGS = ("-wal", "-shm", "-journal")


def sidecars_of(path: Path) -> list[Path]:
    """The journals that lie beside a SQLite file, whether it is there itself or not."""
    return [side for ending in _ENDINGS if (side := path.with_name(path.name + ending)).exists()]


def settle(path: Path) -> None:
    """Leave no journal beside a file that is to be replaced: the next reader would play it into the new one.

    What is written there goes into the old file first, so that it is whole until the moment it is replaced. Journals
    of a file that is gone, or is none of SQLite's, are removed. Raises VectorError where another program has it open.
    """
    if path.is_file() and sidecars_of(path):
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as db:
                db.isolation_level = None
                db.execute("PRAGMA locking_mode=EXCLUSIVE")
                db.execute("BEGIN EXCLUSIVE")  # rolls an interrupted transaction back
                db.execute("COMMIT")
                db.execute("PRAGMA journal_mode=DELETE")  # brings a write-ahead log into the file
        except sqlite3.Error as error:
            if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise VectorError(
                    f"{path} is open in another program: close it there, or choose another name"
                ) from error
    for side in sidecars_of(path):
        side.unlink(missing_ok=True)
