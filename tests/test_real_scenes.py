"""Real files, each with what must happen to it for an RGB model of 0.3-1.2 m."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geounet.bundle import ModelBundle, ModelCard
from geounet.errors import GeounetError
from geounet.preflight import preflight
from tiles.errors import TilesError
from tiles.grid import Window
from tiles.scene import open_scene

CARD: dict[str, Any] = {
    "name": "overhead",
    "bands": ["red", "green", "blue"],
    "normalisation": {"mean": [127.0] * 3, "std": [50.0] * 3},
    "legend": [{"value": 0, "name": "land", "color": (0, 90, 0)}, {"value": 1, "name": "water", "color": (0, 0, 90)}],
    "gsd_m": (0.3, 1.2),
    "weights": {"sha256": "0" * 64},
}


@dataclass(frozen=True)
class Wishes:
    bands: dict[str, int] | None = None
    assume_crs: str | None = None
    stretch: str | None = None
    formats: tuple[str, ...] = ("gpkg", "geojson")
    force: bool = False


GREY = {"bands": {"red": 1, "green": 1, "blue": 1}, "force": True}
FIRST = {"bands": {"red": 1, "green": 2, "blue": 3}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # file, options, words of the refusal
    ("RGB.byte.gcp.vrt", {}, "is a VRT"),
    ("corrupt.tif", {}, "cut short: rows 512-1023"),
    ("float_nan.tif", {}, "no coordinate reference system"),
    ("float_nan.tif", GREY, "no coordinate reference system"),
    ("rotated.tif", {}, "--assume-crs"),
    ("RGB.byte.tif", {}, "300 m a pixel"),
    ("RGBA.byte.tif", {}, "300 m a pixel"),
    ("alpha.tif", {}, "3.08 m a pixel"),
    ("all-nodata.tif", {}, "3 m a pixel"),
    ("world.rgb.tif", {}, "m a pixel"),
    ("naip_2020_5m.tif", FIRST, "5 m a pixel"),
    ("naip_2020_5m.tif", {}, "--bands red=1,green=2,blue=3"),
    ("landsat_2020.tif", {}, "--bands red=1,green=2,blue=3"),
    ("landsat_2020.tif", FIRST, "89.2 m a pixel"),
    ("clp.tif", {}, "no band is known to be red, green, blue"),
    ("cog_gcps.tif", {}, "no band is known to be red, green, blue"),
    ("cog_nodata_nan.tif", {}, '1 "Gamma0_VV" (gray)'),
    ("cog_scale.tif", {}, "The model wants: red, green, blue"),
    ("float_raster_with_nodata.tif", {}, "no band is known"),
    ("naip_block0_labels.tif", {}, "no band is known"),
    ("rgb1_fake_nir_epsg3857.tif", {}, "no band is known"),
    ("test_esri_wkt.tif", {}, "no band is known"),
]

ACCEPTED: list[tuple[str, dict[str, Any], tuple[int, int], float, str]] = [
    # file, options, (rows, columns) and metres a pixel of the map, what a notice says ("" where all is plain)
    ("naip_block0.tif", {}, (2560, 1792), 0.6, ""),
    ("cog_rgb_mask.tif", {}, (116, 192), 0.3, "averaged and mapped at 0.3 m"),
    ("RGBA.uint16.tif", {}, (411, 634), 1.38, "enlarged 1.1x"),
    # from here on only because they are forced
    ("RGB.byte.tif", {"force": True}, (718, 791), 299.9, "(forced)"),
    ("RGBA.byte.tif", {"force": True}, (718, 791), 299.9, "(forced)"),
    ("alpha.tif", {"force": True}, (1223, 1223), 3.08, "half transparent"),
    ("all-nodata.tif", {"force": True}, (2475, 71), 3.0, "(forced)"),
    ("world.rgb.tif", {"force": True}, (256, 512), 78_009.0, "(forced)"),
    ("naip_2020_5m.tif", FIRST | {"force": True}, (723, 934), 5.0, "(forced)"),
    ("landsat_2020.tif", FIRST | {"force": True}, (377, 697), 89.22, "(forced)"),
    ("clp.tif", GREY, (256, 256), 66.95, "several names"),
    ("cog_gcps.tif", GREY, (1071, 1417), 201.9, "warped from 210 ground control points"),
    ("cog_nodata_nan.tif", GREY, (549, 549), 200.0, "several names"),
    ("cog_scale.tif", GREY, (256, 256), 429.1, "are not applied"),
    ("float_raster_with_nodata.tif", GREY, (12, 13), 500.0, "several names"),
    ("naip_block0_labels.tif", GREY, (2560, 1792), 0.6, "several names"),
    ("rgb1_fake_nir_epsg3857.tif", GREY, (681, 676), 181.0, "several names"),
    ("test_esri_wkt.tif", GREY, (2, 2), 10.0, "several names"),
    ("rotated.tif", GREY | {"assume_crs": "EPSG:32617"}, (15, 10), 14.1, "taken to be in EPSG:32617"),
    ("float_nan.tif", GREY | {"assume_crs": "EPSG:32617"}, (2, 3), 100.0, "taken to be in EPSG:32617"),
]


def opened(folder: Path, name: str, wishes: Wishes) -> Any:
    return open_scene(
        folder / "scenes" / name,
        CARD["bands"],
        bands=wishes.bands,
        assume_crs=wishes.assume_crs,
        gsd_range=CARD["gsd_m"],
        force=wishes.force,
    )


@pytest.mark.parametrize(("name", "options", "words"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_refused(data_folder: Path, name: str, options: dict[str, Any], words: str) -> None:
    wishes = Wishes(**options)
    with pytest.raises((TilesError, GeounetError)) as caught, opened(data_folder, name, wishes) as scene:
        preflight(scene, ModelBundle(Path("overhead"), ModelCard.model_validate(CARD)), wishes)
    text = str(caught.value)
    assert words in text
    assert name in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "options", "shape", "gsd", "words"), ACCEPTED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_accepted(
    data_folder: Path, name: str, options: dict[str, Any], shape: tuple[int, int], gsd: float, words: str
) -> None:
    wishes = Wishes(**options)
    with opened(data_folder, name, wishes) as scene:
        assert scene.georef.shape == shape
        assert scene.georef.gsd == pytest.approx(gsd, rel=0.01)
        checked = preflight(scene, ModelBundle(Path("overhead"), ModelCard.model_validate(CARD)), wishes)
        assert words in " ".join(row.text for row in checked.rows)
        pixels = scene.read(Window(0, 0, *shape))
    assert np.isfinite(checked.stretch.apply(pixels.values, pixels.valid)).all()
    if scene.georef.shape == scene.source.shape:
        with rasterio.open(data_folder / "scenes" / name) as file:
            expected = file.dataset_mask() > 0
            if file.dtypes[0].startswith("float"):
                expected &= np.isfinite(file.read(1))
        np.testing.assert_array_equal(pixels.valid, expected)


def test_near_infrared_tagged_as_alpha(data_folder: Path) -> None:
    """Every image of this set tags its fourth band as alpha; it is near infrared, and every pixel is valid."""
    for path in sorted((data_folder / "naip" / "images").glob("*.tif"))[::20]:
        with open_scene(path, ("red", "green", "blue"), gsd_range=(0.3, 1.2)) as scene:
            assert scene.read(Window(0, 0, *scene.georef.shape)).valid.all()
            assert any("taken as a measurement" in notice.text for notice in scene.notices)
