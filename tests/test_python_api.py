"""The public face: what `from geounet import ...` promises, run as the documentation writes it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import xarray

import geounet
from geounet import LandCoverMap
from tiles.errors import OutputError

ROOT = Path(__file__).parents[1]


def _examples(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, geotiff: Callable[..., Path]) -> Path:
    """A folder with a `scene.tif`, in which the examples of README and documentation have run."""
    folder = tmp_path_factory.mktemp("python")
    rng = np.random.default_rng(5)
    coarse = rng.integers(20, 235, (3, 16, 20))
    blocks = np.kron(coarse, np.ones((1, 10, 10), np.int64)).astype(np.uint8)
    shutil.copy(geotiff(blocks, photometric="RGB"), folder)
    found = [code for name in ("docs/python.md", "README.md") for code in _examples(ROOT / name)]
    assert len(found) == 2
    for number, code in enumerate(found):
        script = folder / f"example{number}.py"
        script.write_text(code.replace('"map"', f'"map{number}"'), encoding="utf-8")
        done = subprocess.run([sys.executable, script.name], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "building" in done.stdout
    return folder


def test_the_examples_run_as_they_are_written(workplace: Path) -> None:
    assert (workplace / "map0" / "polygons.gpkg").exists()
    assert (workplace / "map1" / "polygons.geojson").exists()


def test_a_map_is_a_geodataframe_an_array_and_a_dataset_on_the_scenes_grid(workplace: Path) -> None:
    found = LandCoverMap.open(workplace / "map0")
    polygons, classes, layers = found.polygons(), found.classes(), found.to_xarray()
    assert isinstance(polygons, geopandas.GeoDataFrame)
    assert isinstance(layers, xarray.Dataset)
    with rasterio.open(workplace / "scene.tif") as scene:
        assert polygons.crs == scene.crs
        assert layers.rio.crs == scene.crs
        assert (float(layers.x[0]), float(layers.y[0])) == pytest.approx(scene.xy(0, 0))
        assert classes.shape == scene.shape
    assert (layers.classes.values == classes).all()
    assert layers.confidence.dims == ("y", "x")
    assert np.isclose(polygons.area_m2.sum(), found.summary["mapped_area_m2"], rtol=1e-3)
    assert set(polygons["class_name"]) <= set(found.legend.names)


def test_a_notebook_shows_preview_legend_and_areas(workplace: Path) -> None:
    found = LandCoverMap.open(workplace / "map0")
    page = found._repr_html_()
    assert page.count("<tr>") == len(found.legend.classes) == 6
    assert "data:image/png;base64," in page
    for land_class, row in zip(found.legend.classes, found.summary["classes"], strict=True):
        assert "#{:02x}{:02x}{:02x}".format(*land_class.color) in page
        assert f"{row['area_m2'] / 1e4:,.2f} ha" in page


def test_polygons_come_from_whatever_format_was_made(workplace: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no finished map"):
        LandCoverMap.open(tmp_path)
    (tmp_path / "polygons.geojson").write_bytes((workplace / "map1" / "polygons.geojson").read_bytes())
    found = LandCoverMap(tmp_path, {}).polygons()
    assert found.crs.is_geographic
    assert len(found) > 0
    (tmp_path / "polygons.geojson").unlink()
    with pytest.raises(OutputError, match="formats="):
        LandCoverMap(tmp_path, {}).polygons()


def test_the_public_names_are_there_and_no_others() -> None:
    assert set(geounet.__all__) <= set(dir(geounet))
    assert all(getattr(geounet, name) is not None for name in geounet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'map_scenes'"):
        geounet.map_scenes  # noqa: B018
