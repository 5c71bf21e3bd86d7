"""Regions: 4-connected components of equal class, joined across bands of rows.

A band is a block of whole rows with a frame of one pixel, so that no loop asks whether it stands at a border:
`pixels` has shape (rows + 2, columns + 2), row 0 is the last row of the band above and the last row is the first row
of the band below (nodata where there is none); columns 0 and -1 are nodata, so the corner tells what nodata is.
`labels` has the same shape, -1 for nodata; row 0 holds the ids of regions that go on from above, 0..open-1.

Labelling is the two-pass union-find of A. Rosenfeld and J. L. Pfaltz (1966) with the smaller label as root.
"""

import numpy as np
import numpy.typing as npt

from tiles.compiled import njit
from tiles.legend import NODATA

Codes = npt.NDArray[np.uint8 | np.uint16]
"""Classes as small numbers; the largest that the type holds is nodata."""
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_UNKNOWN = np.uint8(NODATA)


@njit(nogil=True)
def find(parent: Ints, item: int) -> int:
    """Root of `item`, halving the path on the way."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@njit(nogil=True)
def _count_starts(pixels: Codes) -> int:
    count, nodata = 0, pixels[0, 0]
    for r in range(1, pixels.shape[0] - 1):
        for c in range(1, pixels.shape[1] - 1):
            v = pixels[r, c]
            count += v != nodata and v != pixels[r, c - 1] and v != pixels[r - 1, c]
    return count


@njit(nogil=True)
def _first_pass(pixels: Codes, labels: Ints, parent: Ints, fresh: int) -> None:
    nodata = pixels[0, 0]
    for r in range(1, pixels.shape[0] - 1):
        for c in range(1, pixels.shape[1] - 1):
            v = pixels[r, c]
            if v == nodata:
                labels[r, c] = -1
            elif v == pixels[r, c - 1]:
                label = labels[r, c - 1]
                labels[r, c] = label
                # Where the pixel above belongs to the run above that was met a pixel earlier, all is said already.
                if v == pixels[r - 1, c] and v != pixels[r - 1, c - 1]:
                    a, b = find(parent, label), find(parent, labels[r - 1, c])
                    if a < b:
                        parent[b] = a
                    elif b < a:
                        parent[a] = b
            elif v == pixels[r - 1, c]:
                labels[r, c] = labels[r - 1, c]
            else:
                parent[fresh] = fresh
                labels[r, c] = fresh
                fresh += 1


@njit(nogil=True)
def _flatten(parent: Ints) -> int:
    """Turns parents into dense region numbers, ascending by smallest label; returns how many regions there are."""
    count = 0
    for i in range(len(parent)):
        if parent[i] == i:
            parent[i] = count
            count += 1
        else:
            parent[i] = parent[parent[i]]  # a parent is smaller than its child, so it is numbered already
    return count


@njit(nogil=True)
def relabel(labels: Ints, numbers: Ints) -> None:
    """Replaces every label but -1 by `numbers[label]`, in place."""
    for r in range(labels.shape[0]):
        for c in range(labels.shape[1]):
            if labels[r, c] >= 0:
                labels[r, c] = numbers[labels[r, c]]


def label_band(pixels: Codes, labels: Ints, open_regions: int) -> tuple[Ints, int]:
    """Labels a framed band in place with region numbers 0..n-1.

    Returns (numbers, n): the region number of each region that came from above, shape (open_regions,), and n.
    Numbers ascend with the regions' age: those from above first, then by first pixel.
    """
    parent = np.arange(open_regions + _count_starts(pixels), dtype=np.int32)
    _first_pass(pixels, labels, parent, open_regions)
    count = _flatten(parent)
    relabel(labels[:-1], parent)
    return parent[:open_regions].copy(), int(count)


@njit(nogil=True)
def _span_area(areas: Floats, step_r: float, step_c: float, row: float, first: float, length: int) -> float:
    """Square metres of `length` pixels of a row from column `first` on; bilinear between control points."""
    r, c = row / step_r, (first + length / 2) / step_c
    i, j = min(int(r), areas.shape[0] - 2), min(int(c), areas.shape[1] - 2)
    u, v = r - i, c - j
    top = areas[i, j] * (1 - v) + areas[i, j + 1] * v
    bottom = areas[i + 1, j] * (1 - v) + areas[i + 1, j + 1] * v
    return float(length * (top * (1 - u) + bottom * u))


@njit(nogil=True)
def measure_regions(
    pixels: Codes,
    labels: Ints,
    confidence: Bytes,
    top: int,
    areas: Floats,
    step_r: float,
    step_c: float,
    scale: float,
    integers: Longs,
    area: Longs,
) -> None:
    """Adds a labelled band to the sums of its regions.

    `integers` has shape (regions, 5): pixels, sum of confidence, pixels of known confidence, first pixel (row-major
    index in the raster; start with the largest integer), class. `area` holds square metres times `scale`, rounded run
    by run, so that sums are exact and do not depend on their order. `top` is the raster row of the band's first row.
    """
    width = labels.shape[1] - 2
    for r in range(1, labels.shape[0] - 1):
        row = top + r - 1
        c = 1
        while c <= width:
            label = labels[r, c]
            start = c
            total = 0
            known = 0
            while c <= width and labels[r, c] == label:
                value = confidence[r - 1, c - 1]
                if value != _UNKNOWN:
                    total += value
                    known += 1
                c += 1
            if label >= 0:
                integers[label, 0] += c - start
                integers[label, 1] += total
                integers[label, 2] += known
                integers[label, 3] = min(integers[label, 3], row * width + start - 1)
                integers[label, 4] = pixels[r, start]
                span = _span_area(areas, step_r, step_c, row + 0.5, start - 1.0, c - start)
                area[label] += np.int64(np.rint(span * scale))
