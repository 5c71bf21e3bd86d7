"""A map on both sides of 180 degrees is answered for like any other: extent, boxes, points, tiles, areas."""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyproj import Transformer

from api.main import create_app
from api.settings import ApiSettings
from geounet.service.processes.raster_child import Missing, Rasters, answer
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store
from tiles.georef import Georef
from tiles.longitudes import halves, nearest_turn, turned, turned_extent
from tiles.scene.crop import cut_area

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio's own

STEP = 5.4e-6
"""Degrees of a pixel: 0.6 m."""
TURN = 22.5
"""Degrees between the maps and their twins: a whole number of tiles from zoom 4 on."""
GEOGRAPHIC = Georef(rasterio.crs.CRS.from_epsg(4326), Affine(STEP, 0, 180 - 80 * STEP, 0, -STEP, -17.0), (120, 160))
WEST_OF_180 = Georef(rasterio.crs.CRS.from_epsg(4326), Affine(STEP, 0, -180 - 80 * STEP, 0, -STEP, -17.0), (120, 160))
TWIN = Georef(rasterio.crs.CRS.from_epsg(4326), Affine(STEP, 0, 180 - 80 * STEP - TURN, 0, -STEP, -17.0), (120, 160))
UTM_60 = Georef(rasterio.crs.CRS.from_epsg(32760), Affine(0.6, 0, 819398, 0, -0.6, 8118094), (120, 160))
CROSSING = {"past 180": GEOGRAPHIC, "below -180": WEST_OF_180, "UTM 60": UTM_60}


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory, new_map: Any) -> tuple[Store, dict[str, str]]:
    store = Store(ServiceSettings(data=tmp_path_factory.mktemp("antimeridian") / "data", disk_reserve=0))
    return store, {name: new_map(store, None, georef) for name, georef in {**CROSSING, "twin": TWIN}.items()}


@pytest.fixture(scope="module")
def client(maps: tuple[Store, dict[str, str]], bundles: Path) -> Iterator[TestClient]:
    settings = ApiSettings(data=maps[0].root, bundles=bundles, disk_reserve=0, model="toy")
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def middle_of(georef: Georef, row: int, column: int) -> tuple[float, float]:
    """Longitude between -180 and 180, and latitude, of a pixel's middle."""
    t = georef.transform
    x, y = t.c + t.a * (column + 0.5), t.f + t.e * (row + 0.5)
    lon, lat = Transformer.from_crs(georef.crs.to_wkt(), "OGC:CRS84", always_xy=True).transform(x, y)
    return (lon + 180) % 360 - 180, lat


@pytest.mark.parametrize("name", CROSSING)
def test_its_extent_runs_across(client: TestClient, maps: tuple[Store, dict[str, str]], name: str) -> None:
    path = f"/collections/{maps[1][name]}"
    west, south, east, north = client.get(path).json()["extent"]["spatial"]["bbox"][0]
    assert 179.99 < west < 180
    assert -180 < east < -179.99
    assert -17.1 < south < north < -16.9
    whole = client.get(f"{path}/items", params={"bbox": f"{west},{south},{east},{north}", "limit": 1}).json()
    assert whole["numberMatched"] == client.get(f"{path}/items", params={"limit": 1}).json()["numberMatched"] > 100


@pytest.mark.parametrize("name", CROSSING)
def test_boxes_find_what_lies_on_their_side(client: TestClient, maps: tuple[Store, dict[str, str]], name: str) -> None:
    path = f"/collections/{maps[1][name]}/items"

    def found(west: float, east: float, **more: str) -> set[int]:
        box = {"bbox": f"{west},-18,{east},-16", "limit": "10000", **more}
        answer = client.get(path, params=box)
        assert answer.status_code == 200, answer.text
        return {f["id"] for f in answer.json()["features"]}

    everything, left, right = found(-180, 180), found(179, 180), found(-180, -179)
    assert left | right == everything
    assert 50 < len(left) < len(everything)
    assert 50 < len(right) < len(everything)
    assert left & right  # those on the line itself
    assert found(179, -179) == everything
    assert found(179, 181) == found(-181, -179) == everything  # as far as other clients count
    assert found(180, 181) == right
    assert found(0, 360) == everything
    assert found(-170, 170) == set()
    swapped = client.get(
        path,
        params={"bbox": "-18,-180,-16,-179", "bbox-crs": "http://www.opengis.net/def/crs/EPSG/0/4326", "limit": "9999"},
    )
    assert {f["id"] for f in swapped.json()["features"]} == right
    clipped = client.get(path, params={"bbox": "-180,-18,-179,-16", "clip": "true", "limit": "10000"}).json()
    longitudes = [p[0] for f in clipped["features"] for ring in _rings(f["geometry"]) for p in ring]
    assert longitudes
    assert all(-180 <= lon < -179 for lon in longitudes)


def _rings(geometry: dict[str, Any]) -> list[Any]:
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    return [ring for polygon in polygons for ring in polygon]


@pytest.mark.parametrize("name", CROSSING)
def test_points_on_both_sides_tell_their_class(maps: tuple[Store, dict[str, str]], name: str) -> None:
    path = maps[0].maps.folder(maps[1][name]) / "classes.tif"
    with rasterio.open(path) as dataset:
        truth = dataset.read(1)
    rasters, sides = Rasters(), set()
    for row, column in ((20, 20), (60, 70), (60, 90), (100, 150), (110, 20)):
        lon, lat = middle_of(CROSSING[name], row, column)
        told, _ = answer({"want": "point", "paths": {"classes": str(path)}, "lon": lon, "lat": lat}, rasters)
        assert told["classes"] == truth[row, column]
        sides.add(lon > 0)
    assert sides == {True, False}


def test_a_point_may_be_asked_for_with_longitudes_up_to_360(
    client: TestClient, maps: tuple[Store, dict[str, str]]
) -> None:
    lon, lat = middle_of(GEOGRAPHIC, 60, 90)
    assert lon < 0
    path = f"/maps/{maps[1]['past 180']}/point"
    usual, other = (client.get(path, params={"lon": v, "lat": lat}).json() for v in (lon, lon + 360))
    assert usual["class_id"] in (1, 2, 3)
    assert usual["class_id"] == other["class_id"]
    assert other["lon"] == pytest.approx(lon)


@pytest.mark.parametrize("name", CROSSING)
@pytest.mark.parametrize("layer", ["classes", "scene"])
def test_tilejson_does_not_wrap_and_knows_where_to_look(
    client: TestClient, maps: tuple[Store, dict[str, str]], name: str, layer: str
) -> None:
    told, twin = (
        client.get(f"/maps/{maps[1][which]}/tilejson.json", params={"layer": layer}).json() for which in (name, "twin")
    )
    west, south, east, north = told["bounds"]
    assert (west, east) == (-180, 180)  # TileJSON 3.0.0: bounds must not wrap around the antimeridian
    assert south < -17 < north or south < north < -16.9
    assert abs(abs(told["center"][0]) - 180) < 0.01
    assert told["minzoom"] == twin["minzoom"]
    assert abs(told["center"][2] - twin["center"][2]) <= 1
    assert abs(told["maxzoom"] - twin["maxzoom"]) <= 1
    assert told["maxzoom"] >= 17


@pytest.mark.parametrize("name", ["past 180", "below -180"])
@pytest.mark.parametrize("layer", ["classes", "confidence"])
@pytest.mark.parametrize("zoom", [4, 12, 17, 19])
def test_its_tiles_are_those_of_the_same_map_elsewhere(
    maps: tuple[Store, dict[str, str]], name: str, layer: str, zoom: int
) -> None:
    here, there = (str(maps[0].maps.folder(maps[1][which]) / f"{layer}.tif") for which in (name, "twin"))
    rasters, shift = Rasters(), round(TURN / 360 * 2**zoom)
    lat = math.radians(-17.0003)
    y = int((1 - math.asinh(math.tan(lat)) / math.pi) / 2 * 2**zoom)
    shown = 0
    for x in (2**zoom - 2, 2**zoom - 1, 0, 1):
        usual = _tile(there, layer, (x - shift) % 2**zoom, y, zoom, rasters)
        crossing = _tile(here, layer, x, y, zoom, rasters)
        assert (usual is None) is (crossing is None), x
        if usual is not None and crossing is not None:
            shown += int((usual[..., 3] > 0).any())
            differ = (usual != crossing).any(axis=-1)  # where a pixel's middle is a rounding error away
            assert differ.mean() < 0.01
    assert shown == 2 if zoom > 12 else shown <= 2  # far out the map is smaller than a pixel


def _tile(path: str, layer: str, x: int, y: int, z: int, rasters: Rasters) -> Any:
    try:
        _, png = answer({"want": "tile", "path": path, "layer": layer, "x": x, "y": y, "z": z}, rasters)
    except Missing:
        return None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


@pytest.mark.parametrize("name", CROSSING)
def test_the_tile_of_the_whole_world_and_the_halves_are_there(maps: tuple[Store, dict[str, str]], name: str) -> None:
    path = str(maps[0].maps.folder(maps[1][name]) / "classes.tif")
    rasters = Rasters()
    assert _tile(path, "classes", 0, 0, 0, rasters).shape == (256, 256, 4)
    for x, y in ((0, 1), (1, 1)):
        assert _tile(path, "classes", x, y, 1, rasters) is not None
    assert _tile(path, "classes", 1, 2, 2, rasters) is None
    for side in (2**18 - 1, 0):  # close by, both sides are full of colour
        y = int((1 - math.asinh(math.tan(math.radians(-17.0003))) / math.pi) / 2 * 2**18)
        tiles = [_tile(path, "classes", side, y + dy, 18, rasters) for dy in (-1, 0, 1)]
        assert any(t is not None and (t[..., 3] > 0).sum() > 1000 for t in tiles)


@pytest.mark.parametrize("name", CROSSING)
@pytest.mark.parametrize("turn", [0.0, 360.0])
def test_an_area_of_interest_is_cut_on_either_side(
    maps: tuple[Store, dict[str, str]], tmp_path: Path, name: str, turn: float
) -> None:
    corners = [middle_of(CROSSING[name], row, column) for row, column in ((30, 100), (30, 140), (80, 140), (80, 100))]
    assert all(lon < 0 for lon, _ in corners)
    ring = [[lon + turn, lat] for lon, lat in (*corners, corners[0])]
    scene = maps[0].scenes.path(maps[0].maps.get(maps[1][name]).scene)
    made = cut_area(scene, {"type": "Polygon", "coordinates": [ring]}, tmp_path / "area.tif")
    with rasterio.open(made) as dataset:
        assert 38 <= dataset.width <= 46
        assert 48 <= dataset.height <= 56


LON = st.floats(-360, 360, allow_nan=False)


@given(LON)
def test_a_turned_meridian_is_the_same_one(lon: float) -> None:
    assert -180 <= turned(lon) <= 180
    assert math.isclose(math.cos(math.radians(turned(lon))), math.cos(math.radians(lon)), abs_tol=1e-9)
    assert abs(nearest_turn(lon, 500.0) - 500.0) <= 180


@given(LON, st.floats(0, 359.9))
def test_a_turned_extent_is_as_wide_and_holds_the_same_meridians(west: float, wide: float) -> None:
    a, b = turned_extent(west, west + wide)
    assert -180 <= a <= 180
    assert -180 <= b <= 180
    pieces = halves(a, b)
    assert sum(east - west for west, east in pieces) == pytest.approx(wide, abs=1e-9)
    middle = turned(turned(west) + wide / 2)
    assert any(low - 1e-9 <= middle <= high + 1e-9 for low, high in pieces)
