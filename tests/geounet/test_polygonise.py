"""`geounet polygonise`: any categorical raster, one clear line for whatever is not one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import typer
from affine import Affine

from geounet.cli.app import run
from geounet.cli.polygonise import register
from tiles.legend import LandClass, Legend
from tiles.rasters.write import LEGEND_TAG

CLASSES = np.kron(np.array([[1, 1, 2], [1, 4, 2]]), np.ones((10, 10))).astype(np.uint8)


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    application.callback()(lambda: None)
    register(application)
    return application


@pytest.fixture
def command(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["geounet", "polygonise", *map(str, arguments)])
        return run(app)

    return call


def raster(path: Path, values: Any = CLASSES, tag: str | None = None, **profile: Any) -> Path:
    values = np.atleast_3d(values.T).T if values.ndim == 2 else values
    settings = {"crs": "EPSG:32613", "transform": Affine(2.0, 0, 500_000.0, 0, -2.0, 4_400_000.0)} | profile
    count, rows, cols = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=rows, width=cols, dtype=values.dtype, **settings
    ) as file:
        file.write(values)
        if tag:
            file.update_tags(**{LEGEND_TAG: tag})
    return path


def names(path: Path) -> dict[int, str]:
    frame = pyogrio.read_dataframe(path, layer="landcover")
    return dict(zip(frame["class_id"].tolist(), frame["class_name"].tolist(), strict=True))


def test_a_raster_by_anyone(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = raster(tmp_path / "made.tif", nodata=4)
    assert command(source, "-o", tmp_path / "out.gpkg", "-o", tmp_path / "out.parquet", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["files"] == [str(tmp_path / "out.gpkg"), str(tmp_path / "out.parquet")]
    assert [(c["value"], c["polygons"]) for c in done["classes"]] == [(1, 1), (2, 1)]
    assert done["min_area_m2"] == pytest.approx(64.0, rel=2e-3)
    assert names(tmp_path / "out.gpkg") == {1: "class 1", 2: "class 2"}
    frame = geopandas.read_parquet(tmp_path / "out.parquet")
    assert frame["area_m2"].sum() == pytest.approx(500 * 4.0, rel=2e-3)
    assert frame["confidence"].isna().all()


def test_the_legend_of_a_map_is_kept(command: Callable[..., int], tmp_path: Path) -> None:
    legend = Legend((LandClass(1, "sand", (1, 2, 3)), LandClass(2, "sea", (4, 5, 6)), LandClass(4, "ice", (7, 8, 9))))
    source = raster(tmp_path / "made.tif", tag=legend.to_json())
    assert command(source, "-o", tmp_path / "out.gpkg") == 0
    assert names(tmp_path / "out.gpkg") == {1: "sand", 2: "sea", 4: "ice"}


@pytest.mark.parametrize(
    "body",
    [
        "<CategoryNames><Category/><Category>sand</Category><Category>sea</Category></CategoryNames>",
        "<GDALRasterAttributeTable>"
        '<FieldDefn index="0"><Name>Value</Name><Usage>5</Usage></FieldDefn>'
        '<FieldDefn index="1"><Name>Count</Name><Usage>1</Usage></FieldDefn>'
        '<FieldDefn index="2"><Name>Class</Name><Usage>2</Usage></FieldDefn>'
        '<Row index="0"><F>1</F><F>9</F><F>sand</F></Row><Row index="1"><F>2</F><F>9</F><F>sea</F></Row>'
        "</GDALRasterAttributeTable>",
    ],
)
def test_names_that_gdal_knows_are_used(body: str, command: Callable[..., int], tmp_path: Path) -> None:
    source = raster(tmp_path / "made.tif")
    sidecar = f'<PAMDataset><PAMRasterBand band="1">{body}</PAMRasterBand></PAMDataset>'
    Path(f"{source}.aux.xml").write_text(sidecar)
    assert command(source, "-o", tmp_path / "out.gpkg") == 0
    assert names(tmp_path / "out.gpkg") == {1: "sand", 2: "sea", 4: "class 4"}


def test_confidence_of_a_second_raster(command: Callable[..., int], tmp_path: Path) -> None:
    known = raster(tmp_path / "known.tif", np.where(CLASSES == 1, np.uint8(90), np.uint8(40)))
    source = raster(tmp_path / "made.tif")
    assert command(source, "-o", tmp_path / "out.fgb", "--confidence", known) == 0
    frame = pyogrio.read_dataframe(tmp_path / "out.fgb")
    assert dict(zip(frame["class_id"], frame["confidence"], strict=True)) == {1: 0.9, 2: 0.4, 4: 0.4}
    other = raster(tmp_path / "other.tif", transform=Affine(2.0, 0, 0.0, 0, -2.0, 0.0))
    assert command(source, "-o", tmp_path / "no.fgb", "--confidence", other) == 3


@pytest.mark.parametrize(
    ("make", "arguments", "code", "says"),
    [
        ({}, ["-o", "made.tif.shp"], 2, "ends in"),
        ({}, ["-o", "nowhere/out.gpkg"], 3, "no folder"),
        ({}, ["-o", "taken.gpkg"], 3, "--overwrite"),
        ({}, ["-o", "out.gpkg", "--min-area", "-1"], 2, "--min-area"),
        ({}, ["-o", "out.gpkg", "--simplify", "nan"], 2, "--simplify"),
        ({}, ["-o", "out.gpkg", "--band", "3"], 3, "no band 3"),
        ({}, ["-o", "out.gpkg", "--band", "0"], 3, "no band 0"),
        ({"values": np.stack([CLASSES, CLASSES])}, ["-o", "out.gpkg"], 3, "--band 1"),
        ({"values": CLASSES.astype(np.float32)}, ["-o", "out.gpkg"], 3, "-ot Int32"),
        ({"values": np.arange(70_000, dtype=np.int32).reshape(100, -1)}, ["-o", "out.gpkg"], 3, "65,535 different"),
        ({"crs": None}, ["-o", "out.gpkg"], 3, "--assume-crs"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    make: dict[str, Any],
    arguments: list[str],
    code: int,
    says: str,
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    source = raster(tmp_path / "made.tif", **make)
    (tmp_path / "taken.gpkg").write_text("mine")
    assert command(source, *arguments) == code
    assert says in " ".join(capsys.readouterr().err.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.tif", "taken.gpkg"]
    assert (tmp_path / "taken.gpkg").read_text() == "mine"


KINDS: dict[str, tuple[Any, dict[str, Any], set[int]]] = {
    "a mask of 0 and 255": (np.where(CLASSES == 1, 255, 0).astype(np.uint8), {}, {0, 255}),
    "its own nodata, and 255 is data": (np.where(CLASSES == 1, 255, 0).astype(np.uint8), {"nodata": 0}, {255}),
    "255 declared as nodata": (np.where(CLASSES == 1, 255, 3).astype(np.uint8), {"nodata": 255}, {3}),
    "every byte": (np.arange(256, dtype=np.uint8).reshape(16, 16), {}, set(range(256))),
    "CORINE's codes": (CLASSES.astype(np.uint16) * 111, {}, {111, 222, 444}),
    "65535 is data": (np.where(CLASSES == 1, 65535, 255).astype(np.uint16), {}, {255, 65535}),
    "negative": (np.where(CLASSES == 1, -9999, -1).astype(np.int16), {"nodata": -9999}, {-1}),
    "wide": (CLASSES.astype(np.int32) * 100_000_000, {}, {100_000_000, 200_000_000, 400_000_000}),
    "more values than a byte holds": (np.arange(900, dtype=np.int32).reshape(30, 30) - 300, {}, set(range(-300, 600))),
}


@pytest.mark.parametrize("small", [[], ["--min-area", "0", "--simplify", "0"]], ids=["generalised", "exact"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_any_integer_raster_is_lost(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, small: list[str]
) -> None:
    values, profile, expected = KINDS[kind]
    source = raster(tmp_path / "made.tif", values, **profile)
    outs = [tmp_path / f"out.{ending}" for ending in ("gpkg", "parquet", "geojson")]
    assert command(source, *(a for out in outs for a in ("-o", out)), "--json", *small) == 0
    done = json.loads(capsys.readouterr().out)
    pixels = int(np.isin(values, list(expected)).sum())
    assert sum(c["area_m2"] for c in done["classes"]) == pytest.approx(4.0 * pixels, rel=2e-3)
    for out in outs:
        frame = geopandas.read_parquet(out) if out.suffix == ".parquet" else pyogrio.read_dataframe(out, layer=0)
        assert len(frame) > 0
        assert set(frame["class_id"]) <= expected
        assert frame["pixel_count"].sum() == pixels
        if small:
            assert set(frame["class_id"]) == expected


def test_a_missing_file_is_named(command: Callable[..., int], tmp_path: Path) -> None:
    assert command(tmp_path / "nope.tif", "-o", tmp_path / "out.gpkg") == 3


def test_large_polygons_are_cut_on_request_and_it_says_so(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comb = np.ones((60, 90), np.uint8)
    comb[::2, 1:] = 2
    source = raster(tmp_path / "made.tif", comb)
    exact = ["--min-area", "0", "--simplify", "0"]
    assert command(source, "-o", tmp_path / "whole.fgb", *exact) == 0
    assert "more features" not in capsys.readouterr().out
    assert command(source, "-o", tmp_path / "parts.fgb", "--split", "64", *exact) == 0
    assert "more features than polygons" in " ".join(capsys.readouterr().out.split())
    whole = pyogrio.read_dataframe(tmp_path / "whole.fgb")
    parts = pyogrio.read_dataframe(tmp_path / "parts.fgb")
    assert len(parts) > len(whole)
    assert parts["fid"].is_unique
    assert parts.geometry.is_valid.all()
    assert parts.count_coordinates().max() <= 64
    by_class = parts.groupby("class_id")[["area_m2", "pixel_count"]].sum()
    np.testing.assert_allclose(by_class, whole.groupby("class_id")[["area_m2", "pixel_count"]].sum(), rtol=1e-4)
    assert parts.dissolve("class_id").geometry.area.tolist() == pytest.approx(
        whole.dissolve("class_id").geometry.area.tolist()
    )
