"""Whatever comes is hostile: disguised files, bombs, odd names, odd numbers, other people's pages."""

import http.server
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
import rasterio

from geounet.service.errors import HostileSceneError, TooLargeError
from geounet.service.processes.tiff_header import check_tiff
from geounet.service.processes.upload_check import Inspection, ingest_upload
from geounet.service.settings import ServiceSettings

SETTINGS = ServiceSettings(disk_reserve=0)


def take(path: Path, settings: ServiceSettings = SETTINGS) -> Inspection:
    with TemporaryDirectory() as clean:
        return ingest_upload(path, Path(clean), path.name, settings)


def tiff(
    width: int,
    height: int,
    *,
    tile: tuple[int, int] | None = None,
    compression: int = 8,
    big: bool = False,
    pad: int = 0,
) -> bytes:
    """A TIFF of one directory and no pixels that claims to be of this size."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]
    tags += [(277, 3, 1, 1)]
    if tile is None:
        tags += [(273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 10)]
    else:
        tags += [(322, 4, 1, tile[0]), (323, 4, 1, tile[1]), (324, 4, 1, 8), (325, 4, 1, 10)]
    if big:
        head = b"II" + struct.pack("<HHHQ", 43, 8, 0, 16)
        entries = b"".join(struct.pack("<HHQQ", t, k, n, v) for t, k, n, v in sorted(tags))
        return head + struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", 0) + b"\0" * pad
    entries = b"".join(struct.pack("<HHII", t, k, n, v) for t, k, n, v in sorted(tags))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + b"\0" * pad


class Listener(http.server.BaseHTTPRequestHandler):
    """Notes whoever comes by."""

    visits: list[str] = []  # noqa: RUF012 - one list for all, emptied by the fixture

    def do_GET(self) -> None:
        self.visits.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[str]:
    Listener.visits.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def vrt(source: str) -> bytes:
    return (
        '<VRTDataset rasterXSize="20" rasterYSize="20"><SRS>EPSG:32616</SRS>'
        "<GeoTransform>0,1,0,0,0,-1</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()


def test_disguised_files_are_refused_and_reach_nothing(
    client: httpx2.Client, service: Any, listener: str, scene_file: Path
) -> None:
    """Also after a tile, a warp, has been made: that registers GDAL's VRT driver again in the reading process."""
    tile = client.get(f"/maps/{service.map_id}/tiles/16/17361/24893.png", params={"layer": "scene"})
    assert tile.status_code in (200, 404)
    wms = f'<GDAL_WMS><Service name="TMS"><ServerUrl>{listener}/x</ServerUrl></Service></GDAL_WMS>'.encode()
    disguises = [
        vrt(str(scene_file)),
        vrt(f"/vsicurl/{listener}/a.tif"),
        wms,
        f'{{"type": "TileJSON", "tiles": ["{listener}"]}}'.encode(),
        f"<GDAL_WMTS><GetCapabilitiesUrl>{listener}/wmts</GetCapabilitiesUrl></GDAL_WMTS>".encode(),
        f"/vsicurl/{listener}/a.tif".encode(),
        f"GTIFF_RAW:{scene_file}".encode(),
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        b"PK\x03\x04" + b"\0" * 100,
    ]
    for body in disguises:
        response = client.put("/scenes/scene.tif", content=body)
        assert response.status_code == 422, body
        assert "no TIFF" in response.json()["detail"]
    assert Listener.visits == []


@pytest.mark.parametrize(
    "name", ["GTIFF_RAW:x.tif", "vsicurl-http.tif", "%2Fvsicurl%2Fhttp:%2F%2Fx.tif", "..%2F..%2Fx"]
)
def test_names_are_labels_and_never_paths(
    client: httpx2.Client, service: Any, scene_file: Path, listener: str, name: str
) -> None:
    response = client.put(f"/scenes/{name}", content=scene_file.read_bytes())
    assert response.status_code in (201, 404)
    form = client.post("/scenes", files={"file": (f"/vsicurl/{listener}/../a.tif", scene_file.read_bytes())})
    assert form.status_code == 201
    stored = service.data / "scenes" / form.json()["scene"]["id"]
    assert sorted(p.name for p in stored.iterdir()) == ["original.json", "pixels.tif"]
    assert Listener.visits == []


@pytest.mark.parametrize("name", ["%00", "a%00b.tif", "%0d%0aX: y", "%E2%80%AEfdp.tif", "%20", "x" * 201, "%ED%A0%80"])
def test_odd_names_are_refused(client: httpx2.Client, scene_file: Path, name: str) -> None:
    response = client.put(f"/scenes/{name}", content=scene_file.read_bytes())
    assert response.status_code in (400, 404), response.text


def test_sidecars_are_not_looked_for(tmp_path: Path, scene_file: Path) -> None:
    """An uploaded scene is alone in its folder; even if it were not, its neighbours are not read."""
    path = tmp_path / "scene.tif"
    path.write_bytes(scene_file.read_bytes())
    plain = take(path)
    (tmp_path / "scene.tif.aux.xml").write_text(
        '<PAMDataset><SRS>EPSG:4326</SRS><PAMRasterBand band="1"><Description>nir</Description></PAMRasterBand>'
        "</PAMDataset>"
    )
    (tmp_path / "scene.tfw").write_text("1\n0\n0\n1\n0\n0\n")
    (tmp_path / "scene.tif.ovr").write_bytes(tiff(10, 10))
    (tmp_path / "scene.tif.msk").write_bytes(tiff(10, 10))
    assert take(path).facts == plain.facts


def test_the_170_byte_bomb(client: httpx2.Client, tmp_path: Path) -> None:
    bomb = tiff(65520, 65520, tile=(65520, 65520))
    assert len(bomb) < 200
    response = client.put("/scenes/bomb.tif", content=bomb)
    assert response.status_code in (413, 422)
    (tmp_path / "b.tif").write_bytes(bomb)
    with pytest.raises((HostileSceneError, TooLargeError)):
        check_tiff(tmp_path / "b.tif", SETTINGS)
    one_block = ServiceSettings(scene_pixels=10**12, scene_bytes=10**14, expansion=10**12)
    with pytest.raises(HostileSceneError, match="one block"):
        check_tiff(tmp_path / "b.tif", one_block)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (tiff(800_000, 800_000, tile=(256, 256), big=True, pad=29_000), "pixels"),
        (tiff(40_000, 40_000, tile=(512, 512), pad=1000), "times"),
        (tiff(60_000, 60_000, tile=(1, 1), pad=4_000_000), "blocks"),
        (tiff(0, 10), "sensible"),
        (tiff(10, 10, tile=(0, 16)), "sensible"),
        (tiff(5000, 5000)[:60], "cut off"),
        (b"II*\0" + struct.pack("<I", 2**31), "cut off"),
        (b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 60000) + b"\0" * 99, "entries"),
        (b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 8), "circle"),
        (b"II*\0\0\0\0\0", "no image"),
        (b"", "no TIFF"),
        (b"II+\0\x04\0\0\0" + b"\0" * 8, "no TIFF"),
    ],
)
def test_files_out_of_proportion_are_refused_without_a_decoder(tmp_path: Path, body: bytes, why: str) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(body)
    with pytest.raises((HostileSceneError, TooLargeError), match=why):
        check_tiff(path, SETTINGS)


def test_zeros_that_pack_a_thousandfold_cost_what_they_decode_to(
    client: httpx2.Client, service: Any, tmp_path: Path, new_scene: Callable[..., Path]
) -> None:
    path = tmp_path / "zeros.tif"
    profile = {"driver": "GTiff", "width": 20_000, "height": 20_000, "count": 3, "dtype": "uint8", "tiled": True}
    profile |= {"crs": "EPSG:32616", "transform": rasterio.Affine(0.6, 0, 7e5, 0, -0.6, 4e6)}
    with rasterio.open(path, "w", compress="zstd", sparse_ok=True, **profile) as target:
        target.write(np.zeros((3, 256, 256), np.uint8), window=((0, 256), (0, 256)))
    api = psutil.Process(service.process.pid)
    before = api.memory_info().rss
    response = client.put("/scenes/zeros.tif", content=path.read_bytes())
    assert response.status_code in (413, 422)
    assert api.memory_info().rss - before < 30_000_000


def test_a_directory_that_never_ends_is_refused(tmp_path: Path) -> None:
    chain = b"II*\0" + struct.pack("<I", 8)
    for n in range(200):
        chain += struct.pack("<H", 0) + struct.pack("<I", 8 + 6 * (n + 1))
    (tmp_path / "chain.tif").write_bytes(chain + b"\0" * 10)
    with pytest.raises(HostileSceneError, match="more than 64"):
        check_tiff(tmp_path / "chain.tif", SETTINGS)


@pytest.mark.parametrize("term", [np.nan, np.inf, 0.0])
def test_a_transform_that_leads_nowhere_is_refused(
    client: httpx2.Client, tmp_path: Path, new_scene: Callable[..., Path], term: float
) -> None:
    path = new_scene(tmp_path / "t.tif", 20, 20, transform=rasterio.Affine(1.5, 0, 0, 0, -1.5, 0))
    body = path.read_bytes().replace(struct.pack("<dd", 1.5, 1.5), struct.pack("<dd", term, term))
    assert body != path.read_bytes()
    response = client.put("/scenes/t.tif", content=body)
    assert response.status_code == 422
    assert "/incoming/" not in response.text


def test_the_opening_process_is_limited_in_memory_and_time(tmp_path: Path, scene_file: Path) -> None:
    with pytest.raises(HostileSceneError, match="within the limits"):
        take(scene_file, ServiceSettings(inspect_memory=60_000_000, disk_reserve=0))
    with pytest.raises(HostileSceneError, match="within the limits"):
        take(scene_file, ServiceSettings(ingest_seconds=0.01, disk_reserve=0))


ODD = ["9" * 30, "-1", "0x10", "1e3", "%F0%9F%A6%86", "..%2f..%2fetc%2fpasswd", "%00", "' OR 1=1 --", "a" * 5000]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "path",
    [
        "/scenes/{}",
        "/jobs/{}",
        "/jobs/{}/events",
        "/maps/{}",
        "/collections/{}",
        "/collections/{}/items",
        "/collections/{map}/items/{}",
        "/maps/{map}/{}",
        "/maps/{map}/tiles/{}/0/0.png",
        "/maps/{map}/tiles/1/{}/0.png",
        "/maps/{map}/point?lon={}&lat={}",
        "/jobs?before={}",
        "/scenes?after={}",
        "/maps?limit={}",
        "/collections?limit={}",
    ],
)
def test_odd_values_are_4xx_and_never_500(client: httpx2.Client, service: Any, path: str, odd: str) -> None:
    response = client.get(path.replace("{map}", service.map_id).replace("{}", odd))
    harmless = odd in ("1e3", "-1", "0x10") and response.status_code == 200
    assert 400 <= response.status_code < 500 or harmless, response.text
    if not harmless:
        assert response.headers["content-type"] == "application/problem+json"


def test_careful_headers_and_a_request_id(client: httpx2.Client) -> None:
    response = client.get("/", headers={"X-Request-Id": "abc-1"})
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-request-id"] == "abc-1"
    assert "server" not in response.headers
    assert "access-control-allow-origin" not in client.get("/", headers={"Origin": "http://evil.test"}).headers
    forged = client.get("/nothing", headers={"X-Request-Id": "a b\tc"})
    assert forged.json()["request_id"] == forged.headers["x-request-id"] != "a b\tc"


def test_pages_of_other_sites_reach_nothing(client: httpx2.Client, scene_file: Path) -> None:
    files = {"file": ("a.tif", scene_file.read_bytes())}
    cross = client.post("/scenes", files=files, headers={"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.test"})
    assert cross.status_code == 403
    assert client.get("/", headers={"Host": "evil.test"}).status_code == 421
    assert client.get("/", headers={"Host": "localhost:1"}).status_code == 200


def test_a_page_escapes_what_users_wrote(client: httpx2.Client, service: Any, new_map: Callable[..., str]) -> None:
    from geounet.service.store import Store

    store = Store(ServiceSettings(data=service.data, disk_reserve=0))
    with store.database.write() as db:
        db.execute("UPDATE maps SET title = ? WHERE id = ?", ("<script>alert(1)</script>", service.map_id))
    for path in ("/collections", f"/collections/{service.map_id}", f"/collections/{service.map_id}/items"):
        page = client.get(path, params={"f": "html"}).text
        assert "<script>" not in page
        assert "&lt;script&gt;" in page


def test_large_json_bodies_are_cut_off(client: httpx2.Client) -> None:
    response = client.post("/jobs", content=b'{"scene": "' + b"a" * 3_000_000 + b'"}')
    assert response.status_code in (400, 413)


@pytest.mark.parametrize(
    "options",
    [
        {"assume_crs": "http://127.0.0.1:1/crs"},
        {"assume_crs": "/etc/passwd"},
        {"assume_crs": "EPSG:99999999999"},
        {"bands": {"red": 0}},
        {"bands": {"red": 10**30}},
        {"bands": {}},
        {"min_area_m2": -1},
        {"min_area_m2": "NaN"},
        {"formats": ["shp"]},
        {"stretch": "rm -rf"},
        {"area": {"type": "Point", "coordinates": [0, 0]}},
        {"area": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]]}},
        {"area": {"type": "Polygon", "coordinates": [[[0, 0], [1000, 1], [0, 1], [0, 0]]]}},
        {"area": {"type": "Polygon", "coordinates": []}},
        {"area": {"type": "Polygon", "coordinates": "x"}},
        {"area": {"type": "Polygon", "coordinates": [[[[[[0]]]]]]}},
        {"unknown": 1},
    ],
)
def test_odd_options_are_refused(client: httpx2.Client, options: dict[str, Any]) -> None:
    response = client.post("/jobs", json={"scene": "0" * 20, "options": options})
    assert response.status_code == 400, response.text
