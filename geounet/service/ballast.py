"""Room that is kept back, so that things can be deleted where the disk is full.

A deletion has to be written down before it frees anything. Where there is no room for that, the ballast goes overboard
first; what is deleted then makes room for a new one.
"""

import contextlib
import os
import shutil
from pathlib import Path

SIZE = 4_000_000
_LEAST, _LEFT = 200_000, 100_000


class Ballast:
    """A file of zeros in the data folder, of real blocks."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ballast"

    def drop(self) -> bool:
        """Give its room free. Returns whether there was any."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True

    def take_on(self) -> None:
        """Have it there again, as much of it as there is room for beside a little that stays free."""
        if self.path.exists():
            return
        size = min(SIZE, shutil.disk_usage(self.path.parent).free - _LEFT)
        if size < _LEAST:
            return
        part = self.path.with_name("ballast.part")
        with contextlib.suppress(OSError):
            try:
                with part.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
                part.replace(self.path)
            finally:
                part.unlink(missing_ok=True)
