"""Files in ranges, tiles, points, models, health."""

import io
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer

from api.schemas.responses import Health, MapOut, Models, PointOut, TileJson


def test_a_file_comes_whole_in_ranges_or_not_at_all(client: httpx2.Client, service: Any) -> None:
    url = f"/maps/{service.map_id}/polygons.gpkg"
    truth = (service.data / "maps" / service.map_id / "polygons.gpkg").read_bytes()
    whole = client.get(url)
    assert whole.content == truth
    assert whole.headers["content-type"] == "application/geopackage+sqlite3"
    etag = whole.headers["etag"]
    part = client.get(url, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, truth[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(truth)}"
    assert client.get(url, headers={"Range": "bytes=-16"}).content == truth[-16:]
    assert client.get(url, headers={"Range": f"bytes={len(truth)}-"}).status_code == 416
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 304
    stale = client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, truth)
    head = client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(truth)
    assert head.headers["accept-ranges"] == "bytes"


def test_files_are_never_repacked(client: httpx2.Client, service: Any) -> None:
    response = client.get(f"/maps/{service.map_id}/polygons.geojson", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in response.headers


def test_gdal_reads_the_class_map_in_place(service: Any) -> None:
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        rasterio.open(f"/vsicurl/{service.url}/maps/{service.map_id}/classes.tif") as remote,
        rasterio.open(service.data / "maps" / service.map_id / "classes.tif") as local,
    ):
        np.testing.assert_array_equal(remote.read(1, window=((0, 20), (0, 20))), local.read(1)[:20, :20])


@pytest.mark.parametrize("name", ["nothing.tif", "probabilities.tif", "scene.tif", "..%2Fsummary.json", ".lock"])
def test_only_the_files_of_a_map_are_given(client: httpx2.Client, service: Any, name: str) -> None:
    assert client.get(f"/maps/{service.map_id}/{name}").status_code in (400, 404)


def test_a_map_links_to_what_it_has(client: httpx2.Client, service: Any) -> None:
    shown = MapOut.model_validate_json(client.get(f"/maps/{service.map_id}").content)
    for link in shown.links:
        assert client.get(link.href).status_code == 200, link.href


@pytest.mark.parametrize("layer", ["classes", "confidence", "scene"])
def test_tiles_lie_where_tilejson_says(client: httpx2.Client, service: Any, layer: str) -> None:
    told = TileJson.model_validate_json(
        client.get(f"/maps/{service.map_id}/tilejson.json", params={"layer": layer}).content
    )
    west, south, east, north = told.bounds
    z = told.maxzoom
    lon, lat = (west + east) / 2, (south + north) / 2
    x = int((lon + 180) / 360 * 2**z)
    y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**z)
    response = client.get(told.tiles[0].replace("{z}", str(z)).replace("{x}", str(x)).replace("{y}", str(y)))
    assert response.status_code == 200, response.text
    image = Image.open(io.BytesIO(response.content))
    assert image.size == (256, 256)
    pixels = np.asarray(image.convert("RGBA"))
    assert (pixels[..., 3] > 0).any()
    if layer == "classes":
        colors = {tuple(c) for c in pixels[pixels[..., 3] > 0][:, :3].tolist()}
        assert colors <= {(200, 50, 50), (30, 110, 40), (150, 120, 90)}
    far = told.tiles[0].replace("{z}", "3").replace("{x}", "0").replace("{y}", "0")
    assert client.get(far).status_code == 404


def test_a_point_tells_class_and_confidence(client: httpx2.Client, service: Any) -> None:
    folder = service.data / "maps" / service.map_id
    with rasterio.open(folder / "classes.tif") as classes, rasterio.open(folder / "confidence.tif") as confidence:
        x, y = classes.xy(50, 70)
        value, sure = int(classes.read(1)[50, 70]), int(confidence.read(1)[50, 70])
        empty = Transformer.from_crs(classes.crs, "OGC:CRS84", always_xy=True).transform(*classes.xy(2, 2))
        lon, lat = Transformer.from_crs(classes.crs, "OGC:CRS84", always_xy=True).transform(x, y)

    def ask(lon: float, lat: float) -> PointOut:
        found = client.get(f"/maps/{service.map_id}/point", params={"lon": lon, "lat": lat})
        return PointOut.model_validate_json(found.content)

    found = ask(lon, lat)
    assert found.class_id == value
    assert found.confidence == pytest.approx(sure / 100)
    assert found.class_name in ("building", "tree", "bare ground")
    assert ask(*empty).class_id is None
    assert ask(0, 0).class_id is None


def test_a_reader_that_dies_costs_one_answer(client: httpx2.Client, service: Any) -> None:
    import psutil

    url = f"/maps/{service.map_id}/point?lon=-84.6655&lat=39.7262"
    assert client.get(url).status_code == 200
    for child in psutil.Process(service.process.pid).children():
        child.kill()
    answers = [client.get(url).status_code for _ in range(4)]
    assert set(answers) <= {200, 503}
    assert answers[-1] == 200


def test_models_and_health(client: httpx2.Client) -> None:
    models = Models.model_validate_json(client.get("/models").content).models
    toy = next(m for m in models if m.name == "toy")
    assert toy.bands == ("red", "green", "blue")
    assert [c.name for c in toy.legend] == ["building", "tree", "bare ground"]
    assert sum(m.default for m in models) == 1
    assert Health.model_validate_json(client.get("/healthz").content).status == "ok"
    assert Health.model_validate_json(client.get("/readyz").content).status == "ok"


def test_the_api_process_loads_neither_torch_nor_rasterio_at_start(service: Any) -> None:
    maps = Path(f"/proc/{service.process.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert "libtorch" not in maps.read_text()
