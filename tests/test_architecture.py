"""The shape of the project: who owns what, who may import whom, what must stay light."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("package", ["geounet", "api", "tiles"])
def test_one_distribution_owns_the_package(package: str) -> None:
    assert set(packages_distributions()[package]) == {"geounet"}


@pytest.mark.parametrize(
    "code",
    [
        "import geounet",
        "from geounet import map_scene, Options, ModelBundle, LandCoverMap",
        "import geounet.cli.app",
        "from geounet.cli.app import app, run; run(lambda **k: app(['--help'], **k))",
        "from geounet.cli.app import app, run; run(lambda **k: app(['predict', '--help'], **k))",
        "import api.main",
        "import tiles.scene.scene, tiles.polygons.polygonise, tiles.vectors.write, tiles.chips.blend",
    ],
)
def test_torch_is_not_imported_before_a_network_runs(code: str) -> None:
    loaded = run(
        f"import sys\n{code}\nprint('loaded:', *sorted(m for m in ('torch', 'timm', 'openvino') if m in sys.modules))"
    )
    assert loaded.splitlines()[-1].strip() == "loaded:"


PACKAGES = ("tiles", "geounet", "api")
MOST_MODULES = 12


def modules() -> list[Path]:
    return [source for package in PACKAGES for source in sorted((ROOT / package).rglob("*.py"))]


def test_every_module_says_what_it_is() -> None:
    silent = [m.relative_to(ROOT).as_posix() for m in modules() if not ast.get_docstring(ast.parse(m.read_text()))]
    assert len(modules()) > 150
    assert silent == []


def test_no_room_is_overfull() -> None:
    rooms = Counter(
        m.parent.relative_to(ROOT).as_posix() for m in modules() if m.name not in ("__init__.py", "__main__.py")
    )
    assert len(rooms) > 20
    assert {room: number for room, number in rooms.items() if number > MOST_MODULES} == {}


def test_the_import_rules_are_the_drawing() -> None:
    """Every room of every package stands in a layer: import-linter checks them in `make lint`."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    drawn = {container: rule for rule in rules for container in rule.get("containers", [])}
    assert set(drawn) == {"tiles", "geounet", "geounet.service", "api"}
    assert all(rule["exhaustive"] for rule in drawn.values())


def test_what_uvicorn_is_told_to_import_is_there() -> None:
    """The two arrows that are strings: `geounet serve` names application and protocol, it may not import them."""
    from geounet.cli.serve import APPLICATION, PROTOCOL

    for named in (APPLICATION, PROTOCOL):
        module, _, name = named.partition(":")
        assert callable(getattr(import_module(module), name))


def test_only_one_file_knows_segmentation_models() -> None:
    users = [
        source.relative_to(ROOT).as_posix()
        for package in ("tiles", "geounet", "api")
        for source in (ROOT / package).rglob("*.py")
        if "import segmentation_models_pytorch" in source.read_text()
    ]
    assert users == ["geounet/model/architectures.py"]


def test_the_wheel_holds_packages_bundles_and_licence(tmp_path: Path) -> None:
    source = tmp_path / "source"  # what the container's build stage copies, and nothing else
    for name in _copied_by_the_dockerfile():
        destination = source / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / name), str(destination)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("geounet-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"geounet", "api", "tiles"}
    for needed in ("model.json", "weights.safetensors", "README.md"):
        assert f"geounet/bundles/overhead-rgb/{needed}" in names
    for needed in ("static/page.css", "web/dist/index.html", "web/dist/LICENCES.txt"):
        assert f"api/pages/{needed}" in names
    assert not any("node_modules" in name or "/web/src/" in name for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "tiles/py.typed" in names


def test_the_container_runs_as_nobody_special_and_is_watched() -> None:
    text = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM .* AS (\w+)$", text, re.M)
    assert stages == ["build", "run"]
    assert text.rindex("USER geounet") < text.rindex("CMD [")
    assert "HEALTHCHECK" in text
    assert "ARG TORCH_PIP_ARGS" in text


def _copied_by_the_dockerfile() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    return [name for line in lines for name in line.split()]


def test_compiled_loops_need_no_place_to_be_kept(tmp_path: Path) -> None:
    """An installation and a home that may not be written to: numba has nowhere to keep its code."""
    shutil.copytree(ROOT / "tiles", tmp_path / "tiles", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [tmp_path / "tiles", *(p for p in (tmp_path / "tiles").rglob("*") if p.is_dir())]:
        (folder / "__pycache__").touch()  # root may write into any folder, but into no file as if it were one
    code = (
        "import numpy as np, tiles.chips.blend, tiles.polygons.polygonise, tiles.rasters.write, tiles.rasters.areas\n"
        "import tiles.scene.scene\n"
        "from tiles.polygons.regions import find\n"
        "print(tiles.chips.blend.__file__, find(np.array([0, 0, 1], np.int32), 2))\n"
    )
    dropped = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {k: v for k, v in os.environ.items() if k not in dropped}
    environment |= {"PYTHONPATH": str(tmp_path), "HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == [str(tmp_path / "tiles" / "chips" / "blend.py"), "0"]
