"""Rasters: valid COGs on the scene's grid that GDAL reads colours, names and the legend from."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from tiles.chips.blend import Strip
from tiles.chips.spool import Spool
from tiles.georef import Georef
from tiles.legend import NODATA, LandClass, Legend
from tiles.rasters.areas import class_areas
from tiles.rasters.write import read_legend, write_rasters

LEGEND = Legend((LandClass(0, "roof & wall", (200, 0, 0)), LandClass(2, "<grass>", (0, 200, 0))))
GEOREF = Georef(CRS.from_epsg(32613), Affine(1.2, 0, 490000, 0, -1.2, 4440000), (700, 900))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    rng = np.random.default_rng(1)
    shape = GEOREF.shape
    coarse = rng.choice(np.array([0, 2, NODATA], dtype=np.uint8), (shape[0] // 20, shape[1] // 20))
    classes = np.kron(coarse, np.ones((20, 20), dtype=np.uint8))
    confidence = np.where(classes == NODATA, NODATA, rng.integers(50, 101, shape)).astype(np.uint8)
    planes = np.where(classes == NODATA, NODATA, rng.integers(0, 101, (2, *shape))).astype(np.uint8)
    made = Spool.create(tmp_path / "map.partial", shape, {}, probabilities=2)
    made.append(Strip(0, classes[:333], confidence[:333], planes[:, :333]))
    made.append(Strip(333, classes[333:], confidence[333:], planes[:, 333:]))
    made.close()
    return made


def test_every_raster_is_a_valid_cog_on_the_grid_with_the_spools_pixels(spool: Spool, tmp_path: Path) -> None:
    paths = write_rasters(spool, GEOREF, LEGEND, tmp_path)
    assert set(paths) == {"classes", "confidence", "probabilities"}
    for path in paths.values():
        ok, errors, warnings = cog_validate(path, strict=True)
        assert (ok, errors, warnings) == (True, [], [])
        with rasterio.open(path) as source:
            assert (source.crs, source.transform, source.shape) == (GEOREF.crs, GEOREF.transform, GEOREF.shape)
            assert source.nodata == NODATA
    raw = np.fromfile(spool.path("probabilities"), np.uint8).reshape(700, 2, 900).transpose(1, 0, 2)
    with rasterio.open(paths["probabilities"]) as source:
        assert source.descriptions == LEGEND.names
        assert (source.read() == raw).all()
    classes, confidence = spool.read(0, 700)
    with rasterio.open(paths["classes"]) as source:
        assert (source.read(1) == classes).all()
    with rasterio.open(paths["confidence"]) as source:
        assert (source.read(1) == confidence).all()


def test_overviews_hold_the_most_frequent_class_and_the_mean_confidence(spool: Spool, tmp_path: Path) -> None:
    paths = write_rasters(spool, GEOREF, LEGEND, tmp_path)
    classes, confidence = spool.read(0, 700)
    with rasterio.open(paths["classes"], overview_level=0) as source:
        assert source.shape == (350, 450)
        assert (source.read(1) == classes[::2, ::2]).all()  # the fixture's patches are 20 pixels wide
    quads = np.where(confidence == NODATA, np.nan, confidence).reshape(350, 2, 450, 2)
    empty = np.asarray(np.isnan(quads).all(axis=(1, 3)))
    means = np.floor(np.nanmean(np.where(empty[:, None, :, None], 0, quads), axis=(1, 3)) + 0.5)
    with rasterio.open(paths["confidence"], overview_level=0) as source:
        assert (source.read(1) == np.where(empty, NODATA, means)).all()
    assert {p.name for p in spool.folder.iterdir()} == {
        *("classes.u8", "confidence.u8", "probabilities.u8", "journal.jsonl")
    }


def test_nothing_more_is_written_once_it_is_not_wanted(spool: Spool, tmp_path: Path) -> None:
    answers = iter([True, False, False])
    assert list(write_rasters(spool, GEOREF, LEGEND, tmp_path, lambda: next(answers))) == ["classes"]
    assert not (tmp_path / "confidence.tif").exists()


def test_the_class_raster_carries_colours_names_and_legend(spool: Spool, tmp_path: Path) -> None:
    path = write_rasters(spool, GEOREF, LEGEND, tmp_path)["classes"]
    with rasterio.open(path) as source:
        table = source.colormap(1)
        assert table[0] == (200, 0, 0, 255)
        assert table[2] == (0, 200, 0, 255)
        assert table[NODATA][3] == 0
        assert read_legend(source.tags()) == LEGEND
    names = (tmp_path / "classes.tif.aux.xml").read_text()
    assert "<Category>roof &amp; wall</Category>" in names
    assert "<Category>&lt;grass&gt;</Category>" in names


def test_the_same_spool_gives_the_same_bytes(spool: Spool, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_rasters(spool, GEOREF, LEGEND, tmp_path / name)
    assert [p.name for p in sorted((tmp_path / "a").iterdir())] == [p.name for p in sorted((tmp_path / "b").iterdir())]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [(32613, Affine(1.2, 0, 490000, 0, -1.2, 4440000)), (4326, Affine(1e-4, 0, 10, 0, -1e-4, 60))],
)
def test_areas_equal_the_sum_of_every_pixels_area(spool: Spool, crs: int, transform: Affine) -> None:
    georef = Georef(CRS.from_epsg(crs), transform, GEOREF.shape)
    classes, _ = spool.read(0, 700)
    rows, cols = np.mgrid[0:700, 0:900]
    pixel = georef.pixel_area_m2(cols.ravel() + 0.5, rows.ravel() + 0.5).reshape(700, 900)
    expected = [pixel[classes == value].sum() for value in (0, 2, NODATA)]
    assert class_areas(spool, georef, LEGEND) == pytest.approx(expected, rel=1e-6)
