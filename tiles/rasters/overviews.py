"""Overviews of a raw raster, each half as large as the one before: made in one compiled pass over a file.

GDAL would make them row by row from the raw file, compress them into a temporary file and read them back, which
takes longer than all the rest of writing the raster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tiles.compiled import njit
from tiles.legend import NODATA

Bytes = npt.NDArray[np.uint8]
Rule = Literal["mode", "mean"]

_BYTES_AT_ONCE = 16 << 20


@dataclass(frozen=True)
class RawRaster:
    """A file of bytes, shape (rows, planes, width): all bytes of a plane's row lie together."""

    path: Path
    rows: int
    width: int
    planes: int = 1


def write_overviews(raster: RawRaster, rule: Rule, smallest: int) -> list[RawRaster]:
    """Overviews beside `raster`, each with half the rows and columns (rounded up), until both are <= `smallest`.

    An overview's pixel stands for two by two pixels, fewer at the right and lower edge: for the most frequent one
    ("mode"; the first in reading order where several are equally frequent) or their mean, rounded ("mean"). Nodata
    (255) counts only where there is nothing else. Raises OSError where the disk does not take them.
    """
    made: list[RawRaster] = []
    last = raster
    while max(last.rows, last.width) > smallest:
        number = len(made) + 1
        path = raster.path.with_name(f"{raster.path.stem}.{number}{raster.path.suffix}")
        last = _halve(last, path, _mode if rule == "mode" else _mean)
        made.append(last)
    return made


def _halve(fine: RawRaster, path: Path, kernel: Callable[[Any, Any], None]) -> RawRaster:
    coarse = RawRaster(path, -(-fine.rows // 2), -(-fine.width // 2), fine.planes)
    line = fine.planes * fine.width
    step = 2 * max(1, _BYTES_AT_ONCE // (2 * line))
    with path.open("wb") as target:
        for top in range(0, fine.rows, step):
            height = min(step, fine.rows - top)
            pixels = np.fromfile(fine.path, np.uint8, height * line, offset=top * line)
            half = np.empty((-(-height // 2), fine.planes, coarse.width), dtype=np.uint8)
            kernel(pixels.reshape(height, fine.planes, fine.width), half)
            target.write(half.data)
    return coarse


@njit(nogil=True)
def _mode(fine: Any, coarse: Any) -> None:
    rows, planes, width = fine.shape
    for y in range(coarse.shape[0]):
        below = 2 * y + 1 < rows
        for p in range(planes):
            for x in range(coarse.shape[2]):
                beside = 2 * x + 1 < width
                a = fine[2 * y, p, 2 * x]
                b = fine[2 * y, p, 2 * x + 1] if beside else np.uint8(NODATA)
                c = fine[2 * y + 1, p, 2 * x] if below else np.uint8(NODATA)
                d = fine[2 * y + 1, p, 2 * x + 1] if below and beside else np.uint8(NODATA)
                # Of four, whoever has a twin is in the majority or ties with a later pair.
                if a != NODATA and a in (b, c, d):
                    coarse[y, p, x] = a
                elif b != NODATA and b in (c, d):
                    coarse[y, p, x] = b
                elif c != NODATA and c == d:
                    coarse[y, p, x] = c
                elif a != NODATA:
                    coarse[y, p, x] = a
                elif b != NODATA:
                    coarse[y, p, x] = b
                else:
                    coarse[y, p, x] = c if c != NODATA else d


@njit(nogil=True)
def _mean(fine: Any, coarse: Any) -> None:
    rows, planes, width = fine.shape
    for y in range(coarse.shape[0]):
        bottom = min(2 * y + 2, rows)
        for p in range(planes):
            for x in range(coarse.shape[2]):
                total, count = 0, 0
                for v in range(2 * y, bottom):
                    for u in range(2 * x, min(2 * x + 2, width)):
                        value = fine[v, p, u]
                        if value != NODATA:
                            total += value
                            count += 1
                coarse[y, p, x] = (2 * total + count) // (2 * count) if count else NODATA
