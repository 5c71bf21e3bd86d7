"""Questions about an area, who is calling, pictures of scenes, the pre-flight again, events of all jobs."""

import io
import json
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer

from api.schemas.responses import FitOut, Me, Statistics


def test_statistics_are_those_of_the_raster(client: httpx2.Client, service: Any) -> None:
    folder = service.data / "maps" / service.map_id
    with rasterio.open(folder / "classes.tif") as one, rasterio.open(folder / "confidence.tif") as two:
        classes, confidence, transform = one.read(1), two.read(1), one.transform
    rows, columns = slice(10, 70), slice(20, 120)
    pixels = np.array([(20, 70), (120, 70), (120, 10), (20, 10), (20, 70)])
    corners = (pixels * (transform.a, transform.e) + (transform.c, transform.f)).tolist()
    uri = "http://www.opengis.net/def/crs/EPSG/0/32616"
    body = {"type": "Polygon", "coordinates": [[list(c) for c in corners]]}
    answer = client.post(f"/maps/{service.map_id}/statistics", json=body, params={"crs": uri})
    told = Statistics.model_validate(answer.json())
    part, sure = classes[rows, columns], confidence[rows, columns]
    for zone in told.classes:
        assert zone.pixels == (part == zone.value).sum()
        assert zone.confidence == pytest.approx(sure[part == zone.value].mean() / 100, abs=1e-6)
        assert zone.area_m2 == pytest.approx(zone.pixels * 0.36, rel=2e-3)
    assert sum(zone.pixels for zone in told.classes) == (part != 255).sum()
    assert sum(zone.share for zone in told.classes) == pytest.approx(1)
    to_lonlat = Transformer.from_crs(32616, "OGC:CRS84", always_xy=True)
    lonlat = {"type": "Polygon", "coordinates": [[list(to_lonlat.transform(*c)) for c in corners]]}
    feature = {"type": "Feature", "properties": {}, "geometry": lonlat}
    again = Statistics.model_validate(client.post(f"/maps/{service.map_id}/statistics", json=feature).json())
    assert again.area_m2 == pytest.approx(told.area_m2, rel=0.02)


def test_an_area_beside_the_map_holds_nothing(client: httpx2.Client, service: Any) -> None:
    away = {"type": "Polygon", "coordinates": [[[10, 10], [11, 10], [11, 11], [10, 10]]]}
    told = client.post(f"/maps/{service.map_id}/statistics", json=away).json()
    assert told == {"area_m2": 0, "nodata_m2": 0, "confidence": None, "classes": []}


@pytest.mark.parametrize(
    "body",
    [
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "Feature", "geometry": None},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0]] * 40_000]},
        {"type": "Polygon", "coordinates": [[[[[[[0]]]]]]]},
    ],
)
def test_what_is_no_area_is_refused(client: httpx2.Client, service: Any, body: Any) -> None:
    assert client.post(f"/maps/{service.map_id}/statistics", json=body).status_code == 400


def test_an_unknown_crs_is_refused(client: httpx2.Client, service: Any) -> None:
    body = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    for crs in ("EPSG:4326", "http://www.opengis.net/def/crs/EPSG/0/9999999"):
        assert client.post(f"/maps/{service.map_id}/statistics", json=body, params={"crs": crs}).status_code == 400


def test_a_scene_and_its_bands_can_be_looked_at(client: httpx2.Client, service: Any) -> None:
    scene = client.get(f"/maps/{service.map_id}").json()["scene"]
    picture = client.get(f"/scenes/{scene}/picture.png", params={"size": 80})
    assert Image.open(io.BytesIO(picture.content)).size == (80, 60)
    band = client.get(f"/scenes/{scene}/picture.png", params={"band": 2, "size": 16})
    assert Image.open(io.BytesIO(band.content)).mode in ("L", "LA")
    assert client.get(f"/scenes/{scene}/picture.png", params={"band": 9}).status_code == 404


def test_the_preflight_can_be_asked_again(client: httpx2.Client, new_scene: Any, tmp_path: Path) -> None:
    path = new_scene(tmp_path / "plain.tif", dtype="uint16", photometric="MINISBLACK")
    accepted = client.put("/scenes/plain.tif", content=path.read_bytes()).json()["scene"]
    assert accepted["info"]["fit"]["fits"] is False
    body = {"options": {"bands": {"red": 1, "green": 2, "blue": 3}}}
    told = FitOut.model_validate(client.post(f"/scenes/{accepted['id']}/fit", json=body).json())
    assert told.fits
    assert told.checks[0]["topic"] == "bands"
    assert client.post(f"/scenes/{accepted['id']}/fit", json={"model": "none"}).status_code == 404
    client.delete(f"/scenes/{accepted['id']}")


def test_classes_can_be_left_out_of_tiles(client: httpx2.Client, service: Any) -> None:
    url = f"/maps/{service.map_id}/tiles/0/0/0.png"

    def seen(**params: str) -> int:
        alpha = np.array(Image.open(io.BytesIO(client.get(url, params=params).content)).convert("RGBA"))[..., 3]
        return int((alpha > 0).sum())

    told = client.get(f"/maps/{service.map_id}/tilejson.json").json()
    lon, lat = told["bounds"][0] + 1e-4, np.radians(told["bounds"][1] + 1e-4)
    z = told["maxzoom"]
    x, y = int((lon + 180) / 360 * 2**z), int((1 - np.arcsinh(np.tan(lat)) / np.pi) / 2 * 2**z)
    url = f"/maps/{service.map_id}/tiles/{z}/{x}/{y}.png"
    one, other = seen(show="1"), seen(show="2,3")
    assert one > 0
    assert other > 0
    assert seen(show="") == 0
    assert one + other == seen()


def test_who_is_calling_is_told(client: httpx2.Client, service: Any) -> None:
    told = Me.model_validate(client.get("/me").json())
    assert told.key is None
    assert not told.keys_needed
    assert told.bytes.used > 0


def test_events_of_all_jobs_begin_with_what_there_is(client: httpx2.Client, service: Any) -> None:
    with client.stream("GET", "/jobs/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                job = json.loads(line[6:])
                break
    assert job["id"] == client.get("/jobs").json()["jobs"][-1]["id"]
    assert job["scene_name"] == "field.tif"
