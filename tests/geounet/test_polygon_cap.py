"""Too many polygons raise the mapping unit, never the memory."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine

from geounet.mapping.pipeline import map_scene
from geounet.model.bundle import ModelBundle
from geounet.options import Options
from geounet.outputs.polygon_limit import keep_polygons_few
from tiles.georef import Georef
from tiles.legend import LandClass, Legend
from tiles.polygons.polygonise import polygonise
from tiles.vectors.write import LAYER, write_vectors

LEGEND = Legend((LandClass(1, "building", (200, 50, 50)), LandClass(2, "tree", (30, 110, 40))))
GEOREF = Georef(rasterio.crs.CRS.from_epsg(32616), Affine(0.6, 0, 700000, 0, -0.6, 4400000), (64, 64))


def count_of(path: Path) -> int:
    return int(pyogrio.read_info(path, layer=LAYER)["features"])


def noisy_map(folder: Path, lonely: bool = False) -> int:
    """A map of noise; a `lonely` one has nodata around every pixel, as on a chessboard."""
    values = np.random.default_rng(0).integers(1, 3, GEOREF.shape).astype(np.uint8)
    if lonely:
        values[np.indices(GEOREF.shape).sum(0) % 2 == 1] = 255
        values[:20, :20] = 1
    write_vectors(polygonise([(values, values)], GEOREF, LEGEND), folder, ("gpkg", "geojson"), GEOREF, LEGEND)
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8", "nodata": 255}
    for name in ("classes", "confidence"):
        path = folder / f"{name}.tif"
        with rasterio.open(path, "w", crs=GEOREF.crs, transform=GEOREF.transform, **profile) as out:
            out.write(values, 1)
    return count_of(folder / "polygons.gpkg")


def test_polygons_are_few_enough_in_every_file(tmp_path: Path) -> None:
    many = noisy_map(tmp_path)
    raised = keep_polygons_few(tmp_path, ("gpkg", "geojson"), many // 10, 0.0, 0.0)
    assert raised > 0
    few = count_of(tmp_path / "polygons.gpkg")
    assert 0 < few <= many // 10
    assert len(json.loads((tmp_path / "polygons.geojson").read_text())["features"]) == few


def test_specks_that_nodata_isolates_are_left_out(tmp_path: Path) -> None:
    many = noisy_map(tmp_path, lonely=True)
    raised = keep_polygons_few(tmp_path, ("gpkg",), many // 10, 0.0, 0.0)
    assert 0 < raised < 20 * 20 * 0.6 * 0.6
    assert count_of(tmp_path / "polygons.gpkg") == 1


@pytest.mark.parametrize("lonely", [False, True])
def test_whatever_the_cap_the_end_comes(tmp_path: Path, lonely: bool) -> None:
    noisy_map(tmp_path, lonely)
    keep_polygons_few(tmp_path, ("gpkg",), 1, 0.0, 0.0)
    assert count_of(tmp_path / "polygons.gpkg") <= 1


def test_a_map_is_published_with_few_enough_polygons_or_not_at_all(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile scene costs what the cap allows, not what its pixels would make; a kill leaves no map half capped."""
    monkeypatch.setattr("tiles.polygons.polygonise._MOST_POLYGONS", 10)
    rng = np.random.default_rng(3)
    profile = {"driver": "GTiff", "width": 160, "height": 128, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(tmp_path / "noise.tif", "w", **profile, crs=GEOREF.crs, transform=GEOREF.transform) as target:
        target.write(rng.integers(0, 256, (3, 128, 160)).astype(np.uint8))
    options = Options(
        chip_size=64, overlap=16, engine="torch", device="cpu", precision="f32", min_area_m2=0.0, simplify_px=0.0
    )
    whole = map_scene(tmp_path / "noise.tif", bundle, tmp_path / "whole", options)
    many = count_of(whole.folder / "polygons.gpkg")
    assert "polygons_raised" not in whole.summary
    capped, out = replace(options, max_polygons=many // 4), tmp_path / "capped"
    made: list[int] = []

    def cut(*given: Any) -> float:
        made.append(count_of(tmp_path / "capped.partial" / "map" / "polygons.gpkg"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("geounet.outputs.finish.keep_polygons_few", cut)
        with pytest.raises(KeyboardInterrupt):
            map_scene(tmp_path / "noise.tif", bundle, out, capped)
    assert many // 4 < made[0] < many
    assert not out.exists()
    found = map_scene(tmp_path / "noise.tif", bundle, out, capped)
    few = count_of(out / "polygons.gpkg")
    assert 0 < few <= many // 4
    assert len(json.loads((out / "polygons.geojson").read_text())["features"]) == few
    assert found.summary == json.loads((out / "summary.json").read_text())
    assert found.summary["polygons_raised"]["min_area_m2"] > found.summary["polygons_raised"]["asked_min_area_m2"] == 0
    assert found.summary["request"]["digest"] == whole.summary["request"]["digest"]
