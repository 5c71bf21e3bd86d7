"""A body on its way to disk, and what its owner may hold."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from geounet.service.errors import StorageError, TooLargeError
from geounet.service.settings import MEGA


@dataclass(frozen=True)
class Share:
    """What one owner may hold in scenes and maps together; None is no limit."""

    max_bytes: int | None = None
    max_pixels: int | None = None


class Upload:
    """A body on its way to disk: counted, hashed, refused in mid-stream, and gone unless it is kept."""

    def __init__(self, path: Path, limit: int, check: Callable[[int], None]) -> None:
        self.path = path
        self.clean = path.with_suffix(".clean")
        """Folder for what is decoded of the upload; it goes with it unless it is kept."""
        self.bytes = 0
        self._limit = limit
        self._check = check
        self._checked = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO = path.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.clean.mkdir()

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
        shutil.rmtree(self.clean, ignore_errors=True)
