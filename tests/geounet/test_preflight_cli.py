"""`geounet info`: facts, checks, an exit code for scripts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer import Typer

from geounet.cli import app as cli
from geounet.model.bundle import ModelBundle

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bundle: ModelBundle) -> Run:
    """Run `geounet info` with the toy model: exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(
            "sys.argv", ["geounet", "info", *(str(a) for a in arguments), "--model", str(bundle.folder)]
        )
        assert isinstance(cli.app, Typer)
        code = cli.run(cli.app)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_scene_that_fits(info: Run, scene: Path) -> None:
    code, out, _ = info(scene)
    assert code == 0
    for words in ("EPSG:", "m on the ground", "red = band 1", "toy knows 0.3-1.2 m", "GB of disk"):
        assert words in out


def test_as_json(info: Run, scene: Path) -> None:
    code, out, _ = info(scene, "--json")
    record: dict[str, Any] = json.loads(out)
    assert code == 0
    assert record["fits"] is True
    assert record["file"]["bands"][0]["name"] == "red"
    assert {row["topic"] for row in record["checks"]} >= {"bands", "resolution", "values", "size", "cost"}


def test_bands_that_do_not_match_are_a_line_and_exit_code_3(info: Run, geotiff: Callable[..., Path]) -> None:
    path = geotiff(np.full((8, 40, 40), 300, dtype=np.uint16))
    code, out, _ = info(path)
    assert code == 3
    assert "refused" in out
    assert "--bands red=5,green=3,blue=2" in out
    assert info(path, "--bands", "red=5,green=3,blue=2")[0] == 0


def test_force_makes_a_coarse_scene_fit(info: Run, geotiff: Callable[..., Path]) -> None:
    from affine import Affine

    image = np.random.default_rng(0).integers(1, 255, (3, 40, 40)).astype(np.uint8)
    path = geotiff(image, transform=Affine(10, 0, 3e5, 0, -10, 4.3e6), photometric="RGB")
    code, out, _ = info(path)
    assert (code, "too coarse" in out) == (3, True)
    assert info(path, "--force")[0] == 0


def test_a_file_that_is_none_is_one_line_on_standard_error(info: Run, tmp_path: Path) -> None:
    code, out, err = info(tmp_path / "nothing.tif")
    assert (code, out) == (3, "")
    assert err.strip().endswith("does not exist: check the path")
    assert len(err.strip().splitlines()) == 1
