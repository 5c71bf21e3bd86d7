"""Laws of polygons: what must hold for every raster, however it is cut into strips."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from tiles.errors import VectorError
from tiles.georef import Georef
from tiles.legend import NODATA, LandClass, Legend
from tiles.polygons.measure import PixelMetric
from tiles.polygons.polygonise import PolygonBatch, default_generalisation, hilbert_index, polygonise

Bytes = npt.NDArray[np.uint8]

LEGEND = Legend((LandClass(0, "road", (9, 9, 9)), LandClass(1, "tree", (0, 99, 0)), LandClass(2, "water", (0, 0, 99))))
laws = settings(max_examples=60, deadline=None)


def georef(shape: tuple[int, int], crs: str = "EPSG:32613", size: float = 1.0) -> Georef:
    return Georef(CRS.from_string(crs), Affine(size, 0.0, 500_000.0, 0.0, -size, 4_400_000.0), shape)


def run(classes: Bytes, *, cuts: Sequence[int] = (), confidence: Bytes | None = None, **options: Any) -> PolygonBatch:
    """All polygons of a raster that comes in strips which end at the rows `cuts`."""
    known = np.full_like(classes, 50) if confidence is None else confidence
    strips = zip(np.split(classes, cuts), np.split(known, cuts), strict=True)
    batches = list(polygonise(strips, georef(classes.shape), LEGEND, **options))
    fields = PolygonBatch.__dataclass_fields__
    if not batches:
        return PolygonBatch(**{name: np.zeros(0, object) for name in fields})
    return PolygonBatch(**{name: np.concatenate([getattr(b, name) for b in batches]) for name in fields})


def spiral(side: int) -> Bytes:
    """One class winding into another, one pixel wide."""
    out = np.ones((side, side), np.uint8)
    r, c, dr, dc = 0, 0, 0, 1
    out[0, 0] = 0
    turned = 0
    while turned < 2:
        ahead = (r + dr, c + dc)
        beyond = (r + 2 * dr, c + 2 * dc)
        inside = 0 <= ahead[0] < side and 0 <= ahead[1] < side
        if inside and (not (0 <= beyond[0] < side and 0 <= beyond[1] < side) or out[beyond] == 1) and out[ahead] == 1:
            r, c = ahead
            out[r, c] = 0
            turned = 0
        else:
            dr, dc = dc, -dr
            turned += 1
    return out


def rings(rows: int, cols: int) -> Bytes:
    r, c = np.mgrid[:rows, :cols]
    return np.asarray(np.minimum.reduce([r, c, rows - 1 - r, cols - 1 - c]) % 3, np.uint8)


def checkerboard(rows: int, cols: int) -> Bytes:
    return np.asarray(np.indices((rows, cols)).sum(0) % 2, np.uint8)


def diagonals(rows: int, cols: int, slope: int, width: int) -> Bytes:
    r, c = np.mgrid[:rows, :cols]
    return np.asarray((r * slope + c) // width % 3, np.uint8)


@st.composite
def rasters(draw: st.DrawFn, most: int = 22) -> Bytes:
    rows, cols = draw(st.integers(1, most)), draw(st.integers(1, most))
    kind = draw(st.sampled_from(["noise", "blocks", "checkerboard", "spiral", "rings", "diagonals"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "noise":
        classes = rng.integers(0, draw(st.integers(1, 3)), (rows, cols)).astype(np.uint8)
    elif kind == "blocks":
        classes = np.kron(rng.integers(0, 3, (rows, cols)), np.ones((2, 3))).astype(np.uint8)[: most + 4, : most + 4]
    elif kind == "checkerboard":
        classes = checkerboard(rows, cols)
    elif kind == "spiral":
        classes = spiral(max(rows, 3))
    elif kind == "rings":
        classes = rings(rows, cols)
    else:
        classes = diagonals(rows, cols, draw(st.integers(-3, 3)), draw(st.integers(1, 4)))
    holes = draw(st.sampled_from(["none", "some", "half", "frame", "all"]))
    if holes in ("some", "half"):
        classes[rng.random(classes.shape) < (0.1 if holes == "some" else 0.5)] = NODATA
    elif holes == "frame":
        classes[[0, -1]] = NODATA
        classes[:, [0, -1]] = NODATA
    elif holes == "all" and rows == 1:
        classes[:] = NODATA
    return classes


cutting = st.lists(st.integers(0, 30), max_size=4).map(sorted)
bands = st.sampled_from([1, 2, 3, 5, 8, 64])
tolerances = st.sampled_from([0.5, 0.8, 1.0, 1.25, 2.0, 5.0])


def burnt(polygons: PolygonBatch, shape: tuple[int, int]) -> Bytes:
    pairs = list(zip(polygons.geometries, polygons.class_id.tolist(), strict=True))
    if not pairs:
        return np.full(shape, NODATA, np.uint8)
    transform = georef(shape).transform
    return np.asarray(
        rasterio.features.rasterize(pairs, out_shape=shape, fill=NODATA, transform=transform, dtype="uint8")
    )


def assert_coverage(polygons: PolygonBatch, classes: Bytes) -> None:
    shapes = polygons.geometries
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert shapely.area(shapes).sum() == pytest.approx((classes != NODATA).sum(), abs=1e-6)


@laws
@given(rasters(), bands)
def test_exact_polygons_burn_back_to_the_raster(classes: Bytes, band_rows: int) -> None:
    polygons = run(classes, band_rows=band_rows)
    np.testing.assert_array_equal(burnt(polygons, classes.shape), classes)
    if len(polygons):
        assert_coverage(polygons, classes)


@laws
@given(rasters(), bands)
def test_exact_polygons_are_those_of_rasterio_on_the_whole_raster(classes: Bytes, band_rows: int) -> None:
    polygons = run(classes, band_rows=band_rows)
    transform = georef(classes.shape).transform
    theirs: dict[Any, list[Any]] = {}
    found = rasterio.features.shapes(classes, mask=classes != NODATA, connectivity=4, transform=transform)
    for shape, value in found:
        polygon = shapely.geometry.shape(shape)
        theirs.setdefault((int(value), polygon.bounds, polygon.area), []).append(polygon)
    assert len(polygons) == sum(len(same) for same in theirs.values())
    for polygon, value in zip(polygons.geometries, polygons.class_id, strict=True):
        same = theirs[int(value), polygon.bounds, polygon.area]
        assert any(shapely.equals(polygon, other) for other in same)


@laws
@given(rasters(), bands)
def test_exact_polygons_have_vertices_only_at_turns_and_where_regions_meet(classes: Bytes, band_rows: int) -> None:
    shapes = run(classes, band_rows=band_rows).geometries
    whole = run(classes).geometries
    assert shapely.get_num_coordinates(shapes).sum() == shapely.get_num_coordinates(whole).sum()


@laws
@given(rasters(), cutting, bands, st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 4.0]))
def test_strips_and_memory_change_no_byte(
    classes: Bytes, cuts: list[int], band_rows: int, simplify: float, min_area: float
) -> None:
    options: dict[str, Any] = {"simplify_px": simplify, "min_area_m2": min_area, "band_rows": band_rows}
    one = run(classes, **options)
    other = run(classes, cuts=cuts, budget=0, **options)
    assert shapely.to_wkb(one.geometries).tolist() == shapely.to_wkb(other.geometries).tolist()
    for name in ("fid", "class_id", "class_name", "area_m2", "perimeter_m", "confidence", "pixel_count"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()


@settings(max_examples=150, deadline=None)
@given(rasters(most=40), bands, tolerances)
def test_simplified_polygons_are_a_coverage_of_the_same_area(classes: Bytes, band_rows: int, tolerance: float) -> None:
    exact, simple = run(classes), run(classes, band_rows=band_rows, simplify_px=tolerance)
    if not len(exact):
        assert not len(simple)
        return
    assert_coverage(simple, classes)
    assert shapely.equals(shapely.coverage_union_all(simple.geometries), shapely.union_all(exact.geometries))
    assert sorted(simple.fid) == sorted(exact.fid)
    before = dict(zip(exact.fid.tolist(), zip(exact.geometries, exact.class_id, strict=True), strict=True))
    for polygon, fid, value in zip(simple.geometries, simple.fid.tolist(), simple.class_id, strict=True):
        whole, same = before[fid]
        assert value == same
        corners = shapely.points(shapely.get_coordinates(whole))
        assert shapely.distance(corners, shapely.boundary(polygon)).max() <= tolerance + 1e-9


@laws
@given(st.integers(2, 5), st.floats(0.6, 3.0), tolerances, st.integers(0, 2**32 - 1), bands)
def test_smooth_maps_simplify_to_a_coverage_with_far_fewer_vertices(
    kinds: int, smoothness: float, tolerance: float, seed: int, band_rows: int
) -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal((60, 50)), smoothness) for _ in range(kinds)]
    classes = np.argmax(fields, axis=0).astype(np.uint8)
    simple = run(classes, simplify_px=tolerance, band_rows=max(band_rows, 8))
    assert_coverage(simple, classes)
    if tolerance >= 1.0 and smoothness > 1.5:
        exact = run(classes)
        assert (
            shapely.get_num_coordinates(simple.geometries).sum()
            < 0.7 * shapely.get_num_coordinates(exact.geometries).sum()
        )


def test_arcs_beside_nodata_and_border_stay_exact() -> None:
    classes = np.zeros((30, 30), np.uint8)
    rows, cols = np.mgrid[:30, :30]
    classes[rows + cols > 40] = NODATA
    classes[rows - cols > 12] = 1
    exact, simple = run(classes), run(classes, simplify_px=3.0)
    assert shapely.equals(shapely.union_all(exact.geometries), shapely.coverage_union_all(simple.geometries))
    staircase = shapely.get_num_coordinates(exact.geometries) - shapely.get_num_coordinates(simple.geometries)
    assert (staircase > 10).all()


@laws
@given(rasters(), bands, st.integers(0, 2**32 - 1))
def test_attributes_are_those_of_the_pixels(classes: Bytes, band_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 101, classes.shape).astype(np.uint8)
    confidence[rng.random(classes.shape) < 0.2] = NODATA
    polygons = run(classes, confidence=confidence, band_rows=band_rows)
    grid = georef(classes.shape)
    metric = PixelMetric.of(grid)
    areas = np.stack([metric.row_areas(r, classes.shape[1]) for r in range(classes.shape[0])])
    for i, polygon in enumerate(polygons.geometries):
        inside = rasterio.features.rasterize([polygon], out_shape=classes.shape, transform=grid.transform) == 1
        assert polygons.pixel_count[i] == inside.sum()
        assert polygons.class_name[i] == LEGEND.name_of(int(polygons.class_id[i]))
        assert polygons.area_m2[i] == pytest.approx(areas[inside].sum(), rel=1e-6)
        known = confidence[inside & (confidence != NODATA)]
        assert polygons.confidence[i] == pytest.approx(known.mean() / 100 if len(known) else np.nan, nan_ok=True)
        row, col = np.argwhere(inside)[0]
        assert polygons.fid[i] == hilbert_index(np.array([row]), np.array([col]), classes.shape)[0]
    assert len(set(polygons.fid.tolist())) == len(polygons)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32613", Affine(3.0, 0.0, 490_000.0, 0.0, -3.0, 4_440_000.0)),
        ("EPSG:4326", Affine(0.01, 0.0, 10.0, 0.0, -0.005, 61.0)),
        ("EPSG:3857", Affine(10.0, 0.0, 1_000_000.0, 0.0, -10.0, 8_000_000.0)),
        ("EPSG:3413", Affine(50.0, 30.0, 100_000.0, 30.0, -50.0, -1_500_000.0)),
    ],
)
def test_areas_and_lengths_are_those_on_the_ellipsoid(crs: str, transform: Affine) -> None:
    shape = (120, 90)
    grid = Georef(CRS.from_string(crs), transform, shape)
    classes = np.full(shape, 1, np.uint8)
    classes[30:90, 20:70] = 2
    (batch,) = polygonise([(classes, classes)], grid, LEGEND)
    edge_r, edge_c = np.linspace(30, 90, 301), np.linspace(20, 70, 301)
    cols = np.concatenate([edge_c, np.full(301, 70), edge_c[::-1], np.full(301, 20)])
    rows = np.concatenate([np.full(301, 30), edge_r, np.full(301, 90), edge_r[::-1]])
    area, perimeter = grid.geod.polygon_area_perimeter(*grid.lonlat(cols, rows))
    inner = int(np.flatnonzero(batch.class_id == 2)[0])
    assert batch.area_m2[inner] == pytest.approx(abs(area), rel=2e-6)
    assert batch.perimeter_m[inner] == pytest.approx(perimeter, rel=2e-6)
    assert batch.perimeter_m[1 - inner] > perimeter


@pytest.mark.parametrize("side", [1, 2, 8, 32])
def test_hilbert_index_visits_every_pixel_one_step_at_a_time(side: int) -> None:
    rows, cols = (v.ravel() for v in np.indices((side, side)))
    index = hilbert_index(rows, cols, (side, side))
    order = np.argsort(index)
    assert len(set(index.tolist())) == side * side
    steps = np.abs(np.diff(rows[order])) + np.abs(np.diff(cols[order]))
    assert (steps == 1).all()


def test_a_raster_without_classes_has_no_polygons() -> None:
    nothing = np.full((5, 4), NODATA, np.uint8)
    assert len(run(nothing)) == 0
    assert len(run(nothing, simplify_px=1.0, min_area_m2=9.0)) == 0


def test_touching_holes_and_a_ring_that_touches_itself_are_valid() -> None:
    classes = np.zeros((5, 5), np.uint8)
    classes[1, 1] = classes[2, 2] = 1  # two holes that meet in a corner
    classes[3, 3] = classes[4, 4] = 2  # a chain of corners from a hole to the border
    for tolerance in (0.0, 1.0, 3.0):
        polygons = run(classes, simplify_px=tolerance)
        assert_coverage(polygons, classes)
        assert len(polygons) == 5


@pytest.mark.parametrize("heights", [(3, 3), (3, 1), ()])
def test_strips_that_do_not_make_up_the_raster_are_refused(heights: tuple[int, ...]) -> None:
    strips = [(np.zeros((h, 4), np.uint8), np.zeros((h, 4), np.uint8)) for h in heights]
    with pytest.raises(VectorError, match="rows"):
        list(polygonise(strips, georef((5, 4)), LEGEND))


def test_strips_of_another_width_are_refused() -> None:
    strip = np.zeros((5, 3), np.uint8)
    with pytest.raises(VectorError, match="4 wide"):
        list(polygonise([(strip, strip)], georef((5, 4)), LEGEND))


@pytest.mark.parametrize("options", [{"min_area_m2": -1.0}, {"simplify_px": -0.1}, {"simplify_px": float("nan")}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(VectorError, match="must not be negative"):
        polygonise([], georef((5, 4)), LEGEND, **options)  # type: ignore[arg-type]


def test_default_generalisation_is_sixteen_pixels() -> None:
    area, tolerance = default_generalisation(georef((100, 100), size=0.5))
    assert area == pytest.approx(4.0, rel=1e-3)
    assert 0 < tolerance < 2
