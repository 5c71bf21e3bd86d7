"""Finished strips on disk: append-only, journaled, so that an interrupted run goes on where it stopped.

A spool is a folder with one raw file a layer (`classes.u8`, `confidence.u8`, on request `probabilities.u8`, rows in
order) and `journal.jsonl`. The journal's first line holds what the rows belong to and every choice that was made for
them; each further line says how many rows are safe. Rows reach the disk before their line does, so whatever the
journal promises is there; what lies behind it is cut off when the spool is opened again.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tiles.blend import Strip
from tiles.errors import OutputError, SpoolError

Bytes = npt.NDArray[np.uint8]
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Layer:
    """One raw file of a spool and the bytes that one of its rows takes."""

    name: str
    row_bytes: int


class Spool:
    """Rows of a class map as they are finished.

    Raises SpoolError where a folder holds something else, OutputError where the disk does not take the rows.
    """

    def __init__(self, folder: Path, header: dict[str, Any], next_row: int, audit: dict[str, Any] | None) -> None:
        self.folder = folder
        self.header = header
        self.next_row = next_row
        self.audit = audit
        self.rows, self.width = int(header["rows"]), int(header["width"])
        self.classes_count = int(header["probabilities"])
        self.layers = [Layer("classes", self.width), Layer("confidence", self.width)]
        if self.classes_count:
            self.layers.append(Layer("probabilities", self.width * self.classes_count))
        self._files: dict[str, BinaryIO] = {}

    @classmethod
    def create(cls, folder: Path, shape: tuple[int, int], about: dict[str, Any], probabilities: int = 0) -> "Spool":
        """A new, empty spool for `shape` (rows, width); `probabilities` is the number of classes kept, or 0.

        `about` is any JSON record: what the rows belong to. It comes back from `open` as `header["about"]`.
        """
        text = json.dumps({"rows": shape[0], "width": shape[1], "probabilities": probabilities, "about": about})
        header = json.loads(text)  # as `open` will find it, so that a resumed run sees the very same record
        try:
            folder.mkdir(parents=True, exist_ok=True)
            spool = cls(folder, header, 0, None)
            for layer in spool.layers:
                spool.path(layer.name).write_bytes(b"")
            _write_synced(folder / JOURNAL, text + "\n")
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
        return spool

    @classmethod
    def open(cls, folder: Path) -> "Spool":
        """An existing spool, ready to go on after its last safe row. Raises SpoolError where there is none."""
        try:
            lines = (folder / JOURNAL).read_text(encoding="utf-8").split("\n")
            header = json.loads(lines[0])
        except (OSError, ValueError) as error:
            raise SpoolError(f"{folder} holds no readable journal of an interrupted run: {error}") from error
        next_row, audit = 0, None
        for line in lines[1:-1]:  # a line without its newline was cut off by the interruption
            entry = json.loads(line)
            next_row, audit = int(entry["rows"]), entry.get("audit")
        spool = cls(folder, header, next_row, audit)
        for layer in spool.layers:
            size = spool.path(layer.name).stat().st_size
            if size < next_row * layer.row_bytes:
                raise SpoolError(f"{spool.path(layer.name)} is shorter than its journal says: start over")
            os.truncate(spool.path(layer.name), next_row * layer.row_bytes)
        journal = "\n".join(lines[:-1]) + "\n"
        _write_synced(folder / JOURNAL, journal)
        return spool

    def path(self, layer: str) -> Path:
        """The raw file of a layer."""
        return self.folder / f"{layer}.u8"

    @property
    def complete(self) -> bool:
        """Every row is there."""
        return self.next_row == self.rows

    def append(self, strip: Strip, audit: dict[str, Any] | None = None) -> None:
        """Add the next rows and make them safe. Rows that are there already are dropped.

        `audit` is any JSON record that is true once these rows are there; the last one comes back from `open`.
        """
        skip = self.next_row - strip.top
        height = strip.classes.shape[0]
        if skip < 0:
            raise SpoolError(f"{self.folder}: rows {self.next_row}..{strip.top} are missing before this strip")
        if skip >= height:
            return
        try:
            self._write("classes", strip.classes[skip:])
            self._write("confidence", strip.confidence[skip:])
            if strip.probabilities is not None and self.classes_count:
                self._write("probabilities", strip.probabilities[:, skip:].transpose(1, 0, 2))
            self.next_row += height - skip
            self._journal({"rows": self.next_row, "audit": audit})
            self.audit = audit
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be written: {error.strerror or error}; "
                "make room and give the same command to go on"
            ) from error

    def read(self, top: int, height: int) -> tuple[Bytes, Bytes]:
        """Classes and confidence, uint8 (height, width), of finished rows."""
        classes, confidence = (
            np.fromfile(self.path(name), np.uint8, height * self.width, offset=top * self.width)
            for name in ("classes", "confidence")
        )
        return classes.reshape(height, self.width), confidence.reshape(height, self.width)

    def strips(self, height: int = 512) -> Iterator[tuple[Bytes, Bytes]]:
        """All finished rows in order, `height` at a time, as (classes, confidence)."""
        for top in range(0, self.next_row, height):
            yield self.read(top, min(height, self.next_row - top))

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = (self.folder / name).open("ab", buffering=0)
        return self._files[name]

    def _write(self, layer: str, rows: Bytes) -> None:
        file = self._file(f"{layer}.u8")
        data = np.ascontiguousarray(rows).reshape(-1).data
        while data:
            data = data[file.write(data) :]
        os.fdatasync(file.fileno())

    def _journal(self, entry: dict[str, Any]) -> None:
        file = self._file(JOURNAL)
        file.write((json.dumps(entry) + "\n").encode())
        os.fdatasync(file.fileno())


def _write_synced(path: Path, text: str) -> None:
    """Replace a file in one step; it is on the disk when this returns."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
