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

from geounet.outputs.files import SUMMARY, not_ours
from tiles.chips.spool import JOURNAL, Spool
from tiles.durable import lock_now, refuse_name, sync_folder, sync_tree
from tiles.errors import OutputError, SpoolError

THUMBNAIL = "thumbnail.npz"


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
        refuse_name(out)
        if out.is_mount():
            raise OutputError(f"{out} is a mount point and cannot be renamed: choose a folder in it, -o {out / 'map'}")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            lock = lock_now(lock_path)
        except BlockingIOError as error:
            raise OutputError(f"{out}: another run is making this map; wait for it or choose another -o") from error
        except OSError as error:
            raise OutputError(f"{out}: cannot be written: {error.strerror or error}; choose another -o") from error
        place = cls(out, overwrite, lock)
        place._put_back()
        try:
            place._refuse_foreign(partial)
            if restart:
                place.discard()
        except BaseException:
            place.__exit__(None, None, None)
            raise
        return place

    def finished(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The summary of the map that is there, if it is the one that is asked for and is not to be made again.

        Raises OutputError where `out` holds anything else and may not be replaced.
        """
        if _is_free(self.out):
            return None
        summary = _summary_in(self.out)
        if summary is not None and summary.get("request", {}).get("digest") == request["digest"]:
            if not self.overwrite:
                return summary
        elif not self.overwrite:
            what = "another map" if summary is not None else "something else"
            raise OutputError(f"{self.out} exists and holds {what}: choose another -o, or --overwrite to replace it")
        self._refuse_to_delete()
        return None

    def _refuse_to_delete(self) -> None:
        """A map that is replaced takes its whole folder along: nothing of anybody else's may lie in it."""
        if _is_free(self.out):
            return
        summary = _summary_in(self.out)
        if summary is None:
            raise OutputError(f"{self.out} holds no map of ours and is not replaced: choose another -o or remove it")
        if foreign := not_ours(self.out, summary):
            raise OutputError(
                f"{self.out} holds {_listed(foreign)} beside the map, which --overwrite would delete: "
                "move that away, or choose another -o"
            )

    def _refuse_foreign(self, partial: Path) -> None:
        """A folder that only happens to have the name of unfinished work is not touched."""
        if partial.is_dir():
            foreign = sorted(p.name for p in partial.iterdir() if not _is_work(p))
            if foreign:
                raise OutputError(
                    f"{partial} holds {_listed(foreign)}, which no run of ours left there: "
                    "move it away, or choose another -o"
                )

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
        return self.partial / THUMBNAIL

    def fresh_map_folder(self) -> Path:
        """An empty folder for the finish pass to write into."""
        folder = self.partial / "map"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self) -> None:
        """Move the finished map into place and clean up."""
        self._refuse_to_delete()  # hours may have passed since it was looked at
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
        self.partial.with_name(self.partial.name + ".lock").unlink(missing_ok=True)
        self._lock.close()


def partial_of(out: Path) -> Path:
    """The folder that an unfinished map is kept in."""
    return out.with_name(out.name + ".partial")


def _is_free(out: Path) -> bool:
    """Nothing is there, or a folder with nothing in it."""
    if out.is_symlink():
        return False
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def _is_work(path: Path) -> bool:
    """Whether a file or folder in `OUT.partial` is one that a run keeps there."""
    if path.name in ("map", "old"):
        return path.is_dir()
    return path.name.removesuffix(".part") in (JOURNAL, THUMBNAIL) or path.suffix in (".u8", ".vrt")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _summary_in(folder: Path) -> dict[str, Any] | None:
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) and "request" in summary else None
