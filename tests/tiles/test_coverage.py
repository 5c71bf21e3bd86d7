"""Coverage fractions are areas: they add up to the polygon's, agree with cutting each pixel, in any window."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tiles.rasters.coverage import coverage

ROWS, COLUMNS = 9, 11


def by_cutting(polygon: shapely.Geometry, top: int, left: int, rows: int, columns: int) -> np.ndarray:
    y, x = np.mgrid[top : top + rows, left : left + columns]
    return np.asarray(shapely.area(shapely.intersection(shapely.box(x, y, x + 1, y + 1), polygon)))


@st.composite
def polygons(draw: st.DrawFn) -> shapely.Geometry:
    points = st.tuples(st.floats(-4, 15, width=32), st.floats(-4, 15, width=32))
    shape = shapely.convex_hull(shapely.MultiPoint(draw(st.lists(points, min_size=3, max_size=9))))
    hole = shapely.convex_hull(shapely.MultiPoint(draw(st.lists(points, min_size=3, max_size=5))))
    whole = shapely.make_valid(shapely.difference(shape, hole))
    areas = [p for p in shapely.get_parts(whole) if p.geom_type == "Polygon"]
    return shapely.union_all(areas) if areas else shapely.Polygon()


@settings(max_examples=300, deadline=None)
@given(polygons(), st.integers(-2, 5), st.integers(-2, 5))
def test_each_fraction_is_the_area_of_the_cut_pixel(polygon: shapely.Geometry, top: int, left: int) -> None:
    found = coverage(polygon, top, left, ROWS, COLUMNS)
    np.testing.assert_allclose(found, by_cutting(polygon, top, left, ROWS, COLUMNS), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(polygons(), st.integers(1, ROWS - 1), st.integers(1, COLUMNS - 1))
def test_windows_make_up_the_whole(polygon: shapely.Geometry, row: int, column: int) -> None:
    whole = coverage(polygon, 0, 0, ROWS, COLUMNS)
    parts = [
        [coverage(polygon, 0, 0, row, column), coverage(polygon, 0, column, row, COLUMNS - column)],
        [coverage(polygon, row, 0, ROWS - row, column), coverage(polygon, row, column, ROWS - row, COLUMNS - column)],
    ]
    np.testing.assert_allclose(np.block(parts), whole, atol=1e-9)


def test_a_polygon_along_pixel_borders_covers_them_wholly() -> None:
    found = coverage(shapely.box(2, 3, 5, 7), 0, 0, ROWS, COLUMNS)
    assert found.sum() == pytest.approx(12)
    assert set(np.unique(found)) == {0.0, 1.0}
    assert found[3:7, 2:5].all()


def test_an_empty_polygon_covers_nothing() -> None:
    assert not coverage(shapely.Polygon(), 0, 0, ROWS, COLUMNS).any()


def test_fractions_are_those_of_exactextract() -> None:
    """The reference that zonal statistics are compared with (Baston, exactextract)."""
    exactextract = pytest.importorskip("exactextract")
    from exactextract.raster import NumPyRasterSource

    star = shapely.Polygon(
        [(5.5, 0.3), (6.7, 3.9), (10.6, 4.1), (7.4, 6.2), (8.8, 8.7), (5.4, 7.1), (1.2, 8.4), (3, 5)]
    )
    values = np.arange(ROWS * COLUMNS, dtype=np.float64).reshape(ROWS, COLUMNS)
    source = NumPyRasterSource(values, xmin=0, ymin=-ROWS, xmax=COLUMNS, ymax=0)
    upright = shapely.transform(star, lambda xy: xy * (1, -1))
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(upright)}
    told = exactextract.exact_extract(source, [feature], ["coverage", "values"])[0]["properties"]
    theirs = np.zeros(ROWS * COLUMNS)
    theirs[np.asarray(told["values"], dtype=int)] = told["coverage"]
    np.testing.assert_allclose(coverage(star, 0, 0, ROWS, COLUMNS).ravel(), theirs, atol=1e-6)
