"""Features kept as text are the very features that the GeoPackage makes, whatever is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS
from rasterio.crs import CRS as RasterCRS

from geounet.service.features.crs_uri import CRS84, named
from geounet.service.features.geometry import read_geometries
from geounet.service.features.layer import TEXTS_FILE, FeatureLayer, Filter
from geounet.service.features.search_box import search_box
from geounet.service.features.texts import write_feature_texts
from geounet.service.features.transformers import Bounds
from tiles.georef import Georef
from tiles.legend import LandClass, Legend
from tiles.polygons.polygonise import polygonise
from tiles.vectors.write import write_vectors

LEGEND = Legend((LandClass(1, "dry", (1, 2, 3)), LandClass(2, 'a "wet" 湿', (4, 5, 6))))
UTM = Georef(RasterCRS.from_epsg(32616), Affine(2, 0, 700000, 0, -2, 4400000), (70, 90))


def make(folder: Path, georef: Georef) -> Path:
    folder.mkdir(exist_ok=True)
    classes = np.random.default_rng(5).integers(1, 3, georef.shape).astype(np.uint8)
    batches = polygonise([(classes, np.full_like(classes, 60))], georef, LEGEND)
    write_vectors(batches, folder, ("gpkg",), georef, LEGEND)
    grid = {"transform": list(georef.transform)[:6], "rows": georef.shape[0], "columns": georef.shape[1]}
    (folder / "summary.json").write_text(json.dumps({"grid": grid, "classes": []}))
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureLayer, FeatureLayer]:
    """The same map without and with texts."""
    root = tmp_path_factory.mktemp("texts")
    slow, quick = FeatureLayer(make(root / "slow", UTM)), make(root / "quick", UTM)
    write_feature_texts(quick)
    return slow, FeatureLayer(quick)


@given(after=st.integers(-1, 6500), limit=st.integers(1, 2500), step=st.integers(1, 9))
def test_texts_are_what_the_geopackage_gives(
    both: tuple[FeatureLayer, FeatureLayer], after: int, limit: int, step: int
) -> None:
    slow, quick = both
    assert quick.has_texts
    assert not slow.has_texts
    ids = slow.page(Filter(), after, limit).ids[::step]
    carrier = slow.carrier(CRS84)
    text = b"".join(quick.geojson(ids, carrier))
    assert text == b"".join(slow.geojson(ids, carrier))
    assert [f["id"] for f in json.loads(b"[" + text + b"]")] == ids.tolist()


def test_other_crs_and_clipped_features_come_from_the_geopackage(both: tuple[FeatureLayer, FeatureLayer]) -> None:
    slow, quick = both
    ids = slow.page(Filter(), None, 500).ids
    own = slow.carrier("http://www.opengis.net/def/crs/EPSG/0/32616")
    assert b"".join(quick.geojson(ids, own)) == b"".join(slow.geojson(ids, own))
    bounds = slow.lonlat_bounds()
    assert bounds is not None
    west, south, east, north = bounds
    box = search_box((west, south, (west + east) / 2, north), named(CRS84), slow.crs, slow.extent)
    carrier = slow.carrier(CRS84)
    clipped = b"".join(quick.geojson(ids, carrier, box))
    assert clipped == b"".join(slow.geojson(ids, carrier, box))
    assert clipped != b"".join(quick.geojson(ids, carrier))


@given(corners=st.tuples(*[st.floats(-0.1, 1.1)] * 4))
def test_a_box_finds_every_polygon_that_touches_it(
    both: tuple[FeatureLayer, FeatureLayer], corners: tuple[float, float, float, float]
) -> None:
    layer = both[1]
    x0, x1 = (700000 + 180 * v for v in sorted(corners[:2]))
    y0, y1 = (4399860 + 140 * v for v in sorted(corners[2:]))
    bounds: Bounds = (x0, y0, x1, y1)
    box = search_box(bounds, named("http://www.opengis.net/def/crs/EPSG/0/32616"), layer.crs, layer.extent)
    with layer._connection() as db:
        rows = db.execute("SELECT fid, geom FROM landcover ORDER BY fid").fetchall()
    touching = shapely.intersects(read_geometries([row[1] for row in rows]), box.parts[0].polygon)
    assert layer.matches(Filter(box)).tolist() == np.array([row[0] for row in rows])[touching].tolist()


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = make(tmp_path / "map", UTM)
    write_feature_texts(folder)
    first = (folder / TEXTS_FILE).read_bytes()
    write_feature_texts(folder)
    assert (folder / TEXTS_FILE).read_bytes() == first
    assert [p.name for p in folder.glob(".*")] == []


def test_a_map_that_has_no_place_in_degrees_gets_no_texts(tmp_path: Path) -> None:
    polar = Georef(RasterCRS.from_epsg(3031), Affine(100, 0, -2000, 0, -100, 2000), (40, 40))
    folder = make(tmp_path / "pole", polar)
    write_feature_texts(folder)
    assert list(folder.glob(f"*{TEXTS_FILE}*")) == []
    layer = FeatureLayer(folder)
    assert layer.crs == CRS.from_epsg(3031)
    ids = layer.page(Filter(), None, 10).ids
    own = layer.carrier("http://www.opengis.net/def/crs/EPSG/0/3031")
    assert len(json.loads(b"[" + b"".join(layer.geojson(ids, own)) + b"]")) == 10
