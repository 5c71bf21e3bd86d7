"""The command line as a person meets it: what it prints, what it leaves, what it returns."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio
from affine import Affine

from geounet.cli.app import app, run
from geounet.model.bundle import ModelBundle

MakeScene = Callable[..., Path]
SMALL = ["--chip-size", "64", "--overlap", "16", "--engine", "torch", "--device", "cpu", "--precision", "f32"]


def geounet(*arguments: object) -> int:
    return run(lambda **mode: app([str(a) for a in arguments], **mode))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_predict_prints_areas_and_files(bundle: ModelBundle, scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert geounet("predict", scene, "-m", bundle.folder, *SMALL) == 0
    told = capsys.readouterr()
    for name in bundle.legend.names:
        assert name in told.out
    assert "scene-landcover/classes.tif" in told.out
    assert "torch on cpu in f32" in told.out
    assert Path("scene-landcover/polygons.gpkg").exists()


@pytest.mark.parametrize(
    "name", [b"a\nb", b"tab\t", b"two  words & <more>", "Grün 湿地".encode(), b"what?#x=1", b"100%25"]
)
def test_a_scene_of_any_name_is_mapped(bundle: ModelBundle, scene: Path, name: bytes) -> None:
    named = scene.rename(os.fsdecode(os.fsencode(scene.parent) + b"/" + name + b".tif"))
    assert geounet("predict", named, "-m", bundle.folder, *SMALL) == 0
    (folder,) = (p for p in Path().iterdir() if p.is_dir())
    assert {p.name for p in Path().iterdir()} == {named.name, folder.name}
    assert folder.name == named.stem.replace("\n", "_").replace("\t", "_") + "-landcover"


def test_a_name_that_gdal_cannot_open_is_said_in_one_line(
    bundle: ModelBundle, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = os.fsdecode(b"latin\xe9.tif")
    shutil.copy(scene, strange)
    for arguments in (["predict", strange], ["info", strange], ["batch", strange, "-o", "maps"]):
        assert geounet(*arguments, "-m", bundle.folder) == 3
        told = " ".join("".join(capsys.readouterr()).split())
        assert "not UTF-8 text: rename it" in told
        assert "damaged" not in told
    assert sorted(p.name for p in Path().iterdir()) == [strange, "maps", "scene.tif"]
    assert os.fsencode(strange) in Path("maps/batch.csv").read_bytes()


@pytest.mark.parametrize("out", ["new\nline", os.fsdecode(b"latin\xe9"), "a\nb/map"])
def test_an_output_that_cannot_be_named_so_is_refused_and_leaves_nothing(
    bundle: ModelBundle, scene: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    assert geounet("predict", scene, "-m", bundle.folder, "-o", out, *SMALL) == 3
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) == 1
    assert "choose another" in told
    assert [p.name for p in Path().iterdir()] == ["scene.tif"]


@pytest.mark.parametrize("arguments", [[], ["--force"], ["--bands", "red=9,green=2,blue=3", "--force"]])
@pytest.mark.parametrize("metres", [0.6, 30.0])
def test_info_and_predict_refuse_the_same(
    bundle: ModelBundle, scene: Path, metres: float, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with rasterio.open(scene, "r+") as file:
        file.transform = Affine(metres, 0, 700_000, 0, -metres, 4_400_000)
    told = geounet("info", scene, "-m", bundle.folder, "--json", *arguments)
    fits = json.loads(capsys.readouterr().out or '{"fits": false}')["fits"]
    assert geounet("predict", scene, "-m", bundle.folder, *arguments, *SMALL) == told
    assert told == (3 if (metres == 30 and not arguments) or "--bands" in arguments else 0)
    assert fits == (told == 0)


def test_a_first_run_says_that_the_model_is_being_prepared(
    bundle: ModelBundle, scene: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOUNET_CACHE", "cache")
    openvino = ["--chip-size", "64", "--overlap", "16", "--engine", "openvino", "--precision", "f32"]
    for out, said in (("first", True), ("second", False)):
        assert geounet("predict", scene, "-m", bundle.folder, "-o", out, *openvino) == 0
        told = " ".join(capsys.readouterr().err.split())
        assert ("preparing the model for chips of 64 px" in told) == said


def test_predict_json_is_all_there_is_on_standard_output(
    bundle: ModelBundle, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert geounet("predict", scene, "-m", bundle.folder, "-o", "map", "--json", *SMALL) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["fresh"] is True
    assert record["summary"] == json.loads(Path("map/summary.json").read_text())
    assert geounet("predict", scene, "-m", bundle.folder, "-o", "map", "--json", *SMALL) == 0
    assert json.loads(capsys.readouterr().out)["fresh"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "nothing.tif", "-m", "BUNDLE"], 3, "nothing.tif"),
        (["predict", "text.tif", "-m", "BUNDLE"], 3, "text.tif"),
        (["predict", "empty.tif", "-m", "BUNDLE"], 3, "empty.tif"),
        (["predict", ".", "-m", "BUNDLE"], 3, "is a folder"),
        (["predict", "scene.tif", "-m", "nope"], 3, "no model 'nope'"),
        (["predict", "scene.tif", "-m", "BUNDLE", "-o", "taken"], 3, "taken"),
        (["predict", "scene.tif", "-m", "BUNDLE", "--bands", "red"], 2, "red=5,green=3,blue=2"),
        (["predict", "scene.tif", "-m", "BUNDLE", "--nodata", "black"], 2, "-9999"),
        (["predict", "scene.tif", "-m", "BUNDLE", "--nodata", "-9999"], 3, "--nodata -9999 is none of its counts"),
        (["predict", "scene.tif", "-m", "BUNDLE", "--formats", "shp"], 2, "'--formats': 'shp': choose one of"),
        (
            ["predict", "scene.tif", "-m", "BUNDLE", "--engine", "magic"],
            2,
            "'--engine': 'magic': choose one of",
        ),
        (["predict", "scene.tif", "-m", "BUNDLE", "--device", "cuda:7"], 2, "cpu"),
        (["predict", "scene.tif", "-m", "BUNDLE", "--chip-size", "64", "--overlap", "64"], 3, "overlap"),
        (["predict"], 2, "Missing argument"),
        (["batch", "nothing-*.tif", "-m", "BUNDLE", "-o", "maps"], 3, "nothing-*.tif"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    bundle: ModelBundle,
    scene: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    Path("text.tif").write_text("no image")
    Path("empty.tif").touch()
    Path("taken").mkdir()
    Path("taken/mine.txt").touch()
    before = sorted(Path().rglob("*"))
    given = [str(bundle.folder) if a == "BUNDLE" else a for a in arguments]
    assert geounet(*given) == code
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert sorted(Path().rglob("*")) == before


def test_one_bad_scene_does_not_stop_a_batch(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    make_scene(folder / "a.tif")
    (folder / "b.tif").write_text("no image")
    make_scene(folder / "c.tif", rows=80)
    assert geounet("batch", folder, "-m", bundle.folder, "-o", "maps", *SMALL) == 3
    assert "b.tif" in capsys.readouterr().out
    with Path("maps/batch.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(Path(r["scene"]).name, r["status"]) for r in rows] == [
        ("a.tif", "done"),
        ("b.tif", "failed"),
        ("c.tif", "done"),
    ]
    assert float(rows[0]["tree_m2"]) >= 0
    assert "b.tif" in rows[1]["error"]
    assert Path("maps/a/classes.tif").exists()
    assert not Path("maps/b").exists()

    Path("list.txt").write_text(f"# scenes\n{folder / 'a.tif'}\n{folder / 'c.tif'}\n")
    assert geounet("batch", "@list.txt", "-m", bundle.folder, "-o", "maps", "--json", *SMALL) == 0
    assert [r["status"] for r in json.loads(capsys.readouterr().out)] == ["already there", "already there"]


def test_scenes_that_would_share_a_folder_are_refused(bundle: ModelBundle, make_scene: MakeScene) -> None:
    for name in ("x", "y"):
        Path(name).mkdir()
        make_scene(Path(name) / "scene.tif")
    assert geounet("batch", "x", "y", "-m", bundle.folder, "-o", "maps", *SMALL) == 3
    assert not Path("maps").exists()


def test_models_lists_the_shipped_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert geounet("models") == 0
    told = capsys.readouterr().out
    for needed in ("overhead-rgb", "red, green, blue", "0.3-1.2 m", "water", "mIoU"):
        assert needed in told
    assert geounet("models", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "overhead-rgb"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert geounet("--version") == 0
    assert geounet("--help") == 0
    told = capsys.readouterr().out
    for command in ("predict", "batch", "models", "info"):
        assert command in told
