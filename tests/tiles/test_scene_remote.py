"""A scene on a web server is read in place: only the blocks that are needed travel."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tiles.errors import SceneError
from tiles.scene.scene import open_scene
from tiles.scene.source import gdal_environment, is_remote, local_path
from tiles.window import Window

GeoTiff = Callable[..., Path]
RGB = ("red", "green", "blue")


class Shelf:
    """A web server with byte ranges that counts what it sends and notes what it is asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.sent = 0
        self.asked: set[str] = set()
        shelf = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                shelf.asked.add(self.path)
                whole = shelf.files.get(self.path)
                if whole is None:
                    self.send_error(404)
                    return
                first, last = 0, len(whole) - 1
                wanted = self.headers.get("Range")
                if wanted:
                    start, _, end = wanted.removeprefix("bytes=").partition("-")
                    first, last = int(start), min(int(end or last), last)
                part = whole[first : last + 1]
                self.send_response(206 if wanted else 200)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(part)))
                if wanted:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{len(whole)}")
                self.end_headers()
                if body:
                    shelf.sent += len(part)
                    self.wfile.write(part)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    found = Shelf()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_only_the_blocks_of_a_window_are_fetched(geotiff: GeoTiff, shelf: Shelf) -> None:
    values = np.random.default_rng(0).integers(1, 255, (3, 1024, 1024)).astype(np.uint8)
    path = geotiff(values, tiled=True, blockxsize=128, blockysize=128, compress="deflate", photometric="RGB")
    shelf.files["/one.tif"] = path.read_bytes()
    with open_scene(f"{shelf.address}/one.tif", RGB) as scene:
        pixels = scene.read(Window(512, 256, 128, 128))
        np.testing.assert_array_equal(pixels.values, values[:, 512:640, 256:384])
        assert scene.source.size_bytes is None
        assert len(scene.fingerprint()) == 64
    assert shelf.sent < len(shelf.files["/one.tif"]) / 4
    assert shelf.asked == {"/one.tif"}  # no .ovr, .msk, .aux.xml is looked for


def test_gdals_own_prefix_works_too(geotiff: GeoTiff, shelf: Shelf) -> None:
    values = np.full((3, 64, 64), 7, dtype=np.uint8)
    shelf.files["/two.tif"] = geotiff(values, photometric="RGB").read_bytes()
    with open_scene(f"/vsicurl/{shelf.address}/two.tif", RGB) as scene:
        assert (scene.read(Window(0, 0, 64, 64)).values == 7).all()


def test_another_remote_file_has_another_fingerprint(geotiff: GeoTiff, shelf: Shelf) -> None:
    prints = set()
    for seed in range(2):
        values = np.random.default_rng(seed).integers(1, 60 + 99 * seed, (3, 256, 256)).astype(np.uint8)
        shelf.files[f"/{seed}.tif"] = geotiff(values, compress="deflate", photometric="RGB").read_bytes()
        with open_scene(f"{shelf.address}/{seed}.tif", RGB) as scene:
            prints.add(scene.fingerprint())
    assert len(prints) == 2


@pytest.mark.parametrize("content", [None, b"", b"<html>no such page</html>"])
def test_what_is_no_geotiff_at_an_address_is_refused_in_one_line(shelf: Shelf, content: bytes | None) -> None:
    if content is not None:
        shelf.files["/three.tif"] = content
    with pytest.raises(SceneError) as caught:
        open_scene(f"{shelf.address}/three.tif", RGB)
    assert "three.tif" in str(caught.value)
    assert "check the address" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("https://host/a.tif", True),
        ("s3://bucket/a.tif", True),
        ("/vsicurl/https://host/a.tif", True),
        ("/vsizip/a.zip/a.tif", True),
        ("a.tif", False),
        ("/data/https/a.tif", False),
        ("file:///data/a.tif", False),
    ],
)
def test_what_counts_as_an_address(path: str, remote: bool) -> None:
    assert is_remote(path) is remote


def test_a_file_address_is_a_file(geotiff: GeoTiff) -> None:
    path = geotiff(np.full((3, 8, 8), 7, dtype=np.uint8), name="a b#c?.tif", photometric="RGB")
    assert local_path(f"file://{path}") == path
    for name in (f"file://{path}", str(path), path):
        with open_scene(name, RGB) as scene:
            assert scene.read(Window(0, 0, 8, 8)).valid.all()


def test_gdal_settings_end_with_the_block() -> None:
    from rasterio.env import getenv, hasenv

    with gdal_environment("https://host/a.tif"):
        assert getenv()["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
    with gdal_environment("a.tif"):
        assert getenv()["GDAL_DISABLE_READDIR_ON_OPEN"] in ("TRUE", True)
    assert not hasenv()
