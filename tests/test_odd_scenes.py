"""Odd scenes, mapped from end to end: on the right grid, nodata where the scene is invalid, polygons in their place."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from affine import Affine
from pyproj import Transformer
from rasterio.control import GroundControlPoint

from geounet.errors import MismatchError
from geounet.mapping.engine_shelf import EngineShelf
from geounet.mapping.pipeline import map_scene
from geounet.model.architectures import build_architecture
from geounet.model.bundle import Architecture, ModelBundle, save_bundle
from geounet.options import Options
from tiles.legend import NODATA
from tiles.scene.scene import open_scene
from tiles.window import Window

GeoTiff = Callable[..., Path]


def image(rows: int, cols: int, dtype: str = "uint8") -> npt.NDArray[Any]:
    """Fields of 12 pixels, each of one colour."""
    fields = np.random.default_rng(rows + cols).integers(20, 230, (3, rows // 12 + 1, cols // 12 + 1))
    return np.kron(fields, np.ones((1, 12, 12)))[:, :rows, :cols].astype(dtype)


def holed(rows: int = 90, cols: int = 130) -> npt.NDArray[Any]:
    values = image(rows, cols)
    values[:, 20:50, 30:110] = 0
    return values


def spoiled() -> npt.NDArray[Any]:
    values = image(90, 130, "float32") / 400
    values[:, 10:20] = np.nan
    values[1, 60, 60] = np.inf
    return values


def utm(metres: float) -> Affine:
    return Affine(metres, 0, 3e5, 0, -metres, 4.3e6)


TURNED = Affine(0.48, 0.36, 3e5, 0.36, -0.48, 4.3e6)
POINTS = [
    GroundControlPoint(row=r, col=c, x=3e5 + 0.48 * c + 0.36 * r, y=4.3e6 + 0.36 * c - 0.48 * r, z=0)
    for r, c in ((0, 0), (0, 130), (90, 0), (90, 130), (45, 65))
]
CASES: dict[str, tuple[npt.NDArray[Any], dict[str, Any]]] = {
    "one pixel": (image(1, 1), {}),
    "one row": (image(1, 200), {}),
    "one column": (image(200, 1), {}),
    "a ribbon": (image(7, 1500), {}),
    "half a chip": (image(33, 33), {}),
    "nodata with a hole": (holed(), {"nodata": 0}),
    "nothing but nodata": (np.zeros((3, 90, 130), np.uint8), {"nodata": 0}),
    "NaN and infinity": (spoiled(), {}),
    "16 bit, signed": (image(90, 130, "int16") * 20 - 500, {"nodata": -9999}),
    "64-bit floats": (image(90, 130, "float64") / 1e4, {}),
    "JPEG": (image(96, 128), {"compress": "jpeg", "photometric": "YCBCR", "tiled": True}),
    "ground control points": (image(90, 130), {"gcps": POINTS}),
    "degrees": (holed(), {"nodata": 0, "crs": "EPSG:4326", "transform": Affine(1e-5, 0, 10, 0, -5e-6, 60)}),
    "across the antimeridian": (
        image(90, 130), {"crs": "EPSG:4326", "transform": Affine(5e-6, 0, 179.9997, 0, -5e-6, -16)},
    ),
    "gradians from Paris": (image(90, 130), {"crs": "EPSG:4807", "transform": Affine(1e-5, 0, 2, 0, -6e-6, 52)}),
    "feet": (image(90, 130), {"crs": "EPSG:2263", "transform": Affine(2, 0, 980_000, 0, -2, 200_000)}),
    "south-up": (holed(), {"nodata": 0, "transform": Affine(0.6, 0, 3e5, 0, 0.6, 4.3e6)}),
    "rotated": (holed(), {"nodata": 0, "transform": TURNED}),
    "sheared": (image(90, 130), {"transform": Affine(0.6, 0.3, 3e5, 0, -0.6, 4.3e6)}),
    "a drone's": (holed(300, 420), {"nodata": 0, "transform": utm(0.1)}),
    "a drone's, at an odd resolution": (image(200, 301), {"transform": utm(0.13)}),
    "rather coarse": (image(60, 70), {"transform": utm(2.0)}),
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A network of random weights: what it predicts means nothing, where it lands does."""
    torch.manual_seed(0)
    architecture = Architecture(encoder="resnet18", arguments={"encoder_depth": 3, "decoder_channels": [16, 8, 8]})
    card = {
        "name": "toy",
        "architecture": architecture.model_dump(),
        "bands": ["red", "green", "blue"],
        "normalisation": {"mean": [127.0] * 3, "std": [40.0] * 3},
        "legend": [{"value": v, "name": n, "color": (v, 9, 9)} for v, n in ((1, "land"), (2, "tree"), (7, "water"))],
        "gsd_m": [0.3, 1.2],
        "chip_size": 64,
        "overlap": 16,
    }
    network = build_architecture(architecture, bands=3, classes=3)
    return save_bundle(tmp_path_factory.mktemp("bundle") / "toy", card, network.state_dict(), "# toy\n")


@pytest.fixture(scope="module")
def engines() -> EngineShelf:
    return EngineShelf()


OPTIONS = Options(chip_size=64, overlap=16, engine="torch", device="cpu", precision="f32")


@pytest.mark.parametrize("case", CASES)
def test_an_odd_scene_becomes_a_right_map(
    geotiff: GeoTiff, tmp_path: Path, bundle: ModelBundle, engines: EngineShelf, case: str
) -> None:
    values, written = CASES[case]
    path = geotiff(values, **{"photometric": "RGB"} | written)
    found = map_scene(path, bundle, tmp_path / "map", OPTIONS, engines=engines)
    with open_scene(path, bundle.bands, gsd_range=bundle.card.gsd_m) as scene:
        grid, valid = scene.georef, scene.read(Window(0, 0, *scene.georef.shape)).valid
    for name in ("classes.tif", "confidence.tif"):
        with rasterio.open(tmp_path / "map" / name) as raster:
            assert (raster.crs, raster.shape) == (grid.crs, grid.shape)
            assert raster.transform.almost_equals(grid.transform, precision=1e-9)
            np.testing.assert_array_equal(raster.read(1) != NODATA, valid)
    pixels = np.argwhere(valid) + 0.5
    area = float(grid.pixel_area_m2(pixels[:, 1], pixels[:, 0]).sum())
    assert found.summary["mapped_area_m2"] == pytest.approx(area, rel=1e-4, abs=0.01)
    features = json.loads((tmp_path / "map" / "polygons.geojson").read_text())["features"]
    assert sum(f["properties"]["area_m2"] for f in features) == pytest.approx(area, rel=1e-3, abs=0.1)
    assert (len(features) > 0) == valid.any()
    if valid.any():
        assert_in_place(np.array(list(positions(features))), grid.crs.to_wkt(), grid.transform, valid)


@pytest.mark.parametrize("shape", [(1, 1), (1, 130), (33, 2), (100, 100), (128, 128)])
def test_a_scene_no_larger_than_the_models_overlap_is_mapped_without_a_word_about_chips(
    geotiff: GeoTiff, tmp_path: Path, bundle: ModelBundle, engines: EngineShelf, shape: tuple[int, int]
) -> None:
    path = geotiff(image(*shape), photometric="RGB")
    wide = replace(bundle, card=bundle.card.model_copy(update={"overlap": 128}))
    usual = Options(engine="torch", device="cpu", precision="f32")
    found = map_scene(path, wide, tmp_path / "map", usual, engines=engines)
    with rasterio.open(found.folder / "classes.tif") as raster:
        assert raster.shape == shape
        assert (raster.read(1) != NODATA).all()


def test_a_small_scene_too_coarse_for_the_model_is_told_so_and_nothing_else(
    geotiff: GeoTiff, tmp_path: Path, bundle: ModelBundle
) -> None:
    path = geotiff(image(60, 60), photometric="RGB", transform=utm(30))
    with pytest.raises(MismatchError, match="30 m a pixel"):
        map_scene(path, bundle, tmp_path / "map", replace(OPTIONS, max_memory=1, overlap=500))


def assert_in_place(lonlat: npt.NDArray[np.float64], crs: str, transform: Affine, valid: npt.NDArray[np.bool_]) -> None:
    """Polygon corners, back in pixels, span just the valid pixels."""
    lon = np.where(lonlat[:, 0] < 0, lonlat[:, 0] + 360, lonlat[:, 0]) if np.ptp(lonlat[:, 0]) > 180 else lonlat[:, 0]
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lonlat[:, 1])
    back = ~transform
    cols, rows = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
    where = np.argwhere(valid)
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0) + 1
    found = (rows.min(), cols.min(), rows.max(), cols.max())
    assert found == pytest.approx((top, left, bottom, right), abs=0.12)  # 7 decimals of a degree are a centimetre


def positions(features: list[dict[str, Any]]) -> Iterator[tuple[float, float]]:
    """All corners of all features."""

    def inside(part: list[Any]) -> Iterator[tuple[float, float]]:
        if isinstance(part[0], (int, float)):
            yield part[0], part[1]
        else:
            for child in part:
                yield from inside(child)

    for feature in features:
        yield from inside(feature["geometry"]["coordinates"])


def test_a_scene_that_breaks_off_in_the_middle_leaves_nothing_behind(
    geotiff: GeoTiff, tmp_path: Path, bundle: ModelBundle, engines: EngineShelf
) -> None:
    from tiles.errors import SceneError

    values = np.random.default_rng(1).integers(1, 255, (3, 256, 256)).astype(np.uint8)
    path = geotiff(values, tiled=True, blockxsize=64, blockysize=64, compress="deflate", photometric="RGB")
    with rasterio.open(path) as file:
        offset, length = (int(file.get_tag_item(f"BLOCK_{n}_1_3", "TIFF", bidx=1)) for n in ("OFFSET", "SIZE"))
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * length)
    with pytest.raises(SceneError, match="rows 192-255, columns 64-127"):
        map_scene(path, bundle, tmp_path / "map", OPTIONS, engines=engines)
    assert list(tmp_path.iterdir()) == []
