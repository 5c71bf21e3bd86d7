"""Judges an upload by its directories alone, before any decoder sees it: bombs, and references to other files.

Looks at every directory (IFD) and the tags that say how large the decoded image and its blocks are, and at the texts
that GDAL would follow out of the file (`tiles.tiff.references`). No pixel is read.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from geounet.service.errors import HostileSceneError, TooLargeError
from geounet.service.settings import GIGA, ServiceSettings
from tiles.errors import SceneError
from tiles.tiff.directories import Directory, TiffFile
from tiles.tiff.references import refuse_references

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _SAMPLES, _ROWS_PER_STRIP, _PLANAR = 256, 257, 258, 259, 277, 278, 284
_TILE_WIDTH, _TILE_LENGTH = 322, 323


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
    try:
        with path.open("rb") as file:
            for directory in TiffFile(file, size, settings.directories).directories():
                refuse_references(directory, "the file")
                if _WIDTH in directory or _LENGTH in directory:
                    images.append(_image(directory))
                    _check(images[-1], size, settings)
    except SceneError as error:
        raise HostileSceneError(str(error), "file") from error
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


def _image(directory: Directory) -> TiffImage:
    width, height = directory.number(_WIDTH, 0), directory.number(_LENGTH, 0)
    samples = directory.number(_SAMPLES, 1)
    bits = max(directory.numbers(_BITS), default=1)
    tiled = _TILE_WIDTH in directory
    block_width = directory.number(_TILE_WIDTH, 0) if tiled else width
    rows = directory.number(_TILE_LENGTH, 0) if tiled else directory.number(_ROWS_PER_STRIP, height)
    block_height = rows if tiled else min(rows, height)
    if min(width, height, samples, bits, block_width, block_height) < 1 or bits > 128:
        raise HostileSceneError("the file's directory gives no sensible image size: the file is damaged")
    return TiffImage(
        width,
        height,
        samples,
        bits,
        directory.number(_COMPRESSION, 1) != 1,
        directory.number(_PLANAR, 1) == 2,
        tiled,
        block_width,
        block_height,
    )
