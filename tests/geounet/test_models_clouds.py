"""A network that nobody here made: ukis-csmask's clouds in Sentinel-2, added from its file, against the package."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geounet.mapping.pipeline import map_scene
from geounet.options import Options
from geounet.registry.add import add_model
from geounet.registry.describe import Told

GeoTiff = Callable[..., Path]
package = pytest.importorskip("ukis_csmask.mask", reason="ukis-csmask is not installed")
pytest.importorskip("spyndex", reason="spyndex, which has a Sentinel-2 scene, is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

BANDS = ("blue", "green", "red", "nir")


def one_chip_with_a_cloud() -> Any:
    """256 x 256 pixels of a real Sentinel-2 scene, counts (4, rows, columns), a cloud and its shadow painted on it."""
    pixels = np.array(json.loads((files("spyndex") / "data" / "S2_10m.json").read_text()))[:, :256, :256]
    y, x = np.mgrid[:256, :256]
    cloud = np.exp(-2 * (((y - 100) / 40) ** 2 + ((x - 130) / 50) ** 2))
    shadow = np.exp(-2 * (((y - 150) / 40) ** 2 + ((x - 190) / 50) ** 2))
    return np.asarray(pixels * (1 - 0.75 * shadow) * (1 - cloud) + 7500 * cloud).astype(np.uint16)


def test_clouds_are_those_of_the_package(geotiff: GeoTiff, tmp_path: Path) -> None:
    import onnxruntime

    folder = files("ukis_csmask")
    described = json.loads((folder / "model_4b_l2a.json").read_text())["data"]["dataset_statistics"]
    assert tuple(described["band_names"]) == BANDS
    told = Told(
        name="clouds",
        bands=BANDS,
        classes=(("clear", None), ("cloud", None), ("shadow", None)),
        gsd_m=(10.0, 30.0),
        values="reflectance",
        mean=tuple(described["img"][0]),
        std=tuple(described["img"][1]),
    )
    bundle = add_model(str(folder / "model_4b_l2a.onnx"), told, into=tmp_path / "store").bundle
    counts = one_chip_with_a_cloud()
    scene = geotiff(counts, names=BANDS, transform=Affine(10, 0, 5e5, 0, -10, 4e6), crs="EPSG:32630")
    options = Options(engine="onnxruntime", device="cpu", stretch="0,10000", formats=("gpkg",))
    found = map_scene(scene, bundle, tmp_path / "map", options)
    with rasterio.open(found.folder / "classes.tif") as source:
        ours = source.read(1)

    # The package's own steps on one of its tiles: reflectance, its mean and deviation, its session.
    image = package.CSmask.normalize((counts / 10_000).astype(np.float32).transpose(1, 2, 0), *described["img"])
    session = onnxruntime.InferenceSession(str(folder / "model_4b_l2a.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(None, {session.get_inputs()[0].name: image.astype(np.float32).transpose(2, 0, 1)[None]})[0][0]
    assert set(np.unique(ours)) == {0, 1, 2}
    assert (ours == logits.argmax(0)).mean() >= 0.9999
