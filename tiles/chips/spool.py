"""Finished strips on disk, journaled, so that an interrupted run goes on where it stopped.

A spool is a folder with one raw file a layer (`classes.u8`, `confidence.u8`, on request `probabilities.u8`) and
`journal.jsonl`. The journal's first line holds what the rows belong to and every choice that was made for them; each
further line says how many rows of which block of columns are safe. Rows reach the disk before their line does, so
whatever the journal promises is there; what lies behind it is made again.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from tiles.chips.blend import Strip
from tiles.durable import replacing
from tiles.errors import OutputError, SpoolError

Bytes = npt.NDArray[np.uint8]
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Layer:
    """One raw file of a spool: `planes` bytes a pixel, all bytes of a plane's row together."""

    name: str
    planes: int = 1


class Spool:
    """Rows of a class map as they are finished, block of columns by block of columns.

    Raises SpoolError where a folder holds something else, OutputError where the disk does not take the rows.
    """

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        self.folder = folder
        self.header = header
        self.rows, self.width = int(header["rows"]), int(header["width"])
        self.blocks: list[tuple[int, int]] = [(int(left), int(right)) for left, right in header["blocks"]]
        self.classes_count = int(header["probabilities"])
        self.layers = [Layer("classes"), Layer("confidence")]
        if self.classes_count:
            self.layers.append(Layer("probabilities", self.classes_count))
        self.block = 0
        self.next_row = 0
        self.audit: dict[str, Any] | None = None
        self._files: dict[str, BinaryIO] = {}

    @classmethod
    def create(
        cls,
        folder: Path,
        shape: tuple[int, int],
        about: dict[str, Any],
        probabilities: int = 0,
        blocks: Sequence[tuple[int, int]] = (),
    ) -> "Spool":
        """A new, empty spool for `shape` (rows, width).

        `about` is any JSON record: what the rows belong to; it comes back as `header["about"]`. `probabilities` is
        the number of classes kept, or 0. `blocks` are the half-open column ranges that are filled one after another.
        """
        record = {
            "rows": shape[0],
            "width": shape[1],
            "probabilities": probabilities,
            "blocks": list(blocks) or [(0, shape[1])],
            "about": about,
        }
        text = json.dumps(record)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            spool = cls(folder, json.loads(text))  # as `open` will find it: a resumed run sees the very same record
            for layer in spool.layers:
                with spool.path(layer.name).open("wb") as file:
                    file.truncate(shape[0] * shape[1] * layer.planes)
            _write_synced(folder / JOURNAL, text + "\n")
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
        return spool

    @classmethod
    def open(cls, folder: Path) -> "Spool":
        """An existing spool, ready to go on after its last safe row. Raises SpoolError where there is none."""
        try:
            lines = (folder / JOURNAL).read_text(encoding="utf-8").split("\n")
            spool = cls(folder, json.loads(lines[0]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpoolError(f"{folder} holds no readable journal of an interrupted run: {error}") from error
        for line in lines[1:-1]:  # a line without its newline was cut off by the interruption
            entry = json.loads(line)
            spool._stand_at(int(entry["block"]), int(entry["rows"]), entry.get("audit"))
        for layer in spool.layers:
            path = spool.path(layer.name)
            if not path.exists() or path.stat().st_size != spool.rows * spool.width * layer.planes:
                raise SpoolError(f"{path} does not have the size that its journal says: start over")
        _write_synced(folder / JOURNAL, "\n".join(lines[:-1]) + "\n")
        return spool

    def path(self, layer: str) -> Path:
        """The raw file of a layer."""
        return self.folder / f"{layer}.u8"

    @property
    def complete(self) -> bool:
        """Every row of every block is there."""
        return self.block == len(self.blocks)

    @property
    def pixels(self) -> int:
        """Pixels that are safe."""
        done = sum(right - left for left, right in self.blocks[: self.block]) * self.rows
        if self.complete:
            return done
        left, right = self.blocks[self.block]
        return done + self.next_row * (right - left)

    def append(self, strip: Strip, audit: dict[str, Any] | None = None) -> None:
        """Add the next rows of the block in work and make them safe. Rows that are there already are dropped.

        `audit` is any JSON record that is true once these rows are there; the last one comes back from `open`.
        """
        skip = self.next_row - strip.top
        height = strip.classes.shape[0]
        if self.complete or skip < 0:
            raise SpoolError(f"{self.folder}: rows {self.next_row}..{strip.top} are missing before this strip")
        if skip >= height:
            return
        try:
            self._write("classes", strip.classes[skip:, None])
            self._write("confidence", strip.confidence[skip:, None])
            if strip.probabilities is not None and self.classes_count:
                self._write("probabilities", strip.probabilities[:, skip:].transpose(1, 0, 2))
            rows = strip.top + height
            self._journal({"block": self.block, "rows": rows, "audit": audit})
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be written: {error.strerror or error}; "
                "make room and give the same command to go on"
            ) from error
        self._stand_at(self.block, rows, audit)

    def read_layer(self, layer: str, top: int, height: int) -> Bytes:
        """Rows of `classes` or `confidence` of a full spool, uint8 (height, width)."""
        pixels = np.fromfile(self.path(layer), np.uint8, height * self.width, offset=top * self.width)
        return pixels.reshape(height, self.width)

    def read(self, top: int, height: int) -> tuple[Bytes, Bytes]:
        """Classes and confidence, uint8 (height, width), of a full spool."""
        return self.read_layer("classes", top, height), self.read_layer("confidence", top, height)

    def thinned(self, step: int) -> Bytes:
        """Every `step`-th class of every `step`-th row of a full spool."""
        rows = [self.read_layer("classes", top, 1)[:, ::step] for top in range(0, self.rows, step)]
        return np.concatenate(rows)

    def strips(self, height: int = 512) -> Iterator[tuple[Bytes, Bytes]]:
        """All rows of a full spool in order, `height` at a time, as (classes, confidence)."""
        for top in range(0, self.rows, height):
            yield self.read(top, min(height, self.rows - top))

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _stand_at(self, block: int, rows: int, audit: dict[str, Any] | None) -> None:
        self.block, self.next_row, self.audit = block, rows, audit
        if rows == self.rows:
            self.block, self.next_row = block + 1, 0

    def _file(self, name: str, mode: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = cast("BinaryIO", (self.folder / name).open(mode, buffering=0))
        return self._files[name]

    def _write(self, layer: str, rows: Bytes) -> None:
        """Put rows, uint8 (rows, planes, block's width), where they belong."""
        file = self._file(f"{layer}.u8", "r+b")
        left, right = self.blocks[self.block]
        planes = rows.shape[1]
        start = self.next_row * self.width * planes
        if right - left == self.width:
            _write_at(file.fileno(), rows, start)
        else:
            for index, line in enumerate(rows.reshape(-1, right - left)):
                _write_at(file.fileno(), line, start + index * self.width + left)
        os.fdatasync(file.fileno())

    def _journal(self, entry: dict[str, Any]) -> None:
        file = self._file(JOURNAL, "ab")
        file.write((json.dumps(entry) + "\n").encode())
        os.fdatasync(file.fileno())


def _write_at(descriptor: int, rows: Bytes, offset: int) -> None:
    data = np.ascontiguousarray(rows).reshape(-1).data
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _write_synced(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
