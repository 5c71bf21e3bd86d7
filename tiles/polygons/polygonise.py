"""Class and confidence rows -> polygons that fit each other exactly.

Rows are gathered into bands (`blocks`) and generalised (`generalise`); each band is labelled
(`regions`), its boundaries are traced once as arcs (`arcs`) and simplified (`simplify`); a region
that does not go on below is put together from its arcs (`rings`) and leaves. Nothing depends on how the rows
were cut into strips: the bands are given by the raster's shape.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from tiles.errors import VectorError
from tiles.georef import Georef
from tiles.legend import NODATA, Legend
from tiles.polygons.arcs import measure_arcs, trace_band
from tiles.polygons.blocks import Band, Kind, Rows, bands, block_height
from tiles.polygons.generalise import merge_small_regions
from tiles.polygons.measure import PixelMetric
from tiles.polygons.regions import label_band, measure_regions, relabel
from tiles.polygons.rings import ArcStore, Rings, assemble
from tiles.polygons.simplify import simplify_arcs

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

_SIMPLIFY_PX = 1.25
_SMALLEST_PX = 16
_BUDGET = 192 << 20
_MOST_POLYGONS = 1 << 16


@dataclass(frozen=True)
class PolygonBatch:
    """Polygons of some regions, one entry each, all arrays of shape (n,), ascending by `fid`.

    `geometries` are shapely polygons in the raster's CRS; `fid` is the Hilbert index of the region's first pixel;
    `area_m2` and `perimeter_m` (holes included) are those of the polygon on the ellipsoid; `confidence` is the mean
    over the region's pixels, 0-1, NaN where none is known.
    """

    geometries: npt.NDArray[np.object_]
    fid: Longs
    class_id: npt.NDArray[np.int64]
    class_name: npt.NDArray[np.object_]
    area_m2: npt.NDArray[np.float64]
    perimeter_m: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    pixel_count: Longs

    def __len__(self) -> int:
        return len(self.fid)


def default_generalisation(georef: Georef) -> tuple[float, float]:
    """(min_area_m2, simplify_px) for a map at the raster's own scale; docs/polygons.md says why."""
    down, along = georef.metres_per_pixel()
    return _SMALLEST_PX * down * along, _SIMPLIFY_PX


def hilbert_index(rows: Longs, cols: Longs, shape: tuple[int, int]) -> Longs:
    """Position of pixels along a Hilbert curve over the smallest power-of-two square that holds the raster.

    Source: the iterative conversion in H. S. Warren, Hacker's Delight, 2nd ed., ch. 16.
    """
    x, y = cols.astype(np.int64), rows.astype(np.int64)
    index = np.zeros_like(x)
    side = 1 << max(max(shape) - 1, 1).bit_length()
    s = side >> 1
    while s > 0:
        rx, ry = (x & s) > 0, (y & s) > 0
        index += s * s * ((3 * rx.astype(np.int64)) ^ ry)
        flip = rx & ~ry
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(ry, x, y), np.where(ry, y, x)
        s >>= 1
    return index


def polygonise(
    rows: Iterable[Rows],
    georef: Georef,
    legend: Legend,
    *,
    min_area_m2: float = 0.0,
    simplify_px: float = 0.0,
    values: Longs | None = None,
    band_rows: int | None = None,
    budget: int = _BUDGET,
) -> Iterator[PolygonBatch]:
    """Polygons of 4-connected regions of equal class, each as soon as its region is complete.

    `rows` holds (classes, confidence) strips from top to bottom, uint8 of shape (n, columns), of any height; nodata
    (255) gives no polygon. Confidence is 0-100, 255 where it is not known. Regions smaller than `min_area_m2` are
    merged into their neighbours first; boundaries are then simplified by at most `simplify_px` pixels, for both
    neighbours alike. Neighbours share every vertex of their boundary: together the polygons are a valid coverage.

    With `values`, shape (codes,), the strips hold codes: `values[code]` is the class. Beyond 255 of them strips are
    uint16 and nodata is 65535; so a raster of any integers can be given, none of which has to stand for nodata.

    Work goes in bands of `band_rows` rows, by default as many as suit the raster's width; where two bands meet,
    simplified boundaries keep a vertex. What waits for regions to end lies on disk beyond `budget` bytes of rows and
    as many of boundaries.

    Raises VectorError for impossible options and for strips that do not make up the raster.
    """
    if not min_area_m2 >= 0 or not simplify_px >= 0:
        raise VectorError(f"minimum area ({min_area_m2} m2) and simplification ({simplify_px} px) must not be negative")
    height = band_rows or block_height(georef.shape)
    metric = PixelMetric.of(georef)
    values = np.arange(NODATA, dtype=np.int64) if values is None else values
    kind: Kind = np.uint8 if len(values) <= NODATA else np.uint16
    if min_area_m2 > 0:
        rows = merge_small_regions(rows, georef.shape, metric, min_area_m2, height, budget=budget, kind=kind)
    framed = bands(rows, georef.shape, height, kind)
    return _polygonise(framed, georef, metric, _Classes.of(values, legend), simplify_px, ArcStore(budget))


@dataclass(frozen=True)
class _Classes:
    """Class and name of every code, arrays of shape (codes,)."""

    values: Longs
    names: npt.NDArray[np.object_]

    @classmethod
    def of(cls, values: Longs, legend: Legend) -> "_Classes":
        known = {c.value: c.name for c in legend.classes}
        return cls(values, np.array([known.get(v, f"class {v}") for v in values.tolist()], dtype=object))


def _polygonise(
    framed: Iterable[Band],
    georef: Georef,
    metric: PixelMetric,
    classes: _Classes,
    simplify_px: float,
    store: ArcStore,
) -> Iterator[PolygonBatch]:
    open_regions = _Regions.none(georef.shape[1])
    for band in framed:
        regions, labels = open_regions.label(band, metric)
        store.rename(regions.numbers)
        arcs, corners = trace_band(
            band.pixels, labels, band.top, cut_above=not band.is_first, cut_below=not band.is_last
        )
        if simplify_px > 0:
            arcs = simplify_arcs(arcs, corners, band.top, simplify_px)
        cross, length = np.empty(len(arcs.left), np.int64), np.empty(len(arcs.left), np.float64)
        measure_arcs(arcs.points, arcs.offsets, metric.form, *metric.step, cross, length)
        store.add(arcs, cross, length)
        done = regions.done(is_last=band.is_last)
        if done.any():
            yield from _batches(store, regions, done, georef, metric, classes)
        open_regions, numbers = regions.still_open(done)
        store.rename(numbers)


@dataclass(frozen=True)
class _Regions:
    """Regions of a band: sums as in `measure_regions`, and the labels of the row that goes on below.

    `numbers` maps the numbers that the band above gave to open regions to the numbers of this band.
    """

    integers: Longs
    area: Longs
    last_row: Ints
    numbers: Ints

    @classmethod
    def none(cls, width: int) -> "_Regions":
        nothing = np.zeros(0, np.int32)
        return cls(np.zeros((0, 5), np.int64), np.zeros(0, np.int64), np.full(width + 2, -1, np.int32), nothing)

    def label(self, band: Band, metric: PixelMetric) -> tuple["_Regions", Ints]:
        labels = np.full(band.pixels.shape, -1, np.int32)
        labels[0] = self.last_row
        numbers, count = label_band(band.pixels, labels, len(self.area))
        integers, area = np.zeros((count, 5), np.int64), np.zeros(count, np.int64)
        integers[:, 3] = np.iinfo(np.int64).max
        np.add.at(integers[:, :3], numbers, self.integers[:, :3])
        np.minimum.at(integers[:, 3], numbers, self.integers[:, 3])
        integers[numbers, 4] = self.integers[:, 4]
        np.add.at(area, numbers, self.area)
        where = (metric.areas, *metric.step, metric.fixed_point)
        measure_regions(band.pixels, labels, band.confidence, band.top, *where, integers, area)
        return _Regions(integers, area, labels[-2].copy(), numbers), labels

    def done(self, *, is_last: bool) -> npt.NDArray[np.bool_]:
        """Regions without a pixel in the last row: nothing below touches them, their boundary is complete."""
        done = np.ones(len(self.area), np.bool_)
        if not is_last:
            done[self.last_row[self.last_row >= 0]] = False
        return done

    def still_open(self, done: npt.NDArray[np.bool_]) -> tuple["_Regions", Ints]:
        """The regions that go on, and the new number of each region, -1 where it is done."""
        numbers = np.where(done, -1, np.cumsum(~done) - 1).astype(np.int32)
        last_row = self.last_row.copy()
        relabel(last_row[None], numbers)
        return _Regions(self.integers[~done], self.area[~done], last_row, numbers), numbers


def _batches(
    store: ArcStore,
    regions: _Regions,
    done: npt.NDArray[np.bool_],
    georef: Georef,
    metric: PixelMetric,
    classes: _Classes,
) -> Iterator[PolygonBatch]:
    halves, points = store.take(done)
    dense = (np.cumsum(done) - 1).astype(np.int32)
    t = georef.transform
    rings = assemble(
        halves._replace(region=dense[halves.region]), points, int(done.sum()), (t.a, t.b, t.c, t.d, t.e, t.f)
    )
    integers, square_metres = regions.integers[done], regions.area[done] / metric.fixed_point
    # Shapely takes some hundred bytes a polygon: in noise the polygons of a band would be more than all the rest.
    for first in range(0, len(integers), _MOST_POLYGONS):
        part = slice(first, first + _MOST_POLYGONS)
        yield _batch(rings.part(part), integers[part], square_metres[part], classes, georef.shape)


def _batch(
    rings: Rings,
    integers: Longs,
    square_metres: npt.NDArray[np.float64],
    classes: _Classes,
    shape: tuple[int, int],
) -> PolygonBatch:
    count, total, known, first, codes = integers.T
    fid = hilbert_index(first // shape[1], first % shape[1], shape)
    order = np.argsort(fid)
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, rings.xy, (rings.ring_offsets, rings.polygon_offsets)
    )
    # A polygon's area is its pixels' mean area times its own size: for an exact polygon that is their sum.
    area = square_metres / count * rings.pixels
    confidence = np.full(len(count), np.nan)
    np.divide(total, known * 100, out=confidence, where=known > 0)
    return PolygonBatch(
        geometries=polygons[order],
        fid=fid[order],
        class_id=classes.values[codes[order]],
        class_name=classes.names[codes[order]],
        area_m2=area[order],
        perimeter_m=rings.length[order],
        confidence=confidence[order],
        pixel_count=count[order],
    )
