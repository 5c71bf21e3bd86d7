"""Reads the directories of a TIFF file and nothing else, to refuse bombs before any decoder sees the file.

Classic TIFF 6.0 and BigTIFF; the file's directories (IFDs), their sub-directories and the tags that say how large the
decoded image and its blocks are. No pixel is read, memory stays small whatever the file claims.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import BinaryIO

from geounet.service.errors import HostileSceneError, TooLargeError
from geounet.service.settings import GIGA, MEGA, ServiceSettings

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _SAMPLES, _ROWS_PER_STRIP, _PLANAR = 256, 257, 258, 259, 277, 278, 284
_TILE_WIDTH, _TILE_LENGTH, _SUB_IFDS = 322, 323, 330
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324
_MAX_ENTRIES = 512
_MAX_TAG_BYTES = 32 * MEGA


@dataclass(frozen=True)
class TiffImage:
    """One directory: sizes in pixels, `bits` a sample; with `separate`, every band has blocks of its own."""

    width: int
    height: int
    samples: int
    bits: int
    compressed: bool
    separate: bool
    tiled: bool
    block_width: int
    block_height: int

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all pixels and bands."""
        return self.width * self.height * self.samples * self.bits // 8

    @property
    def block_bytes(self) -> int:
        """Decoded bytes of one block."""
        bands = 1 if self.separate else self.samples
        return self.block_width * self.block_height * bands * self.bits // 8

    @property
    def blocks(self) -> int:
        """Blocks of the image."""
        bands = self.samples if self.separate else 1
        return ceil(self.width / self.block_width) * ceil(self.height / self.block_height) * bands


def check_tiff(path: Path, settings: ServiceSettings) -> list[TiffImage]:
    """The images of a file, all within the limits.

    Raises HostileSceneError (no TIFF, broken, or out of proportion) or TooLargeError (an honest scene, but too big).
    """
    size = path.stat().st_size
    images = []
    with path.open("rb") as file:
        for image in _Reader(file, size, settings.directories).images():
            _check(image, size, settings)
            images.append(image)
    if not images:
        raise HostileSceneError("the file holds no image: upload a GeoTIFF")
    return images


def _check(image: TiffImage, size: int, settings: ServiceSettings) -> None:
    pixels = image.width * image.height
    if pixels > settings.scene_pixels:
        raise TooLargeError(
            f"the scene has {image.width} x {image.height} pixels, the limit is {settings.scene_pixels} in all: "
            "cut it into parts"
        )
    if image.decoded_bytes > settings.scene_bytes:
        raise TooLargeError(
            f"the scene has {image.decoded_bytes} bytes of pixels, the limit is {settings.scene_bytes}: "
            "cut it into parts or leave bands out"
        )
    one_plain_strip = not image.compressed and not image.tiled and image.decoded_bytes <= size
    if image.block_bytes > settings.block_bytes and not one_plain_strip:
        raise HostileSceneError(
            f"one block of {image.block_width} x {image.block_height} pixels has {image.block_bytes} bytes, the limit "
            f"is {settings.block_bytes}: write the file again in blocks, for example with"
            " gdal_translate -of COG"
        )
    if image.blocks > settings.blocks:
        raise HostileSceneError(
            f"the image has {image.blocks} blocks, the limit is {settings.blocks}: write the file again in larger "
            "blocks, for example with gdal_translate -of COG"
        )
    if image.decoded_bytes > GIGA and image.decoded_bytes > settings.expansion * size:
        raise HostileSceneError(
            f"the file has {size} bytes and claims to hold {image.decoded_bytes}: that is more than "
            f"{settings.expansion} times as much, which no real scene is"
        )


class _Reader:
    """Walks directories; every offset and count is checked against the file before it is followed."""

    def __init__(self, file: BinaryIO, size: int, limit: int) -> None:
        self.file, self.size, self.limit = file, size, limit
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise HostileSceneError("this is no TIFF file: upload a GeoTIFF (a Cloud Optimized GeoTIFF is one)")
        self.order = order
        magic = struct.unpack(order + "H", head[2:4])[0]
        if magic == 42:
            self.big, self.first = False, struct.unpack(order + "I", head[4:8])[0]
        elif magic == 43 and len(head) == 16 and struct.unpack(order + "HH", head[4:8]) == (8, 0):
            self.big, self.first = True, struct.unpack(order + "Q", head[8:16])[0]
        else:
            raise HostileSceneError("this is no TIFF file: upload a GeoTIFF (a Cloud Optimized GeoTIFF is one)")

    def images(self) -> Iterator[TiffImage]:
        """Every directory that describes an image, in the order of the file."""
        seen: set[int] = set()
        waiting = [self.first]
        while waiting:
            offset = waiting.pop()
            if offset == 0:
                continue
            if offset in seen or len(seen) >= self.limit:
                raise HostileSceneError(
                    f"the file's directories go in a circle or are more than {self.limit}: write the file again, for "
                    "example with gdal_translate -of COG"
                )
            seen.add(offset)
            tags, following = self._directory(offset)
            waiting.append(following)
            waiting.extend(self._numbers(tags, _SUB_IFDS))
            if _WIDTH in tags or _LENGTH in tags:
                yield self._image(tags)

    def _bytes(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise HostileSceneError("the file is cut off or damaged: its directory points behind its end")
        self.file.seek(offset)
        return self.file.read(count)

    def _directory(self, offset: int) -> tuple[dict[int, tuple[int, int, bytes]], int]:
        """Tags as {tag: (type, count, value field)} and the next directory's offset."""
        head, entry, pointer = (8, 20, "Q") if self.big else (2, 12, "I")
        entries = struct.unpack(self.order + ("Q" if self.big else "H"), self._bytes(offset, head))[0]
        if entries > _MAX_ENTRIES:
            raise HostileSceneError(f"a directory of the file has {entries} entries: the file is damaged")
        width = struct.calcsize("<" + pointer)
        body = self._bytes(offset + head, entries * entry + width)
        tags = {}
        for at in range(0, entries * entry, entry):
            tag, kind = struct.unpack_from(self.order + "HH", body, at)
            count = struct.unpack_from(self.order + pointer, body, at + 4)[0]
            tags[tag] = (kind, count, body[at + 4 + width : at + entry])
            self._check_tag(tag, kind, count)
        return tags, struct.unpack_from(self.order + pointer, body, entries * entry)[0]

    def _check_tag(self, tag: int, kind: int, count: int) -> None:
        length = _SIZES.get(kind, 1) * count
        blocks = tag in (_STRIP_OFFSETS, _TILE_OFFSETS, 279, 325)
        if length > self.size or (length > _MAX_TAG_BYTES and not blocks):
            raise HostileSceneError(f"tag {tag} of the file claims {length} bytes: the file is damaged or hostile")

    def _numbers(self, tags: dict[int, tuple[int, int, bytes]], tag: int, most: int = 64) -> list[int]:
        """The first integers of a tag; empty where it is missing."""
        if tag not in tags:
            return []
        kind, count, field = tags[tag]
        if kind not in _INTEGERS:
            raise HostileSceneError(f"tag {tag} of the file has the wrong type: the file is damaged")
        count = min(count, most)
        length = _SIZES[kind] * count
        if length > len(field):
            offset = struct.unpack(self.order + ("Q" if self.big else "I"), field)[0]
            field = self._bytes(offset, length)
        return list(struct.unpack(f"{self.order}{count}{_INTEGERS[kind]}", field[:length]))

    def _number(self, tags: dict[int, tuple[int, int, bytes]], tag: int, default: int) -> int:
        return next(iter(self._numbers(tags, tag, 1)), default)

    def _image(self, tags: dict[int, tuple[int, int, bytes]]) -> TiffImage:
        width, height = self._number(tags, _WIDTH, 0), self._number(tags, _LENGTH, 0)
        samples = self._number(tags, _SAMPLES, 1)
        bits = max(self._numbers(tags, _BITS), default=1)
        tiled = _TILE_WIDTH in tags
        block_width = self._number(tags, _TILE_WIDTH, 0) if tiled else width
        rows = self._number(tags, _TILE_LENGTH, 0) if tiled else self._number(tags, _ROWS_PER_STRIP, height)
        block_height = rows if tiled else min(rows, height)
        if min(width, height, samples, bits, block_width, block_height) < 1 or bits > 128:
            raise HostileSceneError("the file's directory gives no sensible image size: the file is damaged")
        return TiffImage(
            width,
            height,
            samples,
            bits,
            self._number(tags, _COMPRESSION, 1) != 1,
            self._number(tags, _PLANAR, 1) == 2,
            tiled,
            block_width,
            block_height,
        )
