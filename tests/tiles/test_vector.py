"""Polygon files: every format holds the same polygons, and each is what its standard says."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import geoparquet_validator  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import pyogrio
import pytest
import rasterio.features
import shapely
from affine import Affine
from rasterio.crs import CRS

from tiles.errors import VectorError
from tiles.georef import Georef
from tiles.legend import NODATA, LandClass, Legend
from tiles.polygons.polygonise import PolygonBatch, polygonise
from tiles.vectors.formats import FORMATS
from tiles.vectors.wgs84 import ToWgs84
from tiles.vectors.write import LAYER, write_vector_files, write_vectors

LEGEND = Legend((LandClass(0, "bare ground", (200, 170, 120)), LandClass(1, "tree", (0, 99, 0))))
ATTRIBUTES = ["class_id", "class_name", "area_m2", "perimeter_m", "confidence", "pixel_count"]


def scene(shape: tuple[int, int] = (40, 50)) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    classes = np.kron(rng.integers(0, 2, (shape[0] // 5, shape[1] // 5)), np.ones((5, 5))).astype(np.uint8)
    classes[:7, :9] = NODATA
    return classes


def grid(shape: tuple[int, int] = (40, 50), crs: str = "EPSG:32613", transform: Affine | None = None) -> Georef:
    return Georef(CRS.from_string(crs), transform or Affine(0.6, 0, 500_000.0, 0, -0.6, 4_400_000.0), shape)


def batches(georef: Georef, classes: npt.NDArray[np.uint8], **options: Any) -> list[PolygonBatch]:
    return list(polygonise([(classes, np.full_like(classes, 80))], georef, LEGEND, **options))


def read(path: Path) -> geopandas.GeoDataFrame:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path).set_index("fid").sort_index()
    if path.suffix == ".gpkg":
        return pyogrio.read_dataframe(path, layer=LAYER, fid_as_index=True).sort_index()
    if path.suffix == ".fgb":
        return pyogrio.read_dataframe(path).set_index("fid").sort_index()
    return pyogrio.read_dataframe(path, fid_as_index=True).sort_index()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("vectors")
    return write_vectors(iter(batches(grid(), scene(), band_rows=8)), folder, FORMATS, grid(), LEGEND)


def test_every_format_holds_the_same_polygons(written: dict[str, Path]) -> None:
    ours = PolygonBatch(
        *(np.concatenate(column) for column in zip(*(vars(b).values() for b in batches(grid(), scene())), strict=True))
    )
    order = np.argsort(ours.fid)
    assert list(written) == list(FORMATS)
    for name, path in written.items():
        frame = read(path)
        assert frame.index.tolist() == ours.fid[order].tolist(), name
        assert list(frame.columns) == [*ATTRIBUTES, "geometry"]
        assert frame["class_name"].tolist() == ours.class_name[order].tolist()
        np.testing.assert_allclose(frame["area_m2"], ours.area_m2[order], atol=1e-3)
        np.testing.assert_allclose(frame["perimeter_m"], ours.perimeter_m[order], atol=1e-3)
        np.testing.assert_allclose(frame["confidence"], 0.8)
        assert frame["pixel_count"].tolist() == ours.pixel_count[order].tolist()
        lonlat = name.startswith("geojson")
        assert frame.crs == ("EPSG:4326" if lonlat else "EPSG:32613")
        if not lonlat:
            assert shapely.equals(frame.geometry.to_numpy(), ours.geometries[order]).all()


def test_nothing_is_left_beside_the_files(written: dict[str, Path]) -> None:
    folder = written["gpkg"].parent
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in written.values())


def test_two_runs_write_the_same_bytes(written: dict[str, Path], tmp_path: Path) -> None:
    again = write_vectors(batches(grid(), scene(), band_rows=8), tmp_path, FORMATS, grid(), LEGEND)
    for name, path in again.items():
        assert path.read_bytes() == written[name].read_bytes(), name


def test_geojson_is_rfc_7946(written: dict[str, Path]) -> None:
    text = written["geojson"].read_text()
    collection = json.loads(text)
    assert collection["type"] == "FeatureCollection"
    assert "crs" not in collection
    west, south, east, north = ToWgs84(grid()).bounds
    for feature in collection["features"]:
        assert isinstance(feature["id"], int)
        assert feature["geometry"]["type"] == "Polygon"
        outer, *holes = feature["geometry"]["coordinates"]
        assert shapely.LinearRing(outer).is_ccw
        assert not any(shapely.LinearRing(hole).is_ccw for hole in holes)
        for ring in (outer, *holes):
            assert ring[0] == ring[-1]
            for lon, lat in ring:
                assert west <= lon <= east
                assert south <= lat <= north
                assert len(repr(lon).partition(".")[2]) <= 7
                assert len(repr(lat).partition(".")[2]) <= 7
    lines = written["geojsonl"].read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f["id"] for f in collection["features"]]


def test_geojson_polygons_still_fit_each_other(written: dict[str, Path]) -> None:
    shapes = read(written["geojson"]).geometry.to_numpy()
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)


def test_geopackage_is_whole_and_styled(written: dict[str, Path]) -> None:
    with closing(sqlite3.connect(written["gpkg"])) as db:

        def one(sql: str) -> Any:
            return db.execute(sql).fetchone()

        assert one("PRAGMA integrity_check") == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert one("PRAGMA application_id") == (0x47504B47,)
        assert one(f"SELECT data_type, srs_id FROM gpkg_contents WHERE table_name = '{LAYER}'") == ("features", 32613)
        assert one(f"SELECT COUNT(*) FROM rtree_{LAYER}_geom") == one(f"SELECT COUNT(*) FROM {LAYER}")
        style, default = one("SELECT styleQML, useAsDefault FROM layer_styles")
        box = one(f"SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = '{LAYER}'")
    assert default == 1
    assert 'attr="class_id"' in style
    assert "200,170,120,255" in style
    assert box == pytest.approx(grid().bounds())


def test_geoparquet_passes_its_validator_in_hilbert_order(written: dict[str, Path]) -> None:
    report = geoparquet_validator.check(str(written["parquet"]))
    assert geoparquet_validator.failed(report) == []
    fids = geopandas.read_parquet(written["parquet"])["fid"]
    assert fids.is_monotonic_increasing
    frame = geopandas.read_parquet(written["parquet"], bbox=(500_000.0, 4_399_990.0, 500_004.0, 4_399_995.0))
    assert 0 < len(frame) < len(fids)


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_map_gives_an_empty_valid_file(name: str, tmp_path: Path) -> None:
    path = write_vectors(iter(()), tmp_path, [name], grid(), LEGEND)[name]
    if name == "geojson":
        assert json.loads(path.read_text())["features"] == []
    elif name == "geojsonl":
        assert path.read_text() == ""
    elif name == "parquet":
        assert geoparquet_validator.failed(geoparquet_validator.check(str(path))) == []
    else:
        assert len(pyogrio.read_dataframe(path, layer=LAYER)) == 0


def test_unknown_confidence_is_null(tmp_path: Path) -> None:
    classes = scene()
    unknown = polygonise([(classes, np.full_like(classes, NODATA))], grid(), LEGEND)
    path = write_vectors(unknown, tmp_path, ["gpkg"], grid(), LEGEND)["gpkg"]
    assert read(path)["confidence"].isna().all()


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match=r"shp.*choose from gpkg"):
        write_vectors([], tmp_path, ["shp"], grid(), LEGEND)
    with pytest.raises(VectorError, match="ending must be one of"):
        write_vector_files([], [tmp_path / "out.shp"], grid(), LEGEND)
    with pytest.raises(VectorError, match="cannot write"):
        write_vector_files([], [tmp_path / "missing" / "out.gpkg"], grid(), LEGEND)


def test_a_failing_source_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Any:
        yield from batches(grid(), scene())
        raise RuntimeError("the disk caught fire")

    with pytest.raises(RuntimeError):
        write_vectors(broken(), tmp_path, FORMATS, grid(), LEGEND)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32613", Affine(30.0, 0, 200_000.0, 0, -30.0, 7_400_000.0)),
        ("EPSG:3413", Affine(500.0, 0, 200_000.0, 0, -500.0, -900_000.0)),
        ("EPSG:3857", Affine(100.0, 0, 1_000_000.0, 0, -100.0, 8_000_000.0)),
    ],
)
def test_long_edges_stay_on_the_grid_in_wgs84(crs: str, transform: Affine, tmp_path: Path) -> None:
    shape = (600, 800)
    classes = np.zeros(shape, np.uint8)
    classes[200:400, 100:700] = 1
    where = grid(shape, crs, transform)
    path = write_vectors(batches(where, classes), tmp_path, ["geojson"], where, LEGEND)["geojson"]
    shapes = read(path).geometry.to_numpy()
    assert shapely.coverage_is_valid(shapes)
    # Back on the grid, also between the vertices, every edge lies within a tenth of a pixel of a grid line.
    line = shapely.segmentize(shapely.boundary(shapes[read(path)["class_id"].to_numpy() == 1])[0], 1e-3)
    lon, lat = shapely.get_coordinates(line).T
    x, y = ToWgs84(where)._transformer.transform(lon, lat, direction="INVERSE")
    inverse = ~transform
    cols, rows = inverse.a * x + inverse.c, inverse.e * y + inverse.f
    off = np.minimum.reduce([abs(cols - 100), abs(cols - 700), abs(rows - 200), abs(rows - 400)])
    assert off.max() < 0.11


def test_polygons_across_the_antimeridian_are_cut(tmp_path: Path) -> None:
    shape = (20, 30)
    where = grid(shape, "EPSG:32660", Affine(1000.0, 0, 820_000.0, 0, -1000.0, 300_000.0))
    classes = np.zeros(shape, np.uint8)
    classes[5:9, 2:28] = 1
    transformer = ToWgs84(where)
    assert transformer.crosses_antimeridian
    polygons = batches(where, classes)
    path = write_vectors(polygons, tmp_path, ["geojson"], where, LEGEND)["geojson"]
    for feature in json.loads(path.read_text())["features"]:
        shape_ = shapely.geometry.shape(feature["geometry"])
        assert shape_.geom_type == "MultiPolygon"
        for part in shape_.geoms:
            west, _, east, _ = part.bounds
            assert -180 <= west < east <= 180
            assert east - west < 1
    # Nothing is lost by the cut but the curvature of the pieces.
    area = sum(abs(where.geod.geometry_area_perimeter(g)[0]) for g in read(path).geometry)
    assert area == pytest.approx(sum(b.area_m2.sum() for b in polygons), rel=1e-4)


def test_a_raster_that_holds_a_pole_is_refused_as_geojson_only(tmp_path: Path) -> None:
    shape = (20, 20)
    where = grid(shape, "EPSG:3413", Affine(1000.0, 0, -10_000.0, 0, -1000.0, 10_000.0))
    polygons = batches(where, np.zeros(shape, np.uint8))
    with pytest.raises(VectorError, match=r"pole.*choose gpkg"):
        write_vectors(polygons, tmp_path, ["geojson"], where, LEGEND)
    assert write_vectors(polygons, tmp_path, ["fgb"], where, LEGEND)["fgb"].exists()


def test_a_rotated_grid_comes_back_exactly(tmp_path: Path) -> None:
    where = grid(transform=Affine(0.5, 0.3, 500_000.0, 0.3, -0.5, 4_400_000.0))
    path = write_vectors(batches(where, scene()), tmp_path, ["fgb"], where, LEGEND)["fgb"]
    frame = read(path)
    pairs = zip(frame.geometry, frame["class_id"].tolist(), strict=True)
    burnt = rasterio.features.rasterize(pairs, out_shape=(40, 50), fill=NODATA, transform=where.transform)
    np.testing.assert_array_equal(burnt, scene())


_KILLED = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute(f"PRAGMA journal_mode={sys.argv[2]}")
db.execute("PRAGMA cache_size=1")
db.execute("PRAGMA cache_spill=1")
db.execute("CREATE TABLE more (text TEXT)")
db.execute("BEGIN")
db.executemany("INSERT INTO more VALUES (?)", [("x" * 3000,) for _ in range(300)])
if sys.argv[2] == "wal":
    db.execute("COMMIT")
os._exit(0)
"""


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("keep", [True, False], ids=["the old file", "no file"])
def test_journals_of_an_old_geopackage_do_not_get_into_the_new_one(tmp_path: Path, journal: str, keep: bool) -> None:
    """A writer that was killed leaves journals; whoever reads next plays them into the file of that name."""
    target = tmp_path / "w.gpkg"
    write_vector_files(batches(grid((400, 500)), scene((400, 500))), [target], grid((400, 500)), LEGEND)
    subprocess.run([sys.executable, "-c", _KILLED, str(target), journal], check=True)
    assert any(tmp_path.glob("w.gpkg-*"))
    if not keep:
        target.unlink()
    write_vector_files(batches(grid(), scene()), [target], grid(), LEGEND)
    assert list(tmp_path.iterdir()) == [target]
    with closing(sqlite3.connect(target)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(read(target)) == sum(map(len, batches(grid(), scene())))


def test_a_geopackage_that_another_program_has_open_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "w.gpkg"
    write_vector_files(batches(grid(), scene()), [target], grid(), LEGEND)
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=wal")
        db.execute("CREATE TABLE mine (text TEXT)")
        before = sorted(tmp_path.iterdir())
        with pytest.raises(VectorError, match="open in another program: close it"):
            write_vector_files(batches(grid(), scene()), [target], grid(), LEGEND)
        assert sorted(tmp_path.iterdir()) == before
        assert db.execute("SELECT count(*) FROM mine").fetchone() == (0,)
    write_vector_files(batches(grid(), scene()), [target], grid(), LEGEND)


def test_journals_beside_a_file_that_is_no_database_are_removed_with_it(tmp_path: Path) -> None:
    (tmp_path / "w.gpkg").write_text("mine")
    (tmp_path / "w.gpkg-wal").write_text("old")
    write_vector_files(batches(grid(), scene()), [tmp_path / "w.gpkg"], grid(), LEGEND)
    assert [p.name for p in tmp_path.iterdir()] == ["w.gpkg"]
