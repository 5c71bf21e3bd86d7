"""A table of hostile files, each made by code, with what must become of it: refused, before a decoder sees a byte."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geounet.service.errors import HostileSceneError, TooLargeError
from geounet.service.processes.tiff_header import check_tiff
from geounet.service.settings import ServiceSettings

SETTINGS = ServiceSettings(disk_reserve=0)
SHAPES = [(order, big) for order in "<>" for big in (False, True)]
HUGE = 2**31 - 1


class Maker:
    """Files of one byte order and one size of offsets."""

    def __init__(self, forge: Any, order: str, big: bool) -> None:
        self.forge, self.order, self.big = forge, order, big

    def numbers(self, *values: int) -> tuple[int, int, bytes]:
        return 4, len(values), struct.pack(f"{self.order}{len(values)}I", *values)

    def made(self, extra: dict[int, Any] | None = None) -> bytes:
        return bytes(self.forge.tiff(extra or {}, order=self.order, big=self.big, side=16))

    def head(self, offset: int) -> bytes:
        mark = b"II" if self.order == "<" else b"MM"
        if self.big:
            return mark + struct.pack(self.order + "HHHQ", 43, 8, 0, offset)
        return mark + struct.pack(self.order + "HI", 42, offset)

    def directory(self, entries: int, following: int = 0, body: bytes = b"") -> bytes:
        count, pointer = ("Q", "Q") if self.big else ("H", "I")
        return struct.pack(self.order + count, entries) + body + struct.pack(self.order + pointer, following)


def hostile(maker: Maker) -> Iterator[tuple[str, bytes, type[Exception] | tuple[type[Exception], ...]]]:
    """(what it is, the file, the error that it must end in)."""
    n, refused = maker.numbers, HostileSceneError
    start = len(maker.head(0))
    yield "wider than any scene", maker.made({256: n(HUGE)}), TooLargeError
    yield "higher than any scene", maker.made({257: n(HUGE), 278: n(HUGE)}), TooLargeError
    yield "both", maker.made({256: n(HUGE), 257: n(HUGE)}), TooLargeError
    yield "no width", maker.made({256: n(0)}), refused
    yield "no height", maker.made({257: n(0)}), refused
    yield "no bands", maker.made({277: n(0)}), refused
    yield "no bits", maker.made({258: n(0)}), refused
    yield "bits beyond numbers", maker.made({258: n(129)}), refused
    yield "bits of one band beyond numbers", maker.made({258: n(8, 8, 60000)}), refused
    yield "rows of no height", maker.made({278: n(0)}), refused
    yield "tiles of no width", maker.made({322: n(0), 323: n(16)}), refused
    yield "tiles of no height", maker.made({322: n(16), 323: n(0)}), refused
    yield "one tile of 4 GB", maker.made({322: n(65520), 323: n(65520), 259: n(8)}), refused
    yield "one tile of 2**62 bytes", maker.made({322: n(HUGE), 323: n(HUGE), 259: n(8)}), refused
    yield "tiles of one pixel", maker.made({256: n(60000), 257: n(60000), 322: n(1), 323: n(1)}), refused
    yield "strips of one pixel", maker.made({256: n(1), 257: n(40_000_000), 278: n(1), 259: n(8)}), refused
    yield "9 GB in a few bytes", maker.made({256: n(55_000), 257: n(55_000), 277: n(3), 278: n(8), 259: n(8)}), refused
    many = {256: n(60_000), 257: n(60_000), 277: n(60_000), 278: n(8)}
    yield "more bands than a machine has bytes", maker.made(many), TooLargeError
    yield "one strip of 1 GB", maker.made({256: n(30_000), 257: n(30_000), 278: n(30_000), 259: n(8)}), refused
    yield "a width that is text", maker.made({256: (2, 4, b"abc\0")}), refused
    yield "a width that is a fraction", maker.made({256: (5, 1, struct.pack(maker.order + "II", 16, 1))}), refused
    yield "a width that is a float", maker.made({256: (11, 1, struct.pack(maker.order + "f", 16))}), refused
    yield "a tag of 4 billion bytes", maker.made({65000: (1, 2**32 - 1, b"x")}), refused
    yield "a tag of 4 billion doubles", maker.made({65000: (12, 2**32 - 1, b"x")}), refused
    yield "metadata of 4 billion bytes", maker.made({42112: (2, 2**32 - 1, b"x")}), refused
    yield "sub-directories without end", maker.made({330: (4, 100_000, bytes(400_000))}), refused
    yield "a sub-directory behind the end", maker.made({330: n(HUGE)}), refused
    yield "a sub-directory that is text", maker.made({330: (2, 4, b"abc\0")}), refused
    yield "a camera's directory behind the end", maker.made({34665: n(HUGE)}), refused
    yield "positions behind the end", maker.made({34853: n(HUGE)}), refused
    yield "the header as a sub-directory", maker.made({330: n(2)}), refused
    yield "a directory behind the end", maker.head(HUGE) + bytes(64), refused
    yield "no directory", maker.head(0), refused
    yield "a directory that is itself", maker.head(start) + maker.directory(0, start), refused
    two = maker.directory(0, start)
    second = start + len(two)
    yield "two directories in a circle", maker.head(start) + maker.directory(0, second) + two, refused
    step = len(two)
    chain = b"".join(maker.directory(0, start + step * (i + 1)) for i in range(200))
    yield "two hundred directories", maker.head(start) + chain + bytes(16), refused
    yield "a directory of 60,000 entries", maker.head(start) + maker.directory(60_000, 0, bytes(2000)), refused
    yield "a directory that is cut off", maker.head(start) + maker.directory(40, 0), refused
    whole = maker.made()
    yield "only a header", whole[:start], refused
    yield "half a header", whole[:5], refused
    yield "half a directory", whole[: start + 30], refused
    yield "nothing", b"", refused
    for domain in ("OVERVIEWS", "GEOLOCATION", "xml:VRT", "SUBDATASETS"):
        item = f'<GDALMetadata><Item name="X_DATASET" domain="{domain}">/etc/passwd</Item></GDALMetadata>'
        yield f"metadata of {domain}", maker.made(maker.forge.metadata(item)), refused
    yield "a reference to a file", maker.made(maker.forge.overview_file("/etc/passwd")), refused
    yield "a reference to the network", maker.made(maker.forge.overview_file("/vsicurl/http://127.0.0.1:1/x")), refused
    yield "metadata that are no text", maker.made({42112: (2, 9, b"\xff\xfe<\0G\0D\0\0")}), refused


DISGUISES = {
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a JPEG": b"\xff\xd8\xff\xe0" + bytes(100),
    "a zip": b"PK\x03\x04" + bytes(100),
    "a VRT": b'<VRTDataset rasterXSize="1" rasterYSize="1"/>',
    "a WMS": b"<GDAL_WMS><Service name='TMS'/></GDAL_WMS>",
    "a path": b"/vsicurl/http://127.0.0.1/x.tif",
    "a shell script": b"#!/bin/sh\nrm -rf /\n",
    "an executable": b"\x7fELF" + bytes(100),
    "a PDF": b"%PDF-1.7\n" + bytes(100),
    "HTML": b"<html><script>alert(1)</script></html>",
    "a database": b"SQLite format 3\0" + bytes(100),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "netCDF": b"CDF\x01" + bytes(100),
    "JSON": b'{"type": "TileJSON", "tiles": ["http://127.0.0.1:1/"]}',
    "both byte orders": b"IM*\0\x08\0\0\0" + bytes(100),
    "the wrong magic": b"II+\0\x04\0\0\0" + bytes(100),
    "magic of another order": b"II\0*\x08\0\0\0" + bytes(100),
    "MDI": b"EP*\0" + bytes(100),
    "zeros": bytes(10_000),
    "ones": b"\xff" * 10_000,
}


@pytest.mark.parametrize(("order", "big"), SHAPES)
def test_hostile_files_are_refused_quickly_and_in_words(tmp_path: Path, forge: Any, order: str, big: bool) -> None:
    tried = 0
    for what, body, error in hostile(Maker(forge, order, big)):
        _refused(tmp_path / "x.tif", what, body, error)
        tried += 1
    assert tried >= 45


def test_disguised_files_are_refused(tmp_path: Path) -> None:
    for what, body in DISGUISES.items():
        _refused(tmp_path / "x.tif", what, body, HostileSceneError)


def test_the_table_is_as_long_as_promised(forge: Any) -> None:
    assert sum(len(list(hostile(Maker(forge, order, big)))) for order, big in SHAPES) + len(DISGUISES) >= 150


def test_the_honest_file_that_all_are_made_of_is_taken(tmp_path: Path, forge: Any) -> None:
    for order, big in SHAPES:
        (tmp_path / "x.tif").write_bytes(Maker(forge, order, big).made())
        assert len(check_tiff(tmp_path / "x.tif", SETTINGS)) == 1


def _refused(path: Path, what: str, body: bytes, error: Any) -> None:
    path.write_bytes(body)
    began, said = time.monotonic(), ""
    try:
        check_tiff(path, SETTINGS)
        pytest.fail(f"{what} was taken")
    except error as refusal:
        said = str(refusal)
    except (HostileSceneError, TooLargeError) as other:
        pytest.fail(f"{what}: {type(other).__name__}: {other}")
    assert said, what
    assert str(path) not in said, what
    assert time.monotonic() - began < 5, what
