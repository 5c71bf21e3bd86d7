"""Square metres a class, counted from the finished rows."""

from typing import Any

import numpy as np

from tiles.chips.spool import Spool
from tiles.compiled import njit
from tiles.georef import Georef
from tiles.legend import Legend


def class_areas(
    spool: Spool, georef: Georef, legend: Legend, block: int = 64
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Square metres on the ellipsoid a class, then of nodata: float64 (classes + 1,).

    Pixels are counted in blocks of `block` x `block` and weighted with the area of the pixel at the block's centre.
    For pixels of up to 10 m the error stays below a millionth.
    """
    rows, width = georef.shape
    lefts = np.arange(0, width, block)
    centres = np.minimum(lefts + block, width) / 2 + lefts / 2
    channel = np.full(256, len(legend), dtype=np.intp)
    channel[legend.values] = np.arange(len(legend))
    areas = np.zeros(len(legend) + 1)
    for top in range(0, rows, block):
        height = min(block, rows - top)
        counts = np.zeros((len(lefts), len(legend) + 1), dtype=np.int64)
        _count(spool.read_layer("classes", top, height), channel, block, counts)
        middle = np.full(len(lefts), top + height / 2)
        areas += georef.pixel_area_m2(centres, middle) @ counts
    return areas


@njit(nogil=True)
def _count(classes: Any, channel: Any, block: int, counts: Any) -> None:
    """Add the pixels of each class in each `block` columns to `counts` (blocks, classes + 1)."""
    for b in range(counts.shape[0]):
        end = min((b + 1) * block, classes.shape[1])
        for y in range(classes.shape[0]):
            for x in range(b * block, end):
                counts[b, channel[classes[y, x]]] += 1
