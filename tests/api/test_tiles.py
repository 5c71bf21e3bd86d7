"""Vector tiles over HTTP: what OGC API - Tiles and TileJSON promise, and no gaps at any zoom."""

from typing import Any

import httpx2
import mapbox_vector_tile
import numpy as np
import pytest
import shapely

from api.schemas.tiles import Tileset, Tilesets, VectorTileJson
from geounet.service.features import vector_tiles
from geounet.service.features.layer import FeatureLayer


@pytest.fixture
def here(service: Any) -> str:
    return f"/collections/{service.map_id}/tiles"


def tile(client: httpx2.Client, path: str) -> list[dict[str, Any]]:
    answer = client.get(path)
    assert answer.headers["content-type"] == "application/vnd.mapbox-vector-tile"
    options = {"y_coord_down": True}
    layers: dict[str, Any] = mapbox_vector_tile.decode(answer.content, default_options=options)
    features: list[dict[str, Any]] = layers["landcover"]["features"]
    return features


def test_the_tile_set_tells_where_its_tiles_are(client: httpx2.Client, here: str) -> None:
    (listed,) = Tilesets.model_validate(client.get(here).json()).tilesets
    told = Tileset.model_validate(client.get(listed.links[0].href).json())
    template = next(link.href for link in told.links if link.rel == "item")
    for limits in told.tileMatrixSetLimits[-3:]:
        address = template.format(tileMatrix=limits.tileMatrix, tileRow=limits.minTileRow, tileCol=limits.minTileCol)
        assert tile(client, address)
    away = template.format(tileMatrix="9", tileRow=0, tileCol=0)
    assert client.get(away).status_code == 204
    assert client.get(template.format(tileMatrix="2", tileRow=4, tileCol=0)).status_code == 404
    conforms = client.get("/conformance").json()["conformsTo"]
    assert "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/mvt" in conforms


def test_tilejson_tells_true_zooms(client: httpx2.Client, here: str, service: Any) -> None:
    told = VectorTileJson.model_validate(client.get(f"{here}/WebMercatorQuad/tilejson.json").json())
    assert told.vector_layers[0].id == "landcover"
    pixel = (told.bounds[2] - told.bounds[0]) / 160
    assert 360 / 2**told.maxzoom / 512 <= pixel < 360 / 2 ** (told.maxzoom - 1) / 512
    for layer in ("classes", "confidence"):
        raster = client.get(f"/maps/{service.map_id}/tilejson.json", params={"layer": layer}).json()
        assert raster["minzoom"] == 0
        x, y = _over(raster["bounds"], raster["minzoom"])
        url = raster["tiles"][0].format(z=0, x=x, y=y)
        assert client.get(url).status_code == 200


def test_a_tile_is_asked_for_once(client: httpx2.Client, here: str) -> None:
    url = _address(client, here, 17)
    first = client.get(url)
    assert client.get(url).content == first.content
    again = client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_polygons_in_a_tile_fit_and_tell_what_the_features_do(client: httpx2.Client, here: str, service: Any) -> None:
    for zoom in (14, 16, 18):
        features = tile(client, _address(client, here, zoom))
        shapes = [shapely.geometry.shape(f["geometry"]) for f in features]
        total = sum(s.area for s in shapes)
        # Rounded to whole units, borders stay common: what lies twice is what a rounded vertex moved.
        assert total - shapely.union_all(shapes).area < 1e-3 * total
        whole = shapely.union_all([s.buffer(0.6, join_style="mitre") for s in shapes])
        assert sum(len(part.interiors) for part in shapely.get_parts(whole)) == 0, "a gap"
    feature = features[0]
    item = client.get(f"/collections/{service.map_id}/items/{feature['id']}").json()["properties"]
    assert feature["properties"]["class_name"] == item["class_name"]
    assert feature["properties"]["area_m2"] == pytest.approx(item["area_m2"], abs=0.01)


def test_neighbouring_tiles_meet(client: httpx2.Client, service: Any) -> None:
    """At the edge between two tiles both show the same class, but for what rounding moves."""
    layer = FeatureLayer(service.data / "maps" / service.map_id)
    z = 17
    left, top, right, bottom = vector_tiles.limits(layer)[z]
    assert right > left or bottom > top
    across = right > left
    one = vector_tiles.vector_tile(layer, z, left, top)
    two = vector_tiles.vector_tile(layer, z, left + across, top + (not across))
    edge = [_along(data, at, across) for data, at in ((one, 4096), (two, 0))]
    both = [i for i in range(len(edge[0])) if edge[0][i] and edge[1][i]]
    assert len(both) > 20
    assert np.mean([edge[0][i] == edge[1][i] for i in both]) > 0.97
    layer.close()


def _along(data: bytes, at: int, across: bool) -> list[int]:
    features = mapbox_vector_tile.decode(data, default_options={"y_coord_down": True})["landcover"]["features"]
    shapes = np.array([shapely.geometry.shape(f["geometry"]) for f in features])
    tree = shapely.STRtree(shapes)
    found = []
    for step in range(4, 4096, 8):
        hits = tree.query(shapely.Point((at, step) if across else (step, at)), predicate="intersects")
        found.append(features[hits[0]]["properties"]["class_id"] if len(hits) == 1 else 0)
    return found


def test_from_far_away_regions_of_pixels_stand_for_many_polygons(
    client: httpx2.Client, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = FeatureLayer(service.data / "maps" / service.map_id)
    assert vector_tiles.zooms(layer)[0] == 0
    monkeypatch.setattr(vector_tiles, "_CROWD", 10)
    first, last = vector_tiles.zooms(layer)
    assert 0 < first <= last
    layer.close()


def _over(bounds: list[float], z: int) -> tuple[int, int]:
    lon, lat = (bounds[0] + bounds[2]) / 2, np.radians((bounds[1] + bounds[3]) / 2)
    return int((lon + 180) / 360 * 2**z), int((1 - np.arcsinh(np.tan(lat)) / np.pi) / 2 * 2**z)


def _address(client: httpx2.Client, here: str, z: int) -> str:
    told = client.get(f"{here}/WebMercatorQuad/tilejson.json").json()
    x, y = _over(told["bounds"], z)
    return str(told["tiles"][0].format(z=z, x=x, y=y))
