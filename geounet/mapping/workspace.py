"""Where a map is made: `OUT.partial` beside `OUT`, until one rename puts the finished folder in place.

`OUT.partial` holds the spool while the network runs, `map/` while the finish pass writes, and `old/` for the moment
in which a finished map replaces another. Whatever moment a run stops at, the next one finds either the old map or
the new one under its final name, or puts the old one back.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from geounet.outputs.files import SUMMARY
from tiles.chips.spool import JOURNAL, Spool
from tiles.durable import lock_now, sync_folder, sync_tree
from tiles.errors import OutputError, SpoolError


class Workplace:
    """The folders of one map in the making; one process at a time has it."""

    def __init__(self, out: Path, overwrite: bool, lock: IO[str]) -> None:
        self.out = out
        self.partial = partial_of(out)
        self.overwrite = overwrite
        self._lock = lock

    @classmethod
    def claim(cls, out: Path, *, overwrite: bool = False, restart: bool = False) -> "Workplace":
        """Take the place for one run. Raises OutputError where another run has it or nothing can be written."""
        out = Path.cwd() / out
        partial = partial_of(out)
        lock_path = partial.with_name(partial.name + ".lock")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            lock = lock_now(lock_path)
        except BlockingIOError as error:
            raise OutputError(f"{out}: another run is making this map; wait for it or choose another -o") from error
        except OSError as error:
            raise OutputError(f"{out}: cannot be written: {error.strerror or error}; choose another -o") from error
        place = cls(out, overwrite, lock)
        place._put_back()
        if restart:
            place.discard()
        return place

    def finished(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The summary of the map that is there, if it is the one that is asked for and is not to be made again.

        Raises OutputError where `out` holds anything else and may not be replaced.
        """
        if not self.out.exists() and not self.out.is_symlink():
            return None
        summary = _summary_in(self.out)
        if summary is not None and summary.get("request", {}).get("digest") == request["digest"]:
            if not self.overwrite:
                return summary
        elif not self.overwrite:
            what = "another map" if summary is not None else "something else"
            raise OutputError(f"{self.out} exists and holds {what}: choose another -o, or --overwrite to replace it")
        if summary is None and (not self.out.is_dir() or any(self.out.iterdir())):
            raise OutputError(f"{self.out} holds no map of ours and is not replaced: choose another -o or remove it")
        return None

    def resume(self, request: dict[str, Any]) -> Spool | None:
        """The spool of an interrupted run of the same request, None where there is none.

        Raises OutputError where the interrupted run was for something else.
        """
        if not (self.partial / JOURNAL).exists():
            return None
        try:
            spool = Spool.open(self.partial)
        except SpoolError as error:
            raise OutputError(f"{error}; give --restart to start over") from error
        earlier = spool.header["about"]["request"]
        if earlier["digest"] != request["digest"]:
            changed = ", ".join(k for k in ("scene", "bundle", "options", "geounet") if earlier[k] != request[k])
            raise OutputError(
                f"{self.partial} holds an interrupted run with another {changed}: "
                "give that run's command to go on with it, or --restart to start over"
            )
        return spool

    def begin(
        self, shape: tuple[int, int], about: dict[str, Any], probabilities: int, blocks: Sequence[tuple[int, int]]
    ) -> Spool:
        """A new spool for a map of `shape` (rows, columns); see `Spool.create`."""
        self.discard()
        return Spool.create(self.partial, shape, about, probabilities, blocks)

    @property
    def thumbnail(self) -> Path:
        """Where the scene's small picture is kept until the preview is drawn."""
        return self.partial / "thumbnail.npz"

    def fresh_map_folder(self) -> Path:
        """An empty folder for the finish pass to write into."""
        folder = self.partial / "map"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self) -> None:
        """Move the finished map into place and clean up."""
        try:
            sync_tree(self.partial / "map")
            if self.out.exists():
                self.out.replace(self.partial / "old")
            (self.partial / "map").replace(self.out)
            sync_folder(self.out.parent)
        except OSError as error:
            raise OutputError(f"{self.out}: cannot be put into place: {error.strerror or error}") from error
        self.discard()

    def discard(self) -> None:
        """Remove everything that is not the finished map."""
        if self.partial.exists():
            shutil.rmtree(self.partial)

    def _put_back(self) -> None:
        """A run that stopped between the two renames left the old map aside."""
        old = self.partial / "old"
        if not old.exists():
            return
        if self.out.exists():
            shutil.rmtree(old)
        else:
            old.replace(self.out)

    def __enter__(self) -> "Workplace":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.partial.exists():
            self.partial.with_name(self.partial.name + ".lock").unlink(missing_ok=True)
        self._lock.close()


def partial_of(out: Path) -> Path:
    """The folder that an unfinished map is kept in."""
    return out.with_name(out.name + ".partial")


def _summary_in(folder: Path) -> dict[str, Any] | None:
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) and "request" in summary else None
