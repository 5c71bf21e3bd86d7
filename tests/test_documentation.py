"""Every command that README and docs show is run as it is written, or is named here with what covers it."""

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from geounet.cli.app import app, run

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
SHELL = re.compile(r"^(\$ |geounet |make |curl |[A-Z_]+=)", re.M)

ELSEWHERE = {
    # how a block begins: what covers it
    "make demo": "installs the project: the map of its scene is made in tests/test_end_to_end.py",
    "geounet serve --data ./data": "a server, started and asked in tests/geounet/test_worker.py and tests/api",
    "curl -i -T scene.tif": "needs that server: test_uploads, test_jobs_api, test_features, test_maps in tests/api",
    "GEOUNET_SERVICE_REQUIRE_KEYS=true": "settings of a server behind a proxy: tests/api",
    "geounet serve --data /srv/geounet": "a server, as above",
    "$ geounet serve --data demo &": "a server, as above, and the same requests as in README",
    "API=http://127.0.0.1:8000": "needs a server: tests/api/test_corrections.py asks it the same",
    "batches = polygonise(": "a fragment of Python with the caller's names: tests/tiles/test_vector.py runs it",
}

CONFIG = """
name = "tiny"
init = "overhead-rgb"
gsd_m = [0.3, 1.2]
chip_size = 256
architecture = { arguments = { decoder_channels = [128, 64, 48, 32, 16] } }
sampling = { crop = 64, batch = 2 }
schedule = { steps = 2, warmup = 1, validate_every = 2 }
legend = [
  { value = 1, name = "building", color = [214, 69, 65] },
  { value = 2, name = "road", color = [108, 108, 118] },
  { value = 3, name = "bare", color = [214, 184, 134] },
  { value = 4, name = "tree", color = [33, 107, 54] },
  { value = 5, name = "low_vegetation", color = [164, 208, 106] },
  { value = 6, name = "water", color = [58, 124, 201] },
]

[[source]]
name = "california"
images = "images"
labels = "labels"
bands = [1, 2, 3]
gsd_m = [0.6, 0.6]
classes = { "0" = "low_vegetation", "1" = "building", "2" = "road", "3" = "bare", "4" = "tree", "5" = "water" }
split = { csv = "split.csv" }
"""


def blocks() -> list[tuple[str, str]]:
    """(document, text) of every fenced block that is a command or Python."""
    found = []
    for document in DOCUMENTS:
        for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / document).read_text(), re.S | re.M):
            if kind in ("sh", "bash", "console", "python") or (not kind and SHELL.search(text)):
                found.append((document, text))
    return found


def elsewhere(text: str) -> bool:
    return any(text.startswith(beginning) for beginning in ELSEWHERE)


def test_every_exception_is_a_block_that_is_there() -> None:
    texts = [text for _, text in blocks()]
    assert len(texts) > 8
    for beginning in ELSEWHERE:
        assert any(text.startswith(beginning) for text in texts), f"no document shows '{beginning}' any more"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, real: Callable[[str], Path]) -> Path:
    """A folder with the files that the documents speak of: real imagery, small."""
    folder = tmp_path_factory.mktemp("reader")
    with rasterio.open(real("scenes/naip_block.tif")) as source:
        window = Window(256, 256, 64, 64)
        pixels, profile = source.read(window=window), source.profile
        t = source.transform
        corner = Affine(t.a, t.b, t.c + 256 * t.a, t.d, t.e, t.f + 256 * t.e)
        profile |= {"width": 64, "height": 64, "transform": corner}
        profile |= {"blockxsize": 64, "blockysize": 64}
    with rasterio.open(folder / "scene.tif", "w", **profile) as target:
        target.write(pixels)
    red, green, blue, nir = pixels
    eight = np.stack([blue, blue, green, green, red, red, nir, nir])
    with rasterio.open(folder / "scene8.tif", "w", **profile | {"count": 8}) as target:
        target.write(eight)
    (folder / "scenes").mkdir()
    shutil.copy(folder / "scene.tif", folder / "scenes" / "one.tif")
    shutil.copytree(real("naip"), folder / "DATA")
    for name in ("config.toml", "corrections.toml", "DATA/config.toml"):
        (folder / name).write_text(CONFIG)
    for name in ("images", "labels", "split.csv"):  # a configuration's data lie beside it unless --data says otherwise
        (folder / name).symlink_to(folder / "DATA" / name)
    with rasterio.open(folder / "scene.tif") as made:
        bounds = made.bounds
    middle = (bounds.left + bounds.right) / 2
    halves = [shapely.box(bounds.left, bounds.bottom, middle, bounds.top)]
    halves.append(shapely.box(middle, bounds.bottom, bounds.right, bounds.top))
    parcels = geopandas.GeoDataFrame({"name": ["west", "east"]}, geometry=halves, crs=profile["crs"])
    parcels.to_file(folder / "parcels.gpkg")
    assert geounet("predict", str(folder / "scene.tif"), "-o", str(folder / "map")) == 0
    for name in ("map-2018", "map-2024"):
        shutil.copytree(folder / "map", folder / name)
    shutil.copy(folder / "scene.tif", folder / "next-scene.tif")
    for name, inside in (("clicks", 12), ("corrections", 10), ("more", 8)):
        clicked(bounds, inside, profile["crs"]).to_file(folder / f"{name}.geojson")
    return folder


def clicked(bounds: Any, inside: float, crs: Any) -> geopandas.GeoDataFrame:
    """A dozen corrections, `inside` metres from the scene's border on: the west is road, the east tree."""
    columns, rows = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 3))
    x = bounds.left + inside + columns.ravel() * (bounds.right - bounds.left - 2 * inside)
    y = bounds.bottom + inside + rows.ravel() * (bounds.top - bounds.bottom - 2 * inside)
    names = np.where(columns.ravel() < 0.5, "road", "tree")
    return geopandas.GeoDataFrame({"class": names}, geometry=geopandas.points_from_xy(x, y), crs=crs)


def geounet(*arguments: str) -> int:
    return run(lambda **mode: app(list(arguments), **mode))


def fill_in(points: Path) -> None:
    """What a person does between `sample` and `stats`: say what is really there; here, that the map is right."""
    frame = geopandas.read_file(points)
    frame["reference"] = frame["mapped"]
    frame.to_file(points)


@pytest.mark.parametrize(("document", "text"), [b for b in blocks() if not elsewhere(b[1])], ids=lambda v: v[:28])
def test_what_is_written_works(
    document: str, text: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("GEOUNET_MODELS", str(place / "models"))
    before = {p.name for p in place.iterdir()}
    try:
        _follow(document, text, place, capsys)
    finally:
        for name in {p.name for p in place.iterdir()} - before - {"run"}:  # another block may use the name afresh
            path = place / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _follow(document: str, text: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if text.startswith(("from ", "import ")):
        if "map_scene(" in text:  # it makes the folder that the commands made
            (place / "map").rename(place / "map-of-the-commands")
        try:
            exec(compile(text, document, "exec"), {})
        finally:
            if (place / "map-of-the-commands").exists():
                shutil.rmtree(place / "map", ignore_errors=True)
                (place / "map-of-the-commands").rename(place / "map")
    else:
        commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]
        assert all(command[0] == "geounet" for command in commands), (
            f"{document}: what runs these, and what covers them?"
        )
        for command in commands:
            assert geounet(*command[1:]) == 0, f"{' '.join(command)}: {capsys.readouterr().err}"
            if command[1] == "sample":
                fill_in(place / command[command.index("-o") + 1])


def test_configurations_are_toml() -> None:
    shown = [
        text
        for document in DOCUMENTS
        for text in re.findall(r"^```toml\n(.*?)^```", (ROOT / document).read_text(), re.S | re.M)
    ]
    assert len(shown) >= 2
    assert all(tomllib.loads(text) for text in shown)
