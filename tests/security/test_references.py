"""A decoder that follows references inside the data: the proof of the fault, and every layer alone against it."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geounet.service.errors import HostileSceneError
from geounet.service.processes.raster_pool import Readers
from geounet.service.processes.sandbox.kernel import probe
from geounet.service.processes.tiff_header import check_tiff
from geounet.service.processes.upload_check import ingest_upload
from geounet.service.settings import ServiceSettings
from tiles.scene.source import gdal_environment, open_dataset
from tiles.tiff.references import REFERENCE_DOMAINS, ReferenceFoundError, reference_in_metadata

HELD = probe("auto")
SETTINGS = ServiceSettings(disk_reserve=0)

_FOLLOW = """
import json, sys
path, layers = sys.argv[1], sys.argv[2].split(",")
import rasterio
from geounet.service.processes.sandbox.decoders import load_decoders
from geounet.service.processes.sandbox.kernel import Fence, enter, runtime_paths
load_decoders(("GTiff", "MEM") if "drivers" in layers else None)
enter(Fence("auto", (*runtime_paths(), path)), layers)
found = b""
with rasterio.Env(), rasterio.open(path, driver="GTiff") as file:
    try:
        if file.overviews(1):
            found = file.read(1, out_shape=(64, 64)).tobytes()
    except rasterio.errors.RasterioError:
        pass
print(json.dumps({"found": found.decode("latin-1")}))
"""
"""What a tile of a scene came to: overviews are asked for, and the coarsest is read; fenced by some layers or none."""


def follow(path: Path, *layers: str) -> str:
    """The pixels that a process behind `layers` reads from the file's overview."""
    command = [sys.executable, "-c", _FOLLOW, str(path), ",".join(layers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return str(json.loads(done.stdout)["found"])


@pytest.fixture
def reads_a_file(tmp_path: Path, forge: Any, secret: Path) -> Path:
    """A GeoTIFF whose overview is a file elsewhere on the disk."""
    path = tmp_path / "upload.tif"
    path.write_bytes(forge.tiff(forge.overview_file(forge.raw_band(secret))))
    return path


@pytest.fixture
def asks_a_server(tmp_path: Path, forge: Any, listener: Any) -> Path:
    """A GeoTIFF whose overview lies on a web server."""
    path = tmp_path / "asks.tif"
    path.write_bytes(forge.tiff(forge.overview_file(f"{listener.url}/overview")))
    return path


def lacks(layer: str) -> bool:
    return not {"landlock": HELD.landlock, "seccomp": HELD.seccomp, "network": HELD.network}.get(layer, True)


def test_without_any_layer_gdal_follows(reads_a_file: Path, asks_a_server: Path, listener: Any, forge: Any) -> None:
    """The proof is alive: where it is not, the tests below would show nothing."""
    assert forge.secret_text.decode() in follow(reads_a_file)
    assert follow(asks_a_server) == ""
    assert "/overview" in listener.visits


@pytest.mark.parametrize("layer", ["drivers", "landlock"])
def test_a_layer_alone_keeps_files_out_of_reach(reads_a_file: Path, forge: Any, layer: str) -> None:
    if lacks(layer):
        pytest.skip(f"this kernel has no {layer}")
    assert follow(reads_a_file, layer) == ""


@pytest.mark.parametrize("layer", ["drivers", "landlock", "seccomp", "network"])
def test_a_layer_alone_keeps_servers_out_of_reach(asks_a_server: Path, listener: Any, layer: str) -> None:
    if lacks(layer) or (layer == "landlock" and HELD.landlock < 4):
        pytest.skip(f"this kernel has no {layer} that knows sockets")
    assert follow(asks_a_server, layer) == ""
    assert listener.visits == []


def test_the_directories_alone_are_refused(reads_a_file: Path, asks_a_server: Path) -> None:
    for path in (reads_a_file, asks_a_server):
        with pytest.raises(HostileSceneError, match="metadata domain OVERVIEWS"):
            check_tiff(path, SETTINGS)


def test_what_gdal_has_read_alone_is_refused(
    reads_a_file: Path, asks_a_server: Path, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiles.scene.source.refuse_references_beside", lambda *_, **__: None)
    for path in (reads_a_file, asks_a_server):
        with gdal_environment(path), pytest.raises(ReferenceFoundError, match="--trust"):
            open_dataset(path)
    assert listener.visits == []


def test_all_layers_together(tmp_path: Path, reads_a_file: Path, asks_a_server: Path, listener: Any) -> None:
    for path in (reads_a_file, asks_a_server):
        assert follow(path, "drivers", "landlock", "seccomp", "network") == ""
        with pytest.raises(HostileSceneError):
            ingest_upload(path, tmp_path, "upload.tif", SETTINGS)
    assert listener.visits == []


def test_a_scene_that_was_kept_before_is_not_followed_either(
    tmp_path: Path, forge: Any, secret: Path, listener: Any
) -> None:
    """The readers of tiles and points do not rely on what the door has checked."""
    settings = ServiceSettings(data=tmp_path / "data", disk_reserve=0)
    readers = Readers(settings, 1)
    try:
        for name, reference in (("a", forge.raw_band(secret)), ("b", f"{listener.url}/x")):
            path = settings.data / "scenes" / name / "scene.tif"
            path.parent.mkdir(parents=True)
            path.write_bytes(forge.tiff(forge.overview_file(reference)))
            request = {"want": "tile", "layer": "scene", "path": str(path), "x": 1111, "y": 1576, "z": 12}
            with pytest.raises(Exception, match="cannot be read"):
                readers.ask(request)
    finally:
        readers.close()
    assert listener.visits == []


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 2, 7])
def test_every_kind_of_tiff_is_looked_into(tmp_path: Path, forge: Any, order: str, big: bool, kind: int) -> None:
    tag = {n: (kind, count, data) for n, (_, count, data) in forge.overview_file("/x").items()}
    path = tmp_path / "a.tif"
    path.write_bytes(forge.tiff(tag, order=order, big=big))
    with pytest.raises(HostileSceneError, match="OVERVIEWS"):
        check_tiff(path, SETTINGS)


@pytest.mark.parametrize("kind", [3, 4, 5, 12, 13, 16, 99])
def test_metadata_that_are_no_text_are_refused(tmp_path: Path, forge: Any, kind: int) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(forge.tiff({42112: (kind, 2, b"<G/>" + b"\0" * 20)}))
    with pytest.raises(HostileSceneError, match="no text"):
        check_tiff(path, SETTINGS)


@pytest.mark.parametrize("pointer", [0, 330, 34665, 34853])
def test_every_directory_is_looked_into(tmp_path: Path, forge: Any, pointer: int) -> None:
    """The next of the chain, and those that tags point to."""
    plain = forge.tiff({} if pointer == 0 else {pointer: (4, 1, struct.pack("<I", 0))})
    entries = struct.unpack_from("<H", plain, 8)[0]
    at = 10 + 12 * entries if pointer == 0 else plain.index(struct.pack("<HHI", pointer, 4, 1)) + 8
    text = forge.overview_file("/x")[42112][2]
    second = struct.pack("<HHHIII", 1, 42112, 2, len(text), len(plain) + 18, 0) + text
    path = tmp_path / "a.tif"
    path.write_bytes(plain[:at] + struct.pack("<I", len(plain)) + plain[at + 4 :] + second)
    with pytest.raises(HostileSceneError, match="OVERVIEWS"):
        check_tiff(path, SETTINGS)


def test_a_tag_that_stands_twice_is_looked_into_twice(tmp_path: Path, forge: Any) -> None:
    whole = bytearray(forge.tiff({**forge.overview_file("/x"), 42113: (2, 2, b"0\0")}))
    at = whole.index(struct.pack("<HH", 42113, 2))
    whole[at : at + 2] = struct.pack("<H", 42112)  # a harmless one behind the other
    (tmp_path / "a.tif").write_bytes(whole)
    with pytest.raises(HostileSceneError):
        check_tiff(tmp_path / "a.tif", SETTINGS)


ITEM = '<Item name="OVERVIEW_FILE" domain="{}">x</Item>'


@pytest.mark.parametrize("domain", sorted(REFERENCE_DOMAINS))
def test_domains_that_hold_references_are_refused(domain: str) -> None:
    for written in (domain, domain.upper(), f" {domain}\t"):
        assert reference_in_metadata(f"<GDALMetadata>{ITEM.format(written)}</GDALMetadata>".encode())


@pytest.mark.parametrize(
    "xml",
    [
        ITEM.format("&#79;VERVIEWS"),
        ITEM.format("&#x4f;VERVIEWS"),
        ITEM.format("&amp;#79;VERVIEWS"),
        ITEM.format("&amp;amp;#79;VERVIEWS"),
        ITEM.format("OVERVIEWS").replace("domain", "DOMAIN"),
        "<Item name='OVERVIEW_FILE'\n\tdomain\n=\n'OVERVIEWS'>x</Item>",
        "<Item><name>OVERVIEW_FILE</name><domain>OVERVIEWS</domain>x</Item>",
        "<a><b><c><Item domain='geolocation' name='X_DATASET'>x</Item></c></b></a>",
        "<Item xmlns:g='urn:g' g:domain='OVERVIEWS' name='OVERVIEW_FILE'>x</Item>",
        "<Item name='a'>x</Item>" + ITEM.format("xml:VRT"),
        ITEM.format("OVERVIEWS") + "\0",
        # what two parsers could read in two ways
        "<Item name=OVERVIEW_FILE domain=OVERVIEWS>x</Item>",
        "<!-- " + ITEM.format("OVERVIEWS") + " -->",
        "<Item name='a' domain='b' domain='OVERVIEWS'>x</Item>",
        "<Item><domain><![CDATA[OVERVIEWS]]></domain></Item>",
        "<?x " + ITEM.format("OVERVIEWS") + "?>",
        ITEM.format("OVERVIEWS") + "\0<Item>",
        "<Item name='a'>un & escaped</Item>",
        "<Item>",
    ],
)
def test_no_trick_of_xml_hides_a_domain(xml: str) -> None:
    assert reference_in_metadata(f"<GDALMetadata>{xml}</GDALMetadata>".encode())
    assert reference_in_metadata(f'<?xml version="1.0"?>\n<GDALMetadata>{xml}</GDALMetadata>'.encode() + b"\0\0")


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY d "OVERVIEWS">]><GDALMetadata><Item domain="&d;">x</Item></GDALMetadata>',
        f"<GDALMetadata>{ITEM.format('OVERVIEWS')}</GDALMetadata>".encode("utf-16"),
        b"\xef\xbb\xbf" + f"<GDALMetadata>{ITEM.format('OVERVIEWS')}</GDALMetadata>".encode(),
        b"GDALMetadata",
        b"\xff<GDALMetadata>",
    ],
)
def test_no_encoding_hides_a_domain(data: bytes) -> None:
    assert reference_in_metadata(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"<GDALMetadata>\n  <Item name='AREA_OR_POINT'>Area</Item>\n</GDALMetadata>\0",
        b"<GDALMetadata><Item name='DESCRIPTION' sample='0' role='description'>red &amp; hot</Item></GDALMetadata>",
        b"<GDALMetadata><Item name='S' domain='RPC'>1</Item><Item name='overviews'>http://x.test</Item></GDALMetadata>",
        "<GDALMetadata><Item name='place'>Zürich</Item></GDALMetadata>".encode("latin-1"),
        b'<?xml version="1.0" encoding="UTF-8"?><GDALMetadata/>',
    ],
)
def test_ordinary_metadata_pass(data: bytes) -> None:
    assert reference_in_metadata(data) is None


def test_a_grid_file_of_the_crs_is_a_reference(tmp_path: Path, forge: Any) -> None:
    text = b'ESRI PE String = GEOGCS["x",EXTENSION["PROJ4","+proj=longlat +nadgrids=/etc/passwd"]]|\0'
    (tmp_path / "a.tif").write_bytes(forge.tiff({34737: (2, len(text), text)}))
    with pytest.raises(HostileSceneError, match="grid file"):
        check_tiff(tmp_path / "a.tif", SETTINGS)


def test_the_command_line_refuses_and_trusts_when_told(
    reads_a_file: Path, asks_a_server: Path, listener: Any, forge: Any
) -> None:
    for path in (reads_a_file, asks_a_server):
        done = subprocess.run([sys.executable, "-m", "geounet", "info", str(path)], capture_output=True, text=True)
        assert done.returncode == 3
        assert "OVERVIEWS" in done.stderr
    assert listener.visits == []
    trusted = [sys.executable, "-m", "geounet", "info", "--trust", str(reads_a_file)]
    assert "OVERVIEWS" not in subprocess.run(trusted, capture_output=True, text=True).stderr


@pytest.mark.parametrize("companion", [".ovr", ".msk", ".ovr.msk", ".aux.xml", ".ovr.aux.xml"])
def test_companions_of_a_local_file_are_looked_into(tmp_path: Path, forge: Any, companion: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(forge.tiff())
    pam = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">x</MDI></Metadata></PAMDataset>'
    body = pam.encode() if companion.endswith("xml") else forge.tiff(forge.overview_file("x"))
    path.with_name(path.name + companion).write_bytes(body)
    with gdal_environment(path), pytest.raises(ReferenceFoundError):
        open_dataset(path)


def test_a_companion_that_is_no_tiff_is_refused(tmp_path: Path, forge: Any, secret: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(forge.tiff())
    path.with_name("a.tif.ovr").write_text(forge.raw_band(secret))
    with gdal_environment(path), pytest.raises(ReferenceFoundError, match="no sound TIFF"):
        open_dataset(path)


def test_all_real_scenes_pass(real: Callable[[str], Path]) -> None:
    scenes = sorted(real("scenes").glob("*.tif"))
    assert len(scenes) >= 10
    for path in scenes:
        with gdal_environment(path), open_dataset(path):
            pass
        if path.name != "corrupt.tif":
            check_tiff(path, SETTINGS)
