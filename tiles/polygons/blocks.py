"""Strips of any height -> blocks of rows whose height depends on the raster alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiles.errors import VectorError

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8 | np.uint16]
"""Classes as small numbers; the largest that the type holds is nodata."""
Kind = type[np.uint8] | type[np.uint16]
Rows = tuple[Codes, Bytes]

_BLOCK_PIXELS = 4 << 20


@dataclass(frozen=True)
class Band:
    """A block of rows with a frame of one pixel around its classes, as `tiles.polygons.regions` describes it.

    `pixels` has shape (rows + 2, columns + 2), `confidence` (rows, columns); `top` is the first row in the raster.
    """

    pixels: Codes
    confidence: Bytes
    top: int
    is_first: bool
    is_last: bool


def block_height(shape: tuple[int, int]) -> int:
    """Rows of a block: about four million pixels, a power of two between 128 and 1024."""
    fitting = max(_BLOCK_PIXELS // max(shape[1], 1), 1)
    return min(max(1 << (fitting.bit_length() - 1), 128), 1024)


def nodata_of(kind: Kind) -> int:
    """The code of pixels without a class."""
    return int(np.iinfo(kind).max)


def blocks(rows: Iterable[Rows], shape: tuple[int, int], height: int, kind: Kind = np.uint8) -> Iterator[Rows]:
    """(classes, confidence) strips of any height -> blocks of `height` rows, the last perhaps shorter.

    Raises VectorError where the strips together do not have the raster's shape (rows, columns).
    """
    total, width = shape
    done, filled = 0, 0
    block = _block(min(height, total), width, kind)
    for classes, confidence in rows:
        if classes.shape != confidence.shape or classes.ndim != 2 or classes.shape[1] != width:
            raise VectorError(f"strips of {classes.shape} and {confidence.shape} pixels in a raster {width} wide")
        taken = 0
        while taken < len(classes):
            if done + filled >= total:
                raise VectorError(f"more rows than the raster has ({total})")
            n = min(len(block[0]) - filled, len(classes) - taken)
            block[0][filled : filled + n] = classes[taken : taken + n]
            block[1][filled : filled + n] = confidence[taken : taken + n]
            filled, taken = filled + n, taken + n
            if filled == len(block[0]):
                yield block
                done, filled = done + filled, 0
                block = _block(min(height, total - done), width, kind)
    if done + filled != total:
        raise VectorError(f"{done + filled} rows of {total}: the strips end before the raster does")


def _block(height: int, width: int, kind: Kind) -> Rows:
    return np.empty((height, width), kind), np.empty((height, width), np.uint8)


def bands(rows: Iterable[Rows], shape: tuple[int, int], height: int, kind: Kind = np.uint8) -> Iterator[Band]:
    """Blocks of codes of a `kind` with their frames; each waits for the first row of the next."""
    top, above = 0, _nothing((shape[1],), kind)
    waiting: Rows | None = None
    for block in blocks(rows, shape, height, kind):
        if waiting is not None:
            yield _framed(waiting, above, block[0][0], top, is_last=False)
            top, above = top + len(waiting[0]), waiting[0][-1]
        waiting = block
    if waiting is not None:
        yield _framed(waiting, above, _nothing((shape[1],), kind), top, is_last=True)


def _nothing(shape: tuple[int, ...], kind: Kind) -> Codes:
    return np.full(shape, nodata_of(kind), kind)


def _framed(block: Rows, above: Codes, below: Codes, top: int, *, is_last: bool) -> Band:
    classes, confidence = block
    pixels = _nothing((len(classes) + 2, classes.shape[1] + 2), classes.dtype.type)
    pixels[0, 1:-1], pixels[1:-1, 1:-1], pixels[-1, 1:-1] = above, classes, below
    return Band(pixels, confidence, top, is_first=top == 0, is_last=is_last)
