"""Class and confidence rows -> polygons that fit each other exactly."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import rasterio.features
import shapely

from tiles.georef import Georef
from tiles.legend import NODATA, Legend
from tiles.measure import PixelMetric

Rows = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class PolygonBatch:
    """Polygons of some regions, one entry each, all arrays of shape (n,).

    `geometries` are shapely polygons in the raster's CRS; `fid` is the Hilbert index of the region's first pixel;
    areas are square metres and perimeters metres on the ellipsoid, holes included; `confidence` is the mean over
    the region's pixels, 0-1, NaN where none is known.
    """

    geometries: npt.NDArray[np.object_]
    fid: npt.NDArray[np.int64]
    class_id: npt.NDArray[np.uint8]
    class_name: npt.NDArray[np.object_]
    area_m2: npt.NDArray[np.float64]
    perimeter_m: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    pixel_count: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.fid)


def hilbert_index(
    rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], shape: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Position of pixels along a Hilbert curve over the smallest power-of-two square that holds the raster.

    Source: the iterative form of J. Warren's and H. S. Warren's (Hacker's Delight, 2nd ed., ch. 16) conversion.
    """
    x, y = cols.astype(np.int64), rows.astype(np.int64)
    index = np.zeros_like(x)
    side = 1 << max(max(shape) - 1, 1).bit_length()
    s = side >> 1
    while s > 0:
        rx, ry = ((x & s) > 0).astype(np.int64), ((y & s) > 0).astype(np.int64)
        index += s * s * ((3 * rx) ^ ry)
        flip = (ry == 0) & (rx == 1)
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(ry == 0, y, x), np.where(ry == 0, x, y)
        s >>= 1
    return index


def polygonise(
    rows: Iterable[Rows], georef: Georef, legend: Legend, *, min_area_m2: float = 0.0, simplify_px: float = 0.0
) -> Iterator[PolygonBatch]:
    """Polygons of 4-connected regions of equal class.

    `rows` holds (classes, confidence) strips from top to bottom, uint8 of shape (n, columns), of any height; nodata
    (255) gives no polygon. Confidence is 0-100, 255 where it is not known.
    """
    strips = list(rows)
    classes = np.concatenate([c for c, _ in strips]) if strips else np.zeros((0, georef.shape[1]), np.uint8)
    confidence = np.concatenate([c for _, c in strips]) if strips else classes
    if not (classes != NODATA).any():
        return
    found = list(rasterio.features.shapes(classes, mask=classes != NODATA, connectivity=4, transform=georef.transform))
    geometries = np.array([shapely.geometry.shape(g) for g, _ in found], dtype=object)
    values = np.array([v for _, v in found], dtype=np.uint8)
    labels = rasterio.features.rasterize(
        ((g, i) for i, g in enumerate(geometries, 1)),
        out_shape=classes.shape,
        transform=georef.transform,
        dtype="int32",
    )
    yield _batch(geometries, values, labels, confidence, georef, legend)


def _batch(
    geometries: npt.NDArray[np.object_],
    values: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int32],
    confidence: npt.NDArray[np.uint8],
    georef: Georef,
    legend: Legend,
) -> PolygonBatch:
    n = len(geometries)
    metric = PixelMetric.of(georef)
    flat = labels.ravel()
    area = np.zeros(n + 1)
    for r in range(labels.shape[0]):
        area += np.bincount(labels[r], metric.row_areas(r, labels.shape[1]), n + 1)
    count = np.bincount(flat, minlength=n + 1)[1:]
    known = np.where(confidence.ravel() == NODATA, 0, flat)
    known_count = np.bincount(known, minlength=n + 1)[1:]
    total = np.bincount(known, confidence.ravel().astype(np.float64), n + 1)[1:]
    pixels, first = np.unique(flat, return_index=True)
    first = first[pixels > 0].astype(np.int64)
    with np.errstate(invalid="ignore"):
        mean = np.where(known_count > 0, total / known_count / 100, np.nan)
    perimeter = shapely.length(geometries) * np.sqrt(metric.areas.mean() / abs(georef.transform.determinant))
    return PolygonBatch(
        geometries,
        hilbert_index(first // labels.shape[1], first % labels.shape[1], georef.shape),
        values,
        np.array([legend.name_of(int(v)) for v in values], dtype=object),
        area[1:],
        perimeter,
        mean,
        count.astype(np.int64),
    )
