"""A scene that was decoded once is the scene that its file was."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint

from tiles.clean.original import PIXELS, RECORD, Original
from tiles.errors import SceneError
from tiles.ingest import ingest
from tiles.scene.scene import Scene, open_scene
from tiles.scene.source import gdal_environment, open_dataset
from tiles.window import Window

RANGES = (None, (0.3, 1.2), (2.0, 2.5), (40.0, 50.0))


def decoded(path: Path, folder: Path) -> Path:
    folder.mkdir()
    ingest(path, folder, path.name)
    return folder


def told(scene: Scene) -> list[Any]:
    """Whatever of a scene decides what its map is."""
    rows, cols = scene.georef.shape
    parts = [
        Window(0, 0, min(rows, 300), min(cols, 300)),
        Window(rows // 2, cols // 3, rows - rows // 2, max(1, cols // 3)),
    ]
    pixels = [scene.read(part) for part in parts]
    sample = scene.survey
    return [
        *(scene.name, scene.source, scene.notices, scene.bands, scene.dtype, scene.upsample, scene.fingerprint()),
        *(scene.georef.crs.to_wkt(), scene.georef.transform, scene.georef.shape, scene.cache_bytes(300)),
        *(array.tobytes() for p in pixels for array in (p.values, p.valid)),
        *(sample.values.tobytes(), sample.valid_share),
    ]


def outcome(path: Path, gsd_range: tuple[float, float] | None) -> Any:
    try:
        with open_scene(path, (), gsd_range=gsd_range) as scene:
            return repr(told(scene))
    except SceneError as error:
        return str(error).replace(str(path), "SCENE")


def test_every_real_scene_is_the_same_scene(data_folder: Path, tmp_path: Path) -> None:
    scenes = [p for p in sorted((data_folder / "scenes").glob("*.tif")) if p.name != "corrupt.tif"]
    assert len(scenes) > 10
    for path in scenes:
        folder = decoded(path, tmp_path / path.stem)
        for gsd_range in RANGES:
            assert outcome(path, gsd_range) == outcome(folder, gsd_range), (path.name, gsd_range)


CORNERS = [GroundControlPoint(row, col, 300_000 + col, 4_300_000 - row, 0) for row in (0, 90) for col in (0, 70)]


@pytest.mark.parametrize(
    ("dtype", "made"),
    [
        ("uint8", {}),
        ("uint8", {"colours": ("red", "green", "blue"), "tiled": True, "blockxsize": 32, "blockysize": 16}),
        ("uint8", {"mask": True, "overviews": (2, 4)}),
        ("uint16", {"nodata": 0, "names": ("B4", "nir", "x"), "compress": "deflate"}),
        ("int16", {"nodata": -9999, "interleave": "band"}),
        ("float32", {"nodata": float("nan"), "overviews": (2,), "scales": (2.0, 2.0, 2.0), "offsets": (1.0, 1.0, 1.0)}),
        ("float64", {"crs": None}),
        ("uint8", {"gcps": CORNERS}),
        ("uint8", {"transform": None, "crs": None}),
        ("int8", {}),
        ("uint8", {"photometric": "MINISWHITE"}),
        ("uint32", {"colours": ("gray", "undefined", "alpha")}),
    ],
)
def test_every_kind_of_scene_is_the_same_scene(geotiff: Any, tmp_path: Path, dtype: str, made: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 100, (3, 600, 530)).astype(dtype)
    if made.get("mask"):
        made = {**made, "mask": rng.random((600, 530)) > 0.3}
    path = geotiff(values, **made)
    folder = decoded(path, tmp_path / "clean")
    for gsd_range in RANGES:
        assert outcome(path, gsd_range) == outcome(folder, gsd_range)


def test_what_lies_there_is_ours(geotiff: Any, tmp_path: Path) -> None:
    """Tiled, with overviews down to a web tile; no metadata but ours; the scene's overviews beside it."""
    path = geotiff(np.ones((3, 1100, 900), dtype=np.uint8), overviews=(2,))
    with rasterio.open(path, "r+") as file:
        file.update_tags(SECRET="of the camera", ns="MAKER")
        file.update_tags(ns="RPC", LINE_OFF="1")
    folder = decoded(path, tmp_path / "clean")
    assert sorted(p.name for p in folder.iterdir()) == ["level-0.tif", RECORD, PIXELS]
    with rasterio.open(folder / PIXELS) as clean:
        assert clean.block_shapes[0] == (512, 512)
        assert clean.overviews(1) == [2, 4, 8]
        assert set(clean.tag_namespaces()) <= {"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS"}


def test_a_damaged_block_is_told_with_its_place(geotiff: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = geotiff(rng.integers(0, 255, (1, 600, 512), dtype=np.uint8), compress="deflate", tiled=True)
    body = bytearray(path.read_bytes())
    middle = len(body) // 2
    body[middle : middle + 200] = b"\xff" * 200
    broken = tmp_path / "broken.tif"
    broken.write_bytes(body)
    with pytest.raises(SceneError, match="rows"):
        decoded(broken, tmp_path / "clean")


def test_a_full_disk_is_said_so(geotiff: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = geotiff(rng.integers(0, 255, (3, 900, 900), dtype=np.uint8))
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path; from tiles.ingest import ingest; from tiles.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: ingest(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except OutputError as error: print('told', error)"
    )
    (tmp_path / "clean").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "clean")], capture_output=True, text=True
    )
    assert "told" in done.stdout, done.stderr
    assert not (tmp_path / "clean" / RECORD).exists()  # what is not whole is no scene
    with gdal_environment(tmp_path), pytest.raises(SceneError):
        open_dataset(tmp_path / "clean")


def test_a_record_that_is_none_is_refused(geotiff: Any, tmp_path: Path) -> None:
    folder = decoded(geotiff(np.ones((1, 20, 20), dtype=np.uint8)), tmp_path / "clean")
    good = (folder / RECORD).read_text()
    assert Original.read(folder).name == "scene.tif"
    for bad in (
        "",
        "[]",
        "{}",
        good.replace('"version": 1', '"version": 9'),
        good.replace('"shape"', '"form"'),
        good[:50],
    ):
        (folder / RECORD).write_text(bad)
        with gdal_environment(folder), pytest.raises(SceneError, match="upload the scene again"):
            open_dataset(folder)
