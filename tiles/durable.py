"""Files that survive a kill and a power cut: on the disk before anything relies on them, and whole under their name.

A name on a POSIX file system changes hands in one step (`rename`); what is behind it is safe once the file and the
folder that names it have been synced. Locks are `flock`: the kernel frees those of a process that dies.
"""

import fcntl
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tiles.errors import OutputError


def refuse_name(path: Path) -> None:
    """Raise OutputError for a path that GDAL or SQLite would write under another name, or not at all."""
    text = str(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise OutputError(f"{path}: the name is not UTF-8 text, nothing can be written there: choose another") from None
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise OutputError(f"{path}: the name holds a line break or another control character: choose another") from None


def sync_file(path: Path) -> None:
    """Make sure that the file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk: files made in it, moved into it, removed from it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make sure that every file of a folder is on the disk, and the folder's own names."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sync_file(path)
    sync_folder(folder)


def folder_bytes(folder: Path) -> int:
    """Bytes of every file below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; once the block ends well, the file there takes the place of `path`, on the disk, in one step.

    Where the block raises, `path` is as it was and nothing is left beside it. Raises OSError like any writing.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # of a process that was killed
    try:
        yield part
        sync_file(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def lock_now(path: Path) -> IO[str]:
    """The lock file, open and locked until it is closed. Raises BlockingIOError where another process holds it.

    The holder may remove the file before it lets go.
    """
    while True:
        lock = path.open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that held it may have removed the file between our opening and our locking it.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno())):
                return lock
        except BaseException:
            lock.close()
            raise
        lock.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; wait for whoever has it. It stays: removing it would let two waiting ones in."""
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
