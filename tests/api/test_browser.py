"""The map as a person uses it, in Debian's Chromium; Playwright's WebKit and Firefox come from no package registry."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from api.pages import render
from geounet.service.keys import KeyRing, Scope
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store
from tiles.georef import Georef

MODULES = Path(render.__file__).parent / "web" / "node_modules"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STEPS = [
    "first page",
    "a file that is no scene is refused in words",
    "upload by drag and drop, then follow",
    "look at a map",
    "zoom without a blank frame",
    "legend switch",
    "click tells class, confidence and area",
    "swipe by keys and by hand",
    "box statistics",
    "a link can be shared",
    "by keyboard alone",
    "phone with touch",
    "log in with a key",
    "nothing broke on the way",
]


def _missing() -> str | None:
    if shutil.which("node") is None:
        return "Node is missing: apt-get install nodejs npm"
    if CHROMIUM is None:
        return "Chromium is missing: apt-get install chromium"
    if not (MODULES / "playwright-core").is_dir():
        return "playwright-core is missing: make web-tools"
    return None


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, bundles: Path, start: Any, new_map: Any, scene_file: Path
) -> Iterator[dict[str, dict[str, Any]]]:
    """What each step said, by its name."""
    if os.environ.get("GEOUNET_BROWSER") != "yes":
        pytest.skip("the page is tried in a browser by `make browser` only: the run takes minutes and needs Chromium")
    if (why := _missing()) is not None:
        pytest.fail(why)
    folder = tmp_path_factory.mktemp("browser")
    georef = Georef(rasterio.crs.CRS.from_epsg(32616), rasterio.Affine(0.6, 0, 700000, 0, -0.6, 4400000), (500, 640))
    store = Store(ServiceSettings(data=folder / "data", disk_reserve=0))
    map_id = new_map(store, georef=georef, seed=3)
    locked = Store(ServiceSettings(data=folder / "locked", disk_reserve=0))
    key, secret = KeyRing(locked.database).create("tester", frozenset({Scope.READ, Scope.SUBMIT}))
    new_map(locked, key.id)
    with (
        start(folder / "data", bundles, worker=True) as service,
        start(folder / "locked", bundles, require_keys="true") as guarded,
    ):
        asked = {
            "url": service.url,
            "lockedUrl": guarded.url,
            "key": secret,
            "map": map_id,
            "scene": str(scene_file),
            "legend": [{"name": "building", "rgb": "200,50,50"}, {"name": "tree", "rgb": "30,110,40"}],
            "chromium": CHROMIUM,
            "modules": str(MODULES),
            "profile": str(folder / "profile"),
            "patience": 60_000 if os.environ.get("CI") == "true" else 30_000,
        }
        script = Path(__file__).with_name("browser.mjs")
        done = subprocess.run(["node", str(script), json.dumps(asked)], capture_output=True, text=True, timeout=600)
        steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found = {step["name"]: step for step in steps}
        found["map"] = {"folder": str(folder / "data" / "maps" / map_id)}
        assert len(steps) == len(STEPS), done.stderr[-2000:]
        yield found


@pytest.mark.parametrize("name", STEPS)
def test_what_a_person_does(told: dict[str, dict[str, Any]], name: str) -> None:
    assert told[name]["ok"], told[name].get("why")


def test_the_numbers_of_a_box_are_those_of_the_raster(told: dict[str, dict[str, Any]]) -> None:
    step = told["box statistics"]
    with rasterio.open(Path(told["map"]["folder"]) / "classes.tif") as file:
        classes, transform = file.read(1), file.transform
    ring = np.array(step["body"]["coordinates"][0])
    x, y = Transformer.from_crs("OGC:CRS84", 32616, always_xy=True).transform(ring[:, 0], ring[:, 1])
    columns, rows = (np.array(x) - transform.c) / transform.a, (np.array(y) - transform.f) / transform.e
    left, right = sorted((round(columns.min()), round(columns.max())))
    top, bottom = sorted((round(rows.min()), round(rows.max())))
    part = classes[top:bottom, left:right]
    assert part.size > 1000
    for zone in step["told"]["classes"]:
        assert zone["pixels"] == pytest.approx((part == zone["value"]).sum(), rel=0.1, abs=60)
        assert zone["name"] in step["shown"]
    assert sum(z["pixels"] for z in step["told"]["classes"]) == pytest.approx((part != 255).sum(), rel=0.06)
