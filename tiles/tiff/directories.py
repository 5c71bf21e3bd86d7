"""Walk the directories (IFDs) of a TIFF file without a decoder: classic TIFF 6.0 and BigTIFF, both byte orders.

Every offset and count is checked against the file before it is followed; memory stays small whatever the file claims.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tiles.errors import SceneError

SUB_IFDS = 330
BLOCK_TAGS = (273, 279, 324, 325)
"""Offsets and lengths of strips and of tiles: the only tags that grow with the image."""
_POINTERS = (SUB_IFDS, 34665, 34853, 40965)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_GDAL_NODATA = 42113
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_ENTRIES = 512
_MAX_TAG_BYTES = 32_000_000


@dataclass(frozen=True)
class Tag:
    """One entry: its number, TIFF type, count of values and the value field (the value itself or its offset)."""

    number: int
    kind: int
    count: int
    field: bytes


class TiffFile:
    """The directories of an open file of `size` bytes, `limit` at most. Raises SceneError where it is no TIFF."""

    def __init__(self, file: BinaryIO, size: int, limit: int) -> None:
        self._file, self._size, self._limit = file, size, limit
        file.seek(0)
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise SceneError("this is no TIFF file: upload a GeoTIFF (a Cloud Optimized GeoTIFF is one)")
        self._order = order
        magic = struct.unpack(order + "H", head[2:4])[0]
        if magic == 42:
            self._big, self._first = False, struct.unpack(order + "I", head[4:8])[0]
        elif magic == 43 and len(head) == 16 and struct.unpack(order + "HH", head[4:8]) == (8, 0):
            self._big, self._first = True, struct.unpack(order + "Q", head[8:16])[0]
        else:
            raise SceneError("this is no TIFF file: upload a GeoTIFF (a Cloud Optimized GeoTIFF is one)")

    def directories(self) -> Iterator["Directory"]:
        """Every directory: the chain, sub-directories and those of EXIF and GPS. Raises SceneError."""
        seen: set[int] = set()
        waiting = [self._first]
        while waiting:
            offset = waiting.pop()
            if offset == 0:
                continue
            if offset in seen or len(seen) >= self._limit:
                raise SceneError(
                    f"the file's directories go in a circle or are more than {self._limit}: write the file again, for "
                    "example with gdal_translate -of COG"
                )
            seen.add(offset)
            directory, following = self._directory(offset)
            waiting.append(following)
            for tag in directory.tags:
                if tag.number in _POINTERS:
                    if tag.count > self._limit:
                        raise SceneError(f"tag {tag.number} of the file names {tag.count} directories: it is damaged")
                    waiting.extend(self.integers(tag, self._limit))
            yield directory

    def integers(self, tag: Tag, most: int) -> list[int]:
        """The first `most` values of a tag. Raises SceneError where they are no integers."""
        if tag.kind not in _INTEGERS:
            raise SceneError(f"tag {tag.number} of the file has the wrong type: the file is damaged")
        count = min(tag.count, most)
        data = self.data(tag, _SIZES[tag.kind] * count)
        return list(struct.unpack(f"{self._order}{count}{_INTEGERS[tag.kind]}", data))

    def data(self, tag: Tag, length: int | None = None) -> bytes:
        """The bytes of a tag's values, the first `length` of them. Raises SceneError behind the file's end."""
        whole = _SIZES.get(tag.kind, 1) * tag.count
        length = whole if length is None else min(length, whole)
        if whole <= len(tag.field):
            return tag.field[:length]
        return self._bytes(struct.unpack(self._order + ("Q" if self._big else "I"), tag.field)[0], length)

    def _bytes(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0 or offset + count > self._size:
            raise SceneError("the file is cut off or damaged: its directory points behind its end")
        self._file.seek(offset)
        return self._file.read(count)

    def _directory(self, offset: int) -> tuple["Directory", int]:
        """A directory and the offset of the next one."""
        head, entry, pointer = (8, 20, "Q") if self._big else (2, 12, "I")
        entries = struct.unpack(self._order + ("Q" if self._big else "H"), self._bytes(offset, head))[0]
        if entries > _MAX_ENTRIES:
            raise SceneError(f"a directory of the file has {entries} entries: the file is damaged")
        width = struct.calcsize("<" + pointer)
        body = self._bytes(offset + head, entries * entry + width)
        tags = []
        for at in range(0, entries * entry, entry):
            number, kind = struct.unpack_from(self._order + "HH", body, at)
            count = struct.unpack_from(self._order + pointer, body, at + 4)[0]
            tags.append(Tag(number, kind, count, body[at + 4 + width : at + entry]))
            self._check(tags[-1])
        return Directory(self, tuple(tags)), struct.unpack_from(self._order + pointer, body, entries * entry)[0]

    def _check(self, tag: Tag) -> None:
        length = _SIZES.get(tag.kind, 1) * tag.count
        if length > self._size or (length > _MAX_TAG_BYTES and tag.number not in BLOCK_TAGS):
            raise SceneError(f"tag {tag.number} of the file claims {length} bytes: the file is damaged or hostile")


def nodata_text(path: Path) -> str | None:
    """What GDAL's nodata tag (42113) of the first image says, word for word; None where there is none to be read.

    GDAL itself keeps silent about a value that the counts cannot hold.
    """
    try:
        with path.open("rb") as file:
            first = next(TiffFile(file, path.stat().st_size, 1).directories())
            tag = next((tag for tag in first.tags if tag.number == _GDAL_NODATA), None)
            return first.file.data(tag, 64).decode("ascii", "replace").strip("\0 ") if tag else None
    except (SceneError, OSError, StopIteration, struct.error):
        return None


@dataclass(frozen=True)
class Directory:
    """One directory: all its entries in the order of the file, those that occur twice too."""

    file: TiffFile
    tags: tuple[Tag, ...]

    def __contains__(self, number: int) -> bool:
        return any(tag.number == number for tag in self.tags)

    def numbers(self, number: int, most: int = 64) -> list[int]:
        """The first integers of a tag; empty where it is missing. Raises SceneError."""
        found = next((tag for tag in self.tags if tag.number == number), None)
        return [] if found is None else self.file.integers(found, most)

    def number(self, number: int, default: int) -> int:
        """The first integer of a tag. Raises SceneError."""
        return next(iter(self.numbers(number, 1)), default)
