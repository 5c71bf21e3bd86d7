"""TIFF files that no library would write, made of bytes; and a listener on loopback that notes who comes by."""

import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

Entry = tuple[int, int, bytes]
"""A tag: its TIFF type, its count of values, its bytes in the file's byte order."""

ASCII = 2
METADATA = 42112
SECRET = b"no client of the service may ever read this line "
SIDE = 512


def tiff(
    extra: Mapping[int, Entry] | None = None,
    *,
    order: str = "<",
    big: bool = False,
    place: bool = True,
    side: int = SIDE,
) -> bytes:
    """An uncompressed grey image of `side` x `side` pixels in UTM zone 16, with further tags in its directory."""

    def short(value: int) -> Entry:
        return 3, 1, struct.pack(order + "H", value)

    def long(value: int) -> Entry:
        return 4, 1, struct.pack(order + "I", value)

    pixels = bytes(range(256)) * (side * side // 256)
    tags: dict[int, Entry] = {256: long(side), 257: long(side), 258: short(8), 259: short(1), 262: short(1)}
    tags |= {273: long(0), 277: short(1), 278: long(side), 279: long(len(pixels))}
    if place:
        keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32616)
        tags[33550] = (12, 3, struct.pack(order + "3d", 0.6, 0.6, 0))
        tags[33922] = (12, 6, struct.pack(order + "6d", 0, 0, 0, 700_000, 4_400_000, 0))
        tags[34735] = (3, len(keys), struct.pack(f"{order}{len(keys)}H", *keys))
    tags |= extra or {}
    start, entry, pointer = (16, 20, "Q") if big else (8, 12, "I")
    room = struct.calcsize("<" + pointer)
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    body_at = start + len(count) + entry * len(tags) + room
    body, entries = b"", b""
    for number in sorted(tags):
        kind, values, data = tags[number]
        if number == 273:
            behind = sum(len(d) + len(d) % 2 for _, _, d in tags.values() if len(d) > room)
            data = struct.pack(order + "I", body_at + behind)
        if len(data) > room:
            field = struct.pack(order + pointer, body_at + len(body))
            body += data + b"\0" * (len(data) % 2)
        else:
            field = data.ljust(room, b"\0")
        entries += struct.pack(order + "HH" + pointer, number, kind, values) + field
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8))
    return head + count + entries + b"\0" * room + body + pixels


def metadata(xml: str | bytes) -> dict[int, Entry]:
    """The tag that GDAL keeps its metadata in."""
    data = (xml.encode() if isinstance(xml, str) else xml) + b"\0"
    return {METADATA: (ASCII, len(data), data)}


def overview_file(reference: str, domain: str = "OVERVIEWS") -> dict[int, Entry]:
    """Metadata that make GDAL open `reference` for overviews; it undoes entities twice."""
    item = f'<Item name="OVERVIEW_FILE" domain="{domain}">{escape(escape(reference))}</Item>'
    return metadata(f"<GDALMetadata>{item}</GDALMetadata>")


def raw_band(path: Path, side: int = 64) -> str:
    """A VRT that shows the bytes of any file as pixels."""
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{path}</SourceFilename><ImageOffset>0'
        f"</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>{side}</LineOffset></VRTRasterBand></VRTDataset>"
    )


class Forge:
    """What makes hostile files; a fixture, so that every module of tests may use it."""

    secret_text = SECRET
    tiff = staticmethod(tiff)
    metadata = staticmethod(metadata)
    overview_file = staticmethod(overview_file)
    raw_band = staticmethod(raw_band)


@pytest.fixture(scope="session")
def forge() -> Forge:
    """Makers of hostile files."""
    return Forge()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A scratch file outside of all that a service serves."""
    path = tmp_path / "elsewhere" / "secret.txt"
    path.parent.mkdir()
    path.write_bytes(SECRET * 100)
    return path


@dataclass(frozen=True)
class Listener:
    """A web server of its own process, for GDAL may hold the interpreter's lock while it asks; and its notes."""

    url: str
    notes: Path

    @property
    def visits(self) -> list[str]:
        """Paths that were asked for."""
        return self.notes.read_text().split()


_LISTEN = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[1], "a") as notes:
            notes.write(self.path + "\\n")
        self.send_error(404)
    do_HEAD = do_GET
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """Listens on loopback until the test ends."""
    notes = tmp_path / "visits.txt"
    notes.touch()
    process = subprocess.Popen([sys.executable, "-c", _LISTEN, str(notes)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Listener(f"http://127.0.0.1:{int(process.stdout.readline())}", notes)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
