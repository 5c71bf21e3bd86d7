"""What cannot be used is refused in one line that names the file and the way on."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

from tiles.errors import BandError, SceneError
from tiles.scene.scene import open_scene
from tiles.window import Window

GeoTiff = Callable[..., Path]
RGB = ("red", "green", "blue")
PLAIN = np.full((3, 40, 50), 7, dtype=np.uint8)


def refusal(path: Path | str, **options: object) -> str:
    """The one line in which a scene is refused."""
    with pytest.raises(SceneError) as caught:
        open_scene(path, RGB, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text or "--assume-crs" in text
    return text


def test_a_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing.tif")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    assert "is empty" in refusal(tmp_path / "empty.tif")


def test_a_file_that_may_not_be_read(geotiff: GeoTiff, monkeypatch: pytest.MonkeyPatch) -> None:
    path = geotiff(PLAIN)
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything, so the refusal is played

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert "may not be read" in refusal(path)


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"<VRTDataset>", "VRT"),
        (b"PK\x03\x04", "zip"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"hello", "wrong first bytes"),
        (b"I", "wrong first bytes"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, head: bytes, word: str) -> None:
    path = tmp_path / "scene.tif"
    path.write_bytes(head)
    assert word in refusal(path)


def test_a_tiff_with_nothing_behind_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    path.write_bytes(b"II*\0\x08\0\0\0garbage that is no directory")
    assert "cannot be opened as a GeoTIFF" in refusal(path)


def test_a_name_cannot_select_another_driver(tmp_path: Path) -> None:
    assert "does not exist" in refusal("GTIFF_DIR:1:/etc/hostname")
    assert "does not exist" in refusal("NETCDF:/etc/hostname:x")


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.98])
def test_a_file_cut_short_is_refused_before_any_work(geotiff: GeoTiff, keep: float) -> None:
    values = np.random.default_rng(1).integers(0, 255, (3, 256, 256)).astype(np.uint8)
    path = geotiff(values, tiled=True, blockxsize=64, blockysize=64, compress="deflate", photometric="RGB")
    os.truncate(path, int(path.stat().st_size * keep))
    assert "cut short" in refusal(path)


def test_a_damaged_block_is_told_with_its_place_when_it_is_read(geotiff: GeoTiff) -> None:
    values = np.random.default_rng(1).integers(0, 255, (3, 256, 256)).astype(np.uint8)
    path = geotiff(values, tiled=True, blockxsize=64, blockysize=64, compress="deflate", photometric="RGB")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_1_2", "TIFF", bidx=1))
        length = int(file.get_tag_item("BLOCK_SIZE_1_2", "TIFF", bidx=1))
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * length)
    with open_scene(path, RGB) as scene:
        assert scene.read(Window(0, 0, 128, 256)).valid.all()
        with pytest.raises(SceneError, match=r"scene\.tif cannot be decoded in rows 128-191, columns 64-127 \(.+\)"):
            scene.read(Window(128, 0, 64, 256))


def test_a_palette(geotiff: GeoTiff) -> None:
    path = geotiff(PLAIN[:1], photometric="palette", colours=("palette",))
    assert "palette" in refusal(path)


@pytest.mark.parametrize(
    ("dtype", "bits", "way"),
    [("uint8", 1, "-expand gray"), ("uint8", 8, "-scale 0 255 255 0"), ("uint16", 16, "-scale 0 65535 65535 0")],
)
def test_a_negative_is_not_called_a_palette(geotiff: GeoTiff, dtype: str, bits: int, way: str) -> None:
    few = {"nbits": bits} if bits == 1 else {}
    text = refusal(geotiff(PLAIN[:1].astype(dtype) % 2, photometric="MINISWHITE", **few))
    assert "MinIsWhite" in text
    assert way in text
    assert "palette" not in text


@pytest.mark.parametrize(("code", "shown"), [("EPSG:26917", "EPSG:26917"), ("ESRI:102039", '"$(cat scene.prj)"')])
def test_a_prj_beside_a_world_file_is_offered(geotiff: GeoTiff, code: str, shown: str) -> None:
    path = geotiff(PLAIN, crs=None, photometric="RGB")
    path.with_suffix(".prj").write_text(CRS.from_string(code).to_wkt(version="WKT1_ESRI"))
    assert f"scene.prj beside it says one; give --assume-crs {shown}" in refusal(path)
    given = path.with_suffix(".prj").read_text() if "cat" in shown else shown
    with open_scene(path, RGB, assume_crs=given) as scene:
        assert scene.georef.gsd == pytest.approx(0.6, rel=0.2)


def test_complex_numbers(geotiff: GeoTiff) -> None:
    assert "complex64" in refusal(geotiff(PLAIN.astype(np.complex64)))


def test_no_crs_shows_the_option_and_goes_with_it(geotiff: GeoTiff) -> None:
    path = geotiff(PLAIN, crs=None, photometric="RGB")
    assert "--assume-crs EPSG:" in refusal(path)
    with open_scene(path, RGB, assume_crs="EPSG:32617") as scene:
        assert scene.georef.crs.to_epsg() == 32617
        assert scene.georef.gsd == pytest.approx(0.6, rel=0.002)
        assert any(n.level == "adjusted" and "EPSG:32617" in n.text for n in scene.notices)


def test_a_crs_that_is_none_is_refused(geotiff: GeoTiff) -> None:
    assert "names no CRS" in refusal(geotiff(PLAIN, crs=None, photometric="RGB"), assume_crs="EPSG:nonsense")


def test_a_crs_against_the_files_own_is_taken_with_a_warning(geotiff: GeoTiff) -> None:
    with open_scene(geotiff(PLAIN, photometric="RGB"), RGB, assume_crs="EPSG:32618") as scene:
        assert scene.georef.crs.to_epsg() == 32618
        assert any(n.level == "warning" and "EPSG:32617" in n.text for n in scene.notices)


MARS = (
    'GEOGCS["GCS_Mars_2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190,169.894447223612]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]]'
)


def test_another_planet_is_refused_and_can_be_overruled(geotiff: GeoTiff) -> None:
    path = geotiff(PLAIN, crs=MARS, transform=Affine(1e-5, 0, 10, 0, -1e-5, 5), photometric="RGB")
    text = refusal(path)
    assert "not the Earth" in text
    assert "--assume-crs" in text
    with open_scene(path, RGB, assume_crs="EPSG:4326") as scene:
        assert scene.georef.gsd == pytest.approx(1.1, rel=0.02)


def test_a_local_system_is_refused(geotiff: GeoTiff) -> None:
    path = geotiff(PLAIN, crs='LOCAL_CS["site grid",UNIT["metre",1]]', photometric="RGB")
    assert "local system (site grid)" in refusal(path)


def test_a_camera_model_alone_is_refused(geotiff: GeoTiff) -> None:
    path = geotiff(PLAIN, crs=None, transform=None, photometric="RGB")
    ones = [1.0] + [0.0] * 19
    model = RPC(
        height_off=100.0, height_scale=50.0, lat_off=40.0, lat_scale=0.1, long_off=-84.0, long_scale=0.1,
        line_off=20.0, line_scale=20.0, samp_off=25.0, samp_scale=25.0,
        line_num_coeff=ones, line_den_coeff=ones, samp_num_coeff=ones, samp_den_coeff=ones,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as file:
            file.rpcs = model
    text = refusal(path)
    assert "camera model (RPC)" in text
    assert "gdalwarp -rpc" in text
    assert "--assume-crs" in text


def test_a_crs_without_a_transform_is_refused(geotiff: GeoTiff) -> None:
    assert "no transform" in refusal(geotiff(PLAIN, transform=None, photometric="RGB"))


def test_a_transform_onto_a_line_is_refused(geotiff: GeoTiff) -> None:
    assert "onto a line" in refusal(geotiff(PLAIN, transform=Affine(1, 2, 3e5, 1, 2, 4e6), photometric="RGB"))


def test_a_place_that_does_not_exist_is_refused(geotiff: GeoTiff) -> None:
    path = geotiff(PLAIN, crs="EPSG:4326", transform=Affine(1e-5, 0, 300_000, 0, -1e-5, 4_000_000), photometric="RGB")
    assert "nowhere on the Earth" in refusal(path)


def test_bad_bands_are_a_scene_error_too(geotiff: GeoTiff) -> None:
    assert issubclass(BandError, SceneError)
    assert "bands 1-3; --bands red=9 is outside" in refusal(geotiff(PLAIN), bands={"red": 9})
