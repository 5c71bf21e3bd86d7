"""The shipped model on real scenes, from the command to the pixels and polygons that people open."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.warp import transform_bounds
from rio_cogeo.cogeo import cog_validate


def predict(scene: Path, out: Path, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "geounet", "predict", str(scene), "-o", str(out), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary: dict[str, object] = json.loads(done.stdout)["summary"]
    return summary


@pytest.fixture(scope="module")
def scene(real: Callable[[str], Path]) -> Path:
    return real("scenes/naip_block.tif")


@pytest.fixture(scope="module")
def naip(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("naip") / "map"
    predict(scene, out, "--min-area", "0", "--simplify", "0")
    return out


def test_the_map_lies_on_the_scenes_grid_and_is_empty_exactly_where_the_scene_is(scene: Path, naip: Path) -> None:
    with rasterio.open(scene) as source, rasterio.open(naip / "classes.tif") as classes:
        assert (classes.crs, classes.transform, classes.shape) == (source.crs, source.transform, source.shape)
        # Band 4, near infrared, is tagged as alpha in such files; what is nodata is the scene's nodata value.
        invalid = (source.read([1, 2, 3]) == source.nodata).all(axis=0)
        assert ((classes.read(1) == 255) == invalid).all()


def test_both_rasters_are_valid_cogs_with_colours_and_names(naip: Path) -> None:
    for name in ("classes.tif", "confidence.tif"):
        assert cog_validate(naip / name, strict=True)[0]
    legend = {c["value"]: c for c in json.loads((naip / "summary.json").read_text())["classes"]}
    with rasterio.open(naip / "classes.tif") as classes:
        colours = classes.colormap(1)
        tag = json.loads(classes.tags()["LEGEND"])
    assert {c["value"]: c["name"] for c in tag} == {value: c["name"] for value, c in legend.items()}
    assert all(colours[c["value"]][:3] == tuple(c["color"]) for c in tag)


def test_the_map_agrees_with_the_labels(scene: Path, naip: Path) -> None:
    with rasterio.open(naip / "classes.tif") as source:
        classes = source.read(1)
    with rasterio.open(scene.with_name("naip_block_labels.tif")) as source:
        labels = source.read(1)
    by_name = {c["name"]: c["value"] for c in json.loads((naip / "summary.json").read_text())["classes"]}
    names = ("low_vegetation", "building", "road", "bare", "tree", "water")
    valid = classes != 255
    scores = []
    for label, name in enumerate(names):
        mine, theirs = (classes == by_name[name]) & valid, (labels == label) & valid
        scores.append((mine & theirs).sum() / (mine | theirs).sum())
    assert np.mean(scores) > 0.6, dict(zip(names, scores, strict=True))


def test_polygons_give_the_raster_back_and_stay_inside_the_scene(naip: Path) -> None:
    polygons = pyogrio.read_dataframe(naip / "polygons.gpkg", layer="landcover")
    with rasterio.open(naip / "classes.tif") as source:
        pairs = zip(polygons.geometry, polygons.class_id, strict=True)
        burnt = rasterize(pairs, out_shape=source.shape, transform=source.transform, fill=255, dtype="uint8")
        assert (burnt == source.read(1)).all()
        bounds = transform_bounds(source.crs, "EPSG:4326", *source.bounds, densify_pts=100)
    assert shapely.coverage_is_valid(polygons.geometry.values)
    web = pyogrio.read_dataframe(naip / "polygons.geojson")
    assert len(web) == len(polygons)
    west, south, east, north = web.total_bounds
    slack = 1e-7
    assert bounds[0] - slack <= west
    assert bounds[1] - slack <= south
    assert east <= bounds[2] + slack
    assert north <= bounds[3] + slack


def test_a_suburb_has_houses_and_roads_and_next_to_no_water(tmp_path: Path) -> None:
    import dgsamples

    (demo,) = Path(dgsamples.wv3_longmont_1k["path"]).glob("*_MUL/*.TIF")
    summary = predict(demo, tmp_path / "map", "--bands", "red=5,green=3,blue=2")
    shares = {c["name"]: c["share"] for c in summary["classes"]}  # type: ignore[attr-defined]
    assert shares["water"] < 0.02
    assert 0.05 < shares["building"] < 0.35
    assert 0.05 < shares["road"] < 0.4
    assert shares["low_vegetation"] > 0.15
