"""The map of a decoded scene is the map of its file, byte for byte."""

from collections.abc import Callable
from pathlib import Path

from geounet.mapping.pipeline import map_scene
from geounet.model.bundle import ModelBundle
from geounet.options import Options
from tiles.ingest import ingest


def test_the_map_of_a_decoded_scene_is_that_of_its_file(
    tmp_path: Path, bundle: ModelBundle, make_scene: Callable[..., Path]
) -> None:
    scene = make_scene(tmp_path / "scene.tif", nodata_rows=30)
    clean = tmp_path / "clean"
    clean.mkdir()
    ingest(scene, clean, scene.name)
    options = Options(formats=("gpkg", "geojson"), engine="torch")
    for source, out in ((scene, "file"), (clean, "decoded")):
        map_scene(source, bundle, tmp_path / out, options)
    made = sorted(path.name for path in (tmp_path / "file").iterdir())
    assert "summary.json" in made
    for name in made:
        if name != "run.json":  # times and versions
            assert (tmp_path / "file" / name).read_bytes() == (tmp_path / "decoded" / name).read_bytes(), name
