"""Real files, each with what must happen to it for an RGB model of 0.3-1.2 m."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geounet.errors import GeounetError
from geounet.mapping.preflight import examine, preflight
from geounet.model.bundle import DEFAULT_BUNDLE, ModelBundle, ModelCard, shipped_bundles
from geounet.model.stretch import LEVELS
from geounet.options import Options
from tiles.errors import TilesError
from tiles.scene.scene import open_scene
from tiles.window import Window

Real = Callable[[str], Path]
CARD: dict[str, Any] = {
    "name": "overhead",
    "bands": ["red", "green", "blue"],
    "normalisation": {"mean": [127.0] * 3, "std": [50.0] * 3},
    "legend": [{"value": 0, "name": "land", "color": (0, 90, 0)}, {"value": 1, "name": "water", "color": (0, 0, 90)}],
    "gsd_m": (0.3, 1.2),
    "weights": {"sha256": "0" * 64},
}


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
    ("naip_block.tif", {}, (640, 640), 0.6, ""),
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


def opened(path: Path, wishes: Options) -> Any:
    return open_scene(
        path,
        CARD["bands"],
        bands=wishes.bands,
        assume_crs=wishes.assume_crs,
        gsd_range=CARD["gsd_m"],
        force=wishes.force,
    )


@pytest.mark.parametrize(("name", "options", "words"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_refused(real: Real, name: str, options: dict[str, Any], words: str) -> None:
    wishes = Options(**options)
    with pytest.raises((TilesError, GeounetError)) as caught, opened(real(f"scenes/{name}"), wishes) as scene:
        preflight(scene, ModelBundle(Path("overhead"), ModelCard.model_validate(CARD)), wishes)
    text = str(caught.value)
    assert words in text
    assert name in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "options", "shape", "gsd", "words"), ACCEPTED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_accepted(
    real: Real, name: str, options: dict[str, Any], shape: tuple[int, int], gsd: float, words: str
) -> None:
    wishes = Options(**options)
    with opened(real(f"scenes/{name}"), wishes) as scene:
        assert scene.georef.shape == shape
        assert scene.georef.gsd == pytest.approx(gsd, rel=0.01)
        checked = preflight(scene, ModelBundle(Path("overhead"), ModelCard.model_validate(CARD)), wishes)
        assert words in " ".join(row.text for row in checked.rows)
        pixels = scene.read(Window(0, 0, *shape))
    assert np.isfinite(checked.stretch.apply(pixels.values, pixels.valid)).all()
    if scene.georef.shape == scene.source.shape:
        with warnings.catch_warnings(), rasterio.open(real(f"scenes/{name}")) as file:
            warnings.simplefilter("ignore")  # nodata beside a band tagged as alpha: rasterio says so
            expected = file.dataset_mask() > 0
            if file.dtypes[0].startswith("float"):
                expected &= np.isfinite(file.read(1))
        np.testing.assert_array_equal(pixels.valid, expected)


def test_near_infrared_tagged_as_alpha(real: Real) -> None:
    """Every image of this set tags its fourth band as alpha; it is near infrared, and every pixel is valid."""
    paths = sorted(real("naip/images").glob("*.tif"))
    assert len(paths) > 3
    for path in paths:
        with open_scene(path, ("red", "green", "blue"), gsd_range=(0.3, 1.2)) as scene:
            assert scene.read(Window(0, 0, *scene.georef.shape)).valid.all()
            assert any("taken as a measurement" in notice.text for notice in scene.notices)


POOLED = [[14, 20, 81, 124, 166, 228, 240], [16, 22, 89, 134, 163, 228, 240], [14, 20, 83, 107, 146, 235, 245]]
"""Quantiles of NAIP, Californian and Dubai imagery together."""


@pytest.fixture(params=["pooled", "shipped"])
def bundle(request: pytest.FixtureRequest) -> ModelBundle:
    """A model trained on overhead imagery, and the one that comes with the package."""
    if request.param == "pooled":
        return ModelBundle(
            Path("overhead"), ModelCard.model_validate(CARD | {"quantiles": {"levels": LEVELS, "values": POOLED}})
        )
    if DEFAULT_BUNDLE not in shipped_bundles():
        pytest.skip("the package comes without its model here")
    return ModelBundle.load(DEFAULT_BUNDLE)


def worldview() -> Path:
    """The real eight-band scene of the demo."""
    import dgsamples

    return next(Path(dgsamples.__file__).parent.glob("wv3_longmont_1k/*_MUL/*.TIF"))


def told(path: Path, bundle: ModelBundle, **options: Any) -> list[tuple[str, str]]:
    """(status, text) of every line of a pre-flight, refusals included."""
    wishes = Options(**options)
    with open_scene(path, bundle.bands, bands=wishes.bands, gsd_range=bundle.card.gsd_m) as scene:
        return [(row.status, row.text) for row in examine(scene, bundle, wishes).rows]


def test_clean_real_scenes_pass_without_a_warning(real: Real, bundle: ModelBundle) -> None:
    scenes = [
        told(real("scenes/naip_block.tif"), bundle),
        told(worldview(), bundle, bands={"red": 5, "green": 3, "blue": 2}),
    ]
    for rows in scenes:
        assert {status for status, _ in rows} <= {"ok", "adjusted"}, rows


def test_swapped_bands_of_real_scenes_are_caught(real: Real, bundle: ModelBundle) -> None:
    for rows in (
        told(real("scenes/naip_block.tif"), bundle, bands={"red": 3, "green": 2, "blue": 1}),
        told(worldview(), bundle, bands={"red": 2, "green": 3, "blue": 5}),
    ):
        assert any(status == "warning" and "look" in text for status, text in rows), rows


SPOILS: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    # what is done to the image (nodata 0 lies in holes of it), how it is written, status and words
    "clean 12 bit": (lambda v: v.astype(np.uint16) * 16, {"nodata": 0}, "", ""),
    "16 bit cut to 8": (
        lambda v: (v.astype(np.uint16) * 16 // 256).astype(np.uint8),
        {"nodata": 0},
        "warning",
        "darker",
    ),
    "half black": (lambda v: v.astype(np.uint16) * 16, {}, "warning", "of the pixels are 0"),
    "half black, 8 bit": (
        lambda v: v * (np.arange(v.shape[2]) % 640 > 200).astype(np.uint8),
        {},
        "warning",
        "of the pixels are 0",
    ),
    "1000 added": (
        lambda v: np.where(v > 0, v * np.uint16(12) + 1000, 0),
        {"nodata": 0},
        "adjusted",
        "offset was added",
    ),
    "wrong resolution": (
        lambda v: v,
        {"nodata": 0, "transform": Affine(6, 0, 3e5, 0, -6, 4.3e6)},
        "refused",
        "6 m a pixel",
    ),
}


@pytest.mark.parametrize("kind", SPOILS)
def test_a_spoiled_real_scene_is_caught(
    real: Real, bundle: ModelBundle, geotiff: Callable[..., Path], kind: str
) -> None:
    spoil, options, status, words = SPOILS[kind]
    with rasterio.open(real("scenes/naip_block.tif")) as file:
        image = file.read([1, 2, 3], window=rasterio.windows.Window(0, 0, 640, 640))
    rows = told(geotiff(spoil(image), photometric="RGB", tiled=True, **options), bundle)
    if not words:
        assert {found for found, _ in rows} <= {"ok", "adjusted"}, rows
        return
    assert any(found == status and words in text for found, text in rows), rows
