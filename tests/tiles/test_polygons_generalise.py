"""The mapping unit: streaming gives what the rule, carried out round by round on the whole raster, gives."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from scipy.ndimage import label

import tiles.polygons.generalise
from tiles.georef import Georef
from tiles.legend import NODATA
from tiles.polygons.generalise import merge_small_regions
from tiles.polygons.measure import PixelMetric

Bytes = npt.NDArray[np.uint8]
Regions = list[tuple[int, int, int]]


def regions(classes: Bytes) -> tuple[npt.NDArray[np.int64], Regions]:
    """Region numbers, -1 for nodata, and (pixels, first pixel, class) of each."""
    numbers = np.full(classes.shape, -1, np.int64)
    found: Regions = []
    for value in np.unique(classes[classes != NODATA]).tolist():
        parts, count = label(classes == value)
        for i in range(1, count + 1):
            numbers[parts == i] = len(found)
            found.append((int((parts == i).sum()), int(np.flatnonzero(parts == i)[0]), value))
    return numbers, found


def boundaries(numbers: npt.NDArray[np.int64]) -> dict[int, dict[int, tuple[int, int]]]:
    """For each region its neighbours: (pixel edges shared, the first of them)."""
    out: dict[int, dict[int, tuple[int, int]]] = {}
    width = numbers.shape[1]
    for (r, c), a in np.ndenumerate(numbers):
        for side, (other_r, other_c) in enumerate(((r, c - 1), (r - 1, c))):
            b = numbers[other_r, other_c] if other_r >= 0 and other_c >= 0 else -1
            if a >= 0 and b >= 0 and a != b:
                edge = (r * width + c) * 2 + side
                for x, y in ((int(a), int(b)), (int(b), int(a))):
                    length, first = out.setdefault(x, {}).get(y, (0, edge))
                    out[x][y] = (length + 1, min(first, edge))
    return out


def by_rounds(classes: Bytes, small_below: int) -> Bytes:
    """The rule of `tiles.polygons.generalise`, slowly: everything whose turn it is moves at once."""
    classes = classes.copy()
    while True:
        numbers, found = regions(classes)
        touching = boundaries(numbers)
        moves: dict[int, int] = {}
        for region, (size, first, _) in enumerate(found):
            if size >= small_below or region not in touching:
                continue
            if any(found[n][0] < small_below and found[n][:2] < (size, first) for n in touching[region]):
                continue
            shared: dict[int, tuple[int, int]] = {}
            for n, (length, edge) in touching[region].items():
                total, earliest = shared.get(found[n][2], (0, edge))
                shared[found[n][2]] = (total + length, min(earliest, edge))
            moves[region] = max(shared, key=lambda value: (shared[value][0], -shared[value][1]))
        if not moves:
            return classes
        for region, value in moves.items():
            classes[numbers == region] = value


def flat_metric(shape: tuple[int, int]) -> PixelMetric:
    """Every pixel is one square metre."""
    return PixelMetric(np.ones((2, 2, 3)) * [1.0, 0.0, 1.0], (float(shape[0]), float(shape[1])))


def merged(classes: Bytes, small_below: float, height: int, budget: int = 1 << 30) -> Bytes:
    known = np.arange(classes.size, dtype=np.uint8).reshape(classes.shape)
    strips = [(classes, known)]
    out = list(
        merge_small_regions(strips, classes.shape, flat_metric(classes.shape), small_below, height, budget=budget)
    )
    np.testing.assert_array_equal(np.concatenate([c for _, c in out]), known)
    return np.concatenate([c for c, _ in out])


@st.composite
def noisy(draw: st.DrawFn) -> Bytes:
    shape = draw(st.integers(1, 18)), draw(st.integers(1, 18))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = rng.integers(0, draw(st.integers(1, 5)), shape).astype(np.uint8)
    if draw(st.booleans()):
        classes = np.kron(classes, np.ones((2, 3), np.uint8))
    classes[rng.random(classes.shape) < draw(st.sampled_from([0.0, 0.1, 0.5]))] = NODATA
    return classes


@settings(max_examples=100, deadline=None)
@given(noisy(), st.integers(2, 14), st.sampled_from([1, 2, 3, 7, 64]), st.booleans())
def test_streaming_gives_what_rounds_over_the_whole_raster_give(
    classes: Bytes, small_below: int, height: int, tight: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if tight:  # forget ids and go to disk at every step
            patch.setattr(tiles.polygons.generalise, "_COMPACT_AT", 0)
        out = merged(classes, small_below, height, budget=0 if tight else 1 << 30)
    np.testing.assert_array_equal(out, by_rounds(classes, small_below))


@settings(max_examples=60, deadline=None)
@given(noisy(), st.integers(2, 14), st.sampled_from([1, 4, 64]))
def test_nothing_small_remains_but_islands_in_nodata(classes: Bytes, small_below: int, height: int) -> None:
    out = merged(classes, small_below, height)
    np.testing.assert_array_equal(out == NODATA, classes == NODATA)
    numbers, found = regions(out)
    touching = boundaries(numbers)
    assert all(size >= small_below or region not in touching for region, (size, _, _) in enumerate(found))
    # Whatever changed class belonged to a region below the unit.
    before, sizes = regions(classes)
    assert all(sizes[n][0] < small_below for n in np.unique(before[classes != out]).tolist())


def test_ties_go_to_the_edge_that_comes_first() -> None:
    classes = np.array([[1, 1, 0, 2, 2]], np.uint8)
    np.testing.assert_array_equal(merged(classes, 2, 1), [[1, 1, 1, 2, 2]])


def test_the_longest_boundary_counts_by_class_not_by_region() -> None:
    classes = np.array([[2, 2, 2, 2, 2], [1, 1, 0, 1, 1], [3, 3, 3, 3, 3]], np.uint8)
    # Class 1 touches with two pixels that are not one region; 2 and 3 are larger but touch once.
    np.testing.assert_array_equal(merged(classes, 2, 64)[1], [1, 1, 1, 1, 1])


def test_the_unit_is_in_square_metres_on_the_ellipsoid() -> None:
    grid = Georef(CRS.from_epsg(4326), Affine(0.001, 0.0, 10.0, 0.0, -0.001, 60.0), (40, 40))
    classes = np.zeros((40, 40), np.uint8)
    classes[10, 10] = 1
    metric = PixelMetric.of(grid)
    pixel = float(metric.area(10.5, 10.5))

    def left(unit: float) -> Any:
        out = merge_small_regions([(classes, classes)], (40, 40), metric, unit, 64, budget=1 << 30)
        return np.concatenate([c for c, _ in out])[10, 10]

    assert pixel == pytest.approx(55.8 * 111.4, rel=0.01)
    assert left(0.999 * pixel) == 1
    assert left(1.001 * pixel) == 0
