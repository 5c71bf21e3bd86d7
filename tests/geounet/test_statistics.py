"""Areas by zone, samples and change, on small rasters whose truth is known by counting."""

import json
import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.crs import CRS
from typer.testing import CliRunner

from geounet.cli.app import app
from geounet.errors import StatisticsError
from geounet.statistics.change import ChangeRules, code_table, compare_pixels
from geounet.statistics.change_files import write_change
from geounet.statistics.maps import open_map
from geounet.statistics.report import map_statistics
from geounet.statistics.sample import draw_sample, shared_out
from tiles.errors import OutputError
from tiles.legend import LandClass, Legend

Bytes = npt.NDArray[np.uint8]

LEGEND = Legend(
    (
        LandClass(0, "building", (200, 50, 50)),
        LandClass(1, "tree", (30, 110, 50)),
        LandClass(2, "water", (70, 130, 190)),
    )
)
LEFT, TOP = 400_000.0, 4_500_000.0


def write_map(folder: Path, classes: Bytes, gsd: float = 2.0, confidence: Bytes | None = None) -> Path:
    folder.mkdir()
    profile: dict[str, Any] = {
        "driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 255, "crs": CRS.from_epsg(32616),
        "transform": Affine(gsd, 0, LEFT, 0, -gsd, TOP), "height": classes.shape[0], "width": classes.shape[1],
    }  # fmt: skip
    with rasterio.open(folder / "classes.tif", "w", **profile) as file:
        file.write(classes, 1)
        file.update_tags(LEGEND=LEGEND.to_json())
    if confidence is not None:
        with rasterio.open(folder / "confidence.tif", "w", **profile) as file:
            file.write(confidence, 1)
    return folder


def checkered(rows: int = 40, columns: int = 60) -> Bytes:
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 3, (rows // 10, columns // 10)), np.ones((10, 10))).astype(np.uint8)


def box(x0: float, y0: float, x1: float, y1: float) -> shapely.Polygon:
    """In metres from the map's upper-left corner, y down."""
    return shapely.box(LEFT + x0, TOP - y1, LEFT + x1, TOP - y0)


def test_zones_count_border_pixels_by_their_share_and_confidence_by_area(tmp_path: Path) -> None:
    classes = np.zeros((20, 20), np.uint8)
    classes[:, 10:] = 1
    classes[15:, :] = 255
    sure = np.where(classes == 0, 50, 90).astype(np.uint8)
    folder = write_map(tmp_path / "map", classes, confidence=sure)
    zones = geopandas.GeoDataFrame({"plot": ["a", "b"]}, geometry=[box(1, 1, 27, 9), box(-10, 20, 10, 40)], crs=32616)
    zones.to_file(tmp_path / "zones.gpkg")
    found = map_statistics(folder, tmp_path / "zones.gpkg", "plot")
    rows = {(row["zone"], row["class_name"]): row for row in found.rows}
    scale = rows["a", "building"]["area_m2"] / (19 * 8)  # metres of the grid are not quite metres on the ellipsoid
    assert scale == pytest.approx(1, abs=2e-3)
    assert rows["a", "tree"]["area_m2"] / scale == pytest.approx(7 * 8, rel=1e-5)
    assert rows["a", "building"]["share"] == pytest.approx(19 / 26, abs=1e-5)
    assert (rows["a", "building"]["confidence"], rows["a", "tree"]["confidence"]) == (0.5, 0.9)
    assert rows["b", "building"]["area_m2"] / scale == pytest.approx(100, rel=1e-5)
    assert rows["b", "building"]["zone_nodata_m2"] / scale == pytest.approx(100, rel=1e-5)
    assert rows["b", "building"]["zone_outside_m2"] / scale == pytest.approx(200, rel=1e-4)
    assert dict(found.notes) == {"b": "75.0% of it is not mapped"}


def test_a_zone_in_degrees_gives_the_areas_of_the_same_zone_in_metres(tmp_path: Path) -> None:
    folder = write_map(tmp_path / "map", checkered())
    shape = shapely.Polygon([(LEFT + 7, TOP - 3), (LEFT + 103, TOP - 21), (LEFT + 61, TOP - 76)])
    dense = shapely.segmentize(shape, 1.0)
    to_degrees = Transformer.from_crs(32616, 4326, always_xy=True)
    geopandas.GeoDataFrame(geometry=[shape], crs=32616).to_file(tmp_path / "metres.gpkg")
    degrees = shapely.transform(dense, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1])))
    geopandas.GeoDataFrame(geometry=[degrees], crs=4326).to_file(tmp_path / "degrees.geojson")
    one, other = (map_statistics(folder, tmp_path / name).rows for name in ("metres.gpkg", "degrees.geojson"))
    assert [r["area_m2"] for r in one] == pytest.approx([r["area_m2"] for r in other], rel=1e-4)


def test_zones_that_make_up_the_map_add_up_to_it(tmp_path: Path) -> None:
    folder = write_map(tmp_path / "map", checkered())
    cut = [box(0, 0, 33.3, 80), box(33.3, 0, 120, 41.7), box(33.3, 41.7, 120, 80)]
    geopandas.GeoDataFrame(geometry=cut, crs=32616).to_file(tmp_path / "zones.gpkg")
    parts, whole = map_statistics(folder, tmp_path / "zones.gpkg").rows, map_statistics(folder).rows
    for row in whole:
        total = sum(r["area_m2"] for r in parts if r["class_id"] == row["class_id"])
        assert total == pytest.approx(row["area_m2"], rel=1e-5)


@pytest.mark.parametrize(
    ("geometry", "crs", "told"),
    [
        ([box(5000, 0, 5100, 50)], 32616, "none of its 1 zones lies on the map"),
        ([shapely.Point(LEFT, TOP)], 32616, "zone '1' is a Point: zones are polygons"),
        ([box(0, 0, 10, 10)], None, "has no CRS"),
    ],
)
def test_zones_that_cannot_be_used_are_refused(tmp_path: Path, geometry: Any, crs: int | None, told: str) -> None:
    folder = write_map(tmp_path / "map", checkered())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file without a CRS is what is wanted here
        geopandas.GeoDataFrame(geometry=geometry, crs=crs).to_file(tmp_path / "zones.gpkg")
    with pytest.raises(StatisticsError, match=told):
        map_statistics(folder, tmp_path / "zones.gpkg")


def test_a_field_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    folder = write_map(tmp_path / "map", checkered())
    geopandas.GeoDataFrame({"plot": ["a"]}, geometry=[box(0, 0, 9, 9)], crs=32616).to_file(tmp_path / "z.gpkg")
    with pytest.raises(StatisticsError, match="no field 'name': its fields are plot"):
        map_statistics(folder, tmp_path / "z.gpkg", "name")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=8), st.data())
def test_points_are_shared_out_to_the_last_and_no_stratum_gets_more_than_it_has(sizes: list[int], data: Any) -> None:
    number = data.draw(st.integers(len(sizes), sum(sizes)))
    points = shared_out(number, np.array(sizes))
    assert points.sum() == number
    assert (points <= np.array(sizes)).all()
    assert (points >= np.minimum(np.array(sizes), min(10, number // len(sizes)))).all()


def test_a_sample_is_on_its_classes_without_repetition_and_the_same_again(tmp_path: Path) -> None:
    classes = checkered()
    classes[:3] = 255
    with open_map(write_map(tmp_path / "map", classes)) as raster:
        points, again = draw_sample(raster, 90, seed=3), draw_sample(raster, 90, seed=3)
        other = draw_sample(raster, 90, seed=4)
    assert (classes[points.row, points.column] == points.value).all()
    assert len(set(zip(points.row.tolist(), points.column.tolist(), strict=True))) == 90
    assert (points.row == again.row).all()
    assert not np.array_equal(points.row, other.row)
    assert np.bincount(points.value, minlength=3).min() >= 10


def test_a_checked_sample_gives_areas_with_intervals(tmp_path: Path) -> None:
    """The truth is the map but for a strip of trees that it calls water: the estimate finds them."""
    classes = checkered(100, 100)
    truth = classes.copy()
    truth[:, :20] = np.where(truth[:, :20] == 2, 1, truth[:, :20])
    folder = write_map(tmp_path / "map", classes)
    runner = CliRunner()
    points = tmp_path / "points.gpkg"
    done = runner.invoke(app, ["sample", str(folder), "-n", "1500", "-o", str(points)])
    assert done.exit_code == 0, done.output
    frame = geopandas.read_file(points)
    row, column = ((TOP - frame.geometry.y) // 2).astype(int), ((frame.geometry.x - LEFT) // 2).astype(int)
    frame["reference"] = [LEGEND.name_of(int(v)) for v in truth[row, column]]
    frame.to_file(points)
    found = map_statistics(folder, None, None, points)
    assert found.accuracy is not None
    pixel = sum(r["area_m2"] for r in found.rows) / truth.size
    for index, row_ in enumerate(found.rows):
        assert abs(row_["estimated_m2"] - (truth == index).sum() * pixel) <= 1.5 * row_["half_width_m2"] + 0.01
    assert found.accuracy.overall.value == pytest.approx((truth == classes).mean(), abs=0.02)
    told = runner.invoke(app, ["stats", str(folder), "--reference", str(points), "--json"])
    assert json.loads(told.output)["accuracy"]["points"] == 1500


def test_points_nobody_has_checked_or_named_wrongly_are_refused(tmp_path: Path) -> None:
    folder = write_map(tmp_path / "map", checkered())
    points = tmp_path / "points.gpkg"
    CliRunner().invoke(app, ["sample", str(folder), "-n", "30", "-o", str(points)])
    with pytest.raises(StatisticsError, match="no point has its 'reference' filled in"):
        map_statistics(folder, reference=points)
    frame = geopandas.read_file(points)
    frame["reference"] = "Tree"
    frame.to_file(points)
    with pytest.raises(StatisticsError, match="'Tree' is no class of the map: write one of building, tree, water"):
        map_statistics(folder, reference=points)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".gpkg"])
def test_tables_hold_the_rows(tmp_path: Path, ending: str) -> None:
    folder = write_map(tmp_path / "map", checkered())
    zones = geopandas.GeoDataFrame({"plot": ["a", "b"]}, geometry=[box(0, 0, 40, 40), box(40, 0, 80, 40)], crs=32616)
    zones.to_file(tmp_path / "zones.gpkg")
    out = tmp_path / f"table{ending}"
    arguments = ["stats", str(folder), "--zones", str(tmp_path / "zones.gpkg"), "--field", "plot", "-o", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    if ending == ".gpkg":
        table = geopandas.read_file(out)
        assert list(table["zone"]) == ["a", "b"]
        assert table[["building_m2", "tree_m2", "water_m2"]].sum().sum() == pytest.approx(2 * 1600, rel=5e-3)
    else:
        import pandas

        table = pandas.read_csv(out) if ending == ".csv" else pandas.read_parquet(out)
        assert len(table) == 6
        assert table["area_m2"].sum() == pytest.approx(2 * 1600, rel=5e-3)


# -- change ----------------------------------------------------------------------------------------------------------


def squares(shift: int = 0, more: bool = False) -> Bytes:
    """Ground of trees with two houses, moved by `shift` pixels; with `more`, a third one."""
    classes = np.ones((80, 100), np.uint8)
    for row, column in ((10, 10), (40, 60), *(((50, 10),) if more else ())):
        classes[row + shift : row + shift + 15, column + shift : column + shift + 15] = 0
    return classes


def test_a_map_compared_with_itself_has_no_change(tmp_path: Path) -> None:
    folder = write_map(tmp_path / "map", squares())
    done = write_change(folder, folder, tmp_path / "change", ChangeRules(tolerance=0))
    assert done["changed_ha"] == done["changed_as_mapped_ha"] == 0
    assert geopandas.read_file(tmp_path / "change" / "polygons.gpkg", layer="landcover").empty


def test_a_new_house_is_found_and_a_shift_of_all_is_none(tmp_path: Path) -> None:
    before, after = write_map(tmp_path / "before", squares()), write_map(tmp_path / "after", squares(2, more=True))
    done = write_change(before, after, tmp_path / "change", ChangeRules(tolerance=2), formats=("gpkg", "geojson"))
    house = 15 * 15 * 4 / 1e4
    assert done["changed_ha"] == pytest.approx(house, rel=5e-3)
    assert done["changed_as_mapped_ha"] > 1.3 * house
    names = done["classes_before"]
    assert done["matrix_ha"][names.index("tree")][names.index("building")] == pytest.approx(house, rel=5e-3)
    (polygon,) = geopandas.read_file(tmp_path / "change" / "polygons.gpkg", layer="landcover").itertuples()
    assert polygon.class_name == "tree -> building"
    assert polygon.area_m2 == pytest.approx(900, rel=5e-3)
    with open_map(tmp_path / "change" / "change.tif") as raster:
        assert raster.legend.names[0] == "unchanged"
        assert "tree -> building" in raster.legend.names


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_each_pixel_is_judged_as_the_rule_says(seed: int, by: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = (rng.choice(np.array([0, 1, 2, 255], np.uint8), (9, 12), p=[0.3, 0.3, 0.3, 0.1]) for _ in range(2))
    found = np.empty_like(old)
    compare_pixels(old, new, code_table(3, 3, np.arange(3)), by, found)
    for (y, x), was in np.ndenumerate(old):
        now = new[y, x]
        near = (slice(max(y - by, 0), y + by + 1), slice(max(x - by, 0), x + by + 1))
        forgiven = by > 0 and (old[near] == now).any() and (new[near] == was).any()
        if 255 in (was, now):
            assert found[y, x] == 255
        else:
            assert (found[y, x] != 0) == (was != now and not forgiven)


def test_the_finer_map_is_brought_to_the_coarser_one(tmp_path: Path) -> None:
    coarse = squares()
    fine = np.kron(squares(more=True), np.ones((4, 4))).astype(np.uint8)
    before, after = write_map(tmp_path / "before", coarse, 2.0), write_map(tmp_path / "after", fine, 0.5)
    done = write_change(before, after, tmp_path / "change", ChangeRules(tolerance=0))
    assert done["grid"] == {"gsd_m": pytest.approx(2.0, rel=1e-2), "resampled": str(after)}
    assert done["changed_ha"] == pytest.approx(15 * 15 * 4 / 1e4, rel=5e-3)


def test_unsure_changes_are_left_out(tmp_path: Path) -> None:
    sure = np.full((80, 100), 90, np.uint8)
    unsure = sure.copy()
    unsure[50:65, 10:25] = 40
    before = write_map(tmp_path / "before", squares(), confidence=sure)
    after = write_map(tmp_path / "after", squares(more=True), confidence=unsure)
    kept = write_change(before, after, tmp_path / "all", ChangeRules(0, 0.3))
    left_out = write_change(before, after, tmp_path / "sure", ChangeRules(0, 0.5))
    assert kept["changed_ha"] > 0
    assert left_out["changed_ha"] == 0
    assert left_out["changed_as_mapped_ha"] == kept["changed_as_mapped_ha"]


def test_maps_that_do_not_touch_and_folders_of_others_are_refused(tmp_path: Path) -> None:
    one = write_map(tmp_path / "one", squares())
    far = write_map(tmp_path / "far", squares(), gsd=2.0)
    with rasterio.open(far / "classes.tif", "r+") as file:
        file.transform = Affine(2, 0, LEFT + 90_000, 0, -2, TOP)
    with pytest.raises(StatisticsError, match="do not touch"):
        write_change(one, far, tmp_path / "change", ChangeRules())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds no change of ours"):
        write_change(one, one, tmp_path / "mine", ChangeRules(), overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["far", "mine", "one"]
