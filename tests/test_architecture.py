"""The shape of the project: who owns what, who may import whom, what must stay light."""

import re
import subprocess
import sys
import zipfile
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
        "import geounet.cli.app",
        "from geounet.cli import app, run; run(lambda **k: app(['--help'], **k))",
        "from geounet.cli import app, run; run(lambda **k: app(['predict', '--help'], **k))",
        "import api.main",
        "import tiles.scene.scene, tiles.polygons, tiles.vector, tiles.blend",
    ],
)
def test_torch_is_not_imported_before_a_network_runs(code: str) -> None:
    loaded = run(
        f"import sys\n{code}\nprint('loaded:', *sorted(m for m in ('torch', 'timm', 'openvino') if m in sys.modules))"
    )
    assert loaded.splitlines()[-1].strip() == "loaded:"


def test_tiles_knows_no_torch_and_no_web_framework() -> None:
    for source in (ROOT / "tiles").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (torch|fastapi|starlette|geounet|api)\b", source.read_text(), re.M), (
            source
        )


def test_the_api_imports_neither_torch_nor_rasterio_directly() -> None:
    for source in (ROOT / "api").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (torch|rasterio)\b", source.read_text(), re.M), source


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
