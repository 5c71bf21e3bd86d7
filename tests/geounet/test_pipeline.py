"""A map is whole, the same however often it was interrupted, and never half there."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from pydantic import ValidationError
from rasterio.features import rasterize

from geounet.mapping.pipeline import map_scene
from geounet.mapping.progress import Progress
from geounet.mapping.workspace import partial_of
from geounet.model.bundle import ModelBundle
from geounet.model.stretch import BandStretch, Stretch
from geounet.options import Options
from geounet.outputs.check import Check
from geounet.outputs.decisions import Decisions
from geounet.outputs.summary import Summary
from tiles.errors import OutputError, SceneError

OPTIONS = Options(
    chip_size=64, overlap=16, engine="torch", device="cpu", precision="f32", min_area_m2=0.0, simplify_px=0.0
)
"""Small chips, so that a small scene has many rows of them; polygons as exact as the raster."""

MakeScene = Callable[..., Path]

FILES = {
    "classes.tif",
    "classes.tif.aux.xml",
    "confidence.tif",
    "polygons.gpkg",
    "polygons.geojson",
    "summary.json",
    "run.json",
    "preview.png",
    "item.json",
}


class PowerCutError(Exception):
    """Stands for anything that ends a process."""


def stop_after(calls: int) -> Callable[[Progress], None]:
    left = [calls]

    def on_progress(progress: Progress) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise PowerCutError

    return on_progress


def same_but_for_the_run(a: Path, b: Path) -> bool:
    assert {p.name for p in a.iterdir()} == {p.name for p in b.iterdir()}
    return all(p.read_bytes() == (b / p.name).read_bytes() for p in a.iterdir() if p.name != "run.json")


def test_the_summary_is_the_published_format(bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path) -> None:
    found = map_scene(make_scene(tmp_path / "scene.tif"), bundle, tmp_path / "map", OPTIONS)
    text = (found.folder / "summary.json").read_text(encoding="utf-8")
    summary = Summary.model_validate_json(text)
    assert summary.to_record() == json.loads(text) == found.summary
    assert next(iter(json.loads(text))) == "version"
    explained = (Path(__file__).parents[2] / "docs" / "map-folder.md").read_text(encoding="utf-8")
    assert [key for key in json.loads(text) if f"`{key}`" not in explained] == []
    assert [p.name for p in found.folder.iterdir() if f"`{p.name}`" not in explained] == []
    later = Summary.model_validate({**json.loads(text), "checked_by": "somebody"})
    assert later.to_record()["checked_by"] == "somebody"
    with pytest.raises(ValidationError, match="version"):
        Summary.model_validate({**json.loads(text), "version": 2})


def test_decisions_come_back_from_the_journal_as_they_were() -> None:
    stretch = Stretch("linear", (BandStretch(0.0, 10.0, 1.0, 0.0, 255.0),) * 3)
    decided = Decisions({"digest": "0"}, {"engine": "torch"}, stretch, (Check("values", "warning", "dark", "look"),))
    assert Decisions.from_record(json.loads(json.dumps(decided.to_record()))) == decided


def test_a_map_holds_its_files_on_the_scenes_grid(bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", nodata_rows=70)
    found = map_scene(scene, bundle, tmp_path / "map", OPTIONS)
    assert {p.name for p in found.folder.iterdir()} >= FILES
    with rasterio.open(scene) as source, rasterio.open(found.folder / "classes.tif") as classes:
        assert (classes.crs, classes.transform, classes.shape) == (source.crs, source.transform, source.shape)
        values = classes.read(1)
        assert ((values == 255) == (source.dataset_mask() == 0)).all()
        with rasterio.open(found.folder / "confidence.tif") as confidence:
            assert ((confidence.read(1) == 255) == (values == 255)).all()
        polygons = pyogrio.read_dataframe(found.folder / "polygons.gpkg", layer="landcover")
        burnt = rasterize(
            zip(polygons.geometry, polygons.class_id, strict=True),
            out_shape=classes.shape,
            transform=classes.transform,
            fill=255,
            dtype="uint8",
        )
    assert (burnt == values).all()
    summary = json.loads((found.folder / "summary.json").read_text())
    assert summary == found.summary
    assert sum(c["share"] for c in summary["classes"]) == pytest.approx(1.0, abs=1e-4)
    assert summary["nodata_share"] == pytest.approx(70 / 150, abs=1e-4)
    areas = polygons.groupby("class_name").area_m2.sum()
    for row in summary["classes"]:
        assert areas.get(row["name"], 0.0) == pytest.approx(row["area_m2"], rel=1e-5, abs=0.01)
    assert not partial_of(found.folder).exists()


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path, calls: int
) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    whole = map_scene(scene, bundle, tmp_path / "whole", OPTIONS)
    with pytest.raises(PowerCutError):
        map_scene(scene, bundle, tmp_path / "cut", OPTIONS, on_progress=stop_after(calls))
    assert not (tmp_path / "cut").exists()
    assert partial_of(tmp_path / "cut").is_dir()
    again = map_scene(scene, bundle, tmp_path / "cut", OPTIONS)
    assert again.summary == whole.summary
    assert same_but_for_the_run(again.folder, whole.folder)


def test_polygons_are_generalised_for_the_maps_scale_unless_asked_otherwise(
    bundle: ModelBundle, scene: Path, tmp_path: Path
) -> None:
    exact = map_scene(scene, bundle, tmp_path / "exact", OPTIONS)
    usual = map_scene(scene, bundle, tmp_path / "usual", replace(OPTIONS, min_area_m2=None, simplify_px=None))
    assert exact.summary["polygons"] == {"min_area_m2": 0.0, "simplify_px": 0.0}
    assert usual.summary["polygons"]["min_area_m2"] == pytest.approx(16 * 0.36, rel=0.01)
    assert usual.summary["polygons"]["simplify_px"] > 0
    few, many = (pyogrio.read_info(m.folder / "polygons.gpkg", layer="landcover")["features"] for m in (usual, exact))
    assert 0 < few < many
    assert (usual.folder / "classes.tif").read_bytes() == (exact.folder / "classes.tif").read_bytes()
    assert usual.summary["classes"] == exact.summary["classes"]


def test_a_finished_map_is_not_made_again(bundle: ModelBundle, scene: Path, tmp_path: Path) -> None:
    first = map_scene(scene, bundle, tmp_path / "map", OPTIONS)
    stamp = (first.folder / "classes.tif").stat().st_mtime_ns
    second = map_scene(scene, bundle, tmp_path / "map", OPTIONS)
    assert (first.fresh, second.fresh) == (True, False)
    assert second.summary == first.summary
    assert (second.folder / "classes.tif").stat().st_mtime_ns == stamp


def test_another_map_is_replaced_only_on_request_and_stays_until_then(
    bundle: ModelBundle, make_scene: MakeScene, scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "map"
    map_scene(scene, bundle, out, OPTIONS)
    other = make_scene(tmp_path / "other.tif", rows=100)
    with pytest.raises(OutputError, match="holds another map"):
        map_scene(other, bundle, out, OPTIONS)
    with pytest.raises(PowerCutError):
        map_scene(other, bundle, out, OPTIONS, overwrite=True, on_progress=stop_after(1))
    assert json.loads((out / "summary.json").read_text())["scene"] == "scene.tif"
    found = map_scene(other, bundle, out, OPTIONS, overwrite=True)
    assert found.summary["scene"] == "other.tif"
    assert not partial_of(out).exists()


@pytest.mark.parametrize("mine", ["my_edits.qgz", "polygons.fgb", "probabilities.tif", "notes/today.txt", ".hidden"])
def test_a_persons_file_beside_a_map_is_not_deleted_with_it(
    bundle: ModelBundle, make_scene: MakeScene, scene: Path, tmp_path: Path, mine: str
) -> None:
    out = tmp_path / "map"
    map_scene(scene, bundle, out, OPTIONS)
    (out / mine).parent.mkdir(exist_ok=True)
    (out / mine).write_text("mine")
    other = make_scene(tmp_path / "other.tif", rows=100)
    for again in (scene, other):
        with pytest.raises(OutputError, match=rf"holds {mine.split('/')[0]} beside the map.* move that away"):
            map_scene(again, bundle, out, OPTIONS, overwrite=True)
    assert (out / mine).read_text() == "mine"
    assert not partial_of(out).exists()


def test_a_file_that_appears_while_the_new_map_is_made_stops_the_exchange(
    bundle: ModelBundle, make_scene: MakeScene, scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "map"
    map_scene(scene, bundle, out, OPTIONS)
    other = make_scene(tmp_path / "other.tif", rows=100)

    def edit(progress: Progress) -> None:
        (out / "my_edits.qgz").write_text("mine")

    with pytest.raises(OutputError, match=r"my_edits\.qgz"):
        map_scene(other, bundle, out, OPTIONS, overwrite=True, on_progress=edit)
    (out / "my_edits.qgz").rename(tmp_path / "my_edits.qgz")
    assert map_scene(other, bundle, out, OPTIONS, overwrite=True).summary["scene"] == "other.tif"


def test_what_a_viewer_leaves_beside_a_map_goes_with_it(bundle: ModelBundle, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map"
    map_scene(scene, bundle, out, OPTIONS)
    for name in ("confidence.tif.aux.xml", "polygons.gpkg-wal", "polygons.gpkg-shm"):
        (out / name).touch()
    map_scene(scene, bundle, out, OPTIONS, overwrite=True)
    assert {p.name for p in out.iterdir()} == FILES


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_that_only_has_the_name_of_unfinished_work_is_not_touched(
    bundle: ModelBundle, scene: Path, tmp_path: Path, restart: bool
) -> None:
    thesis = partial_of(tmp_path / "map") / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    with pytest.raises(OutputError, match=r"map\.partial holds thesis\.tex"):
        map_scene(scene, bundle, tmp_path / "map", OPTIONS, restart=restart)
    assert thesis.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.partial", "scene.tif"]


def test_a_map_goes_into_an_empty_folder(bundle: ModelBundle, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "map").mkdir()
    assert map_scene(scene, bundle, tmp_path / "map", OPTIONS).fresh
    assert {p.name for p in (tmp_path / "map").iterdir()} == FILES


def test_a_folder_with_something_else_in_it_is_never_touched(bundle: ModelBundle, scene: Path, tmp_path: Path) -> None:
    precious = tmp_path / "photos" / "holiday.txt"
    precious.parent.mkdir()
    precious.write_text("sun")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            map_scene(scene, bundle, precious.parent, OPTIONS, overwrite=overwrite)
    assert [p.name for p in precious.parent.iterdir()] == ["holiday.txt"]


def test_an_interrupted_run_of_something_else_is_not_gone_on_with(
    bundle: ModelBundle, make_scene: MakeScene, scene: Path, tmp_path: Path
) -> None:
    with pytest.raises(PowerCutError):
        map_scene(scene, bundle, tmp_path / "map", OPTIONS, on_progress=stop_after(1))
    other = make_scene(tmp_path / "other.tif", rows=100)
    with pytest.raises(OutputError, match=r"another scene.*--restart"):
        map_scene(other, bundle, tmp_path / "map", OPTIONS)
    assert map_scene(other, bundle, tmp_path / "map", OPTIONS, restart=True).summary["scene"] == "other.tif"


def test_a_crash_between_the_two_renames_brings_the_old_map_back(
    bundle: ModelBundle, make_scene: MakeScene, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "map"
    first = map_scene(scene, bundle, out, OPTIONS)
    rename = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if Path(target) == out:
            raise PowerCutError
        return rename(self, target)

    other = make_scene(tmp_path / "other.tif", rows=100)
    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(PowerCutError):
        map_scene(other, bundle, out, OPTIONS, overwrite=True)
    monkeypatch.undo()
    assert not out.exists()
    with pytest.raises(OutputError, match="holds another map"):
        map_scene(other, bundle, out, OPTIONS)
    assert json.loads((out / "summary.json").read_text()) == first.summary
    assert map_scene(other, bundle, out, OPTIONS, overwrite=True).summary["scene"] == "other.tif"


def test_two_runs_do_not_make_the_same_map_at_once(bundle: ModelBundle, scene: Path, tmp_path: Path) -> None:
    def intrude(progress: Progress) -> None:
        with pytest.raises(OutputError, match="another run"):
            map_scene(scene, bundle, tmp_path / "map", OPTIONS)

    map_scene(scene, bundle, tmp_path / "map", OPTIONS, on_progress=intrude)
    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif", "map"}


def test_a_scene_that_breaks_in_the_middle_leaves_nothing_behind(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(tmp_path / "scene.tif", rows=300)
    with rasterio.open(scene) as source:
        profile, pixels = source.profile, source.read()
    profile.update(compress="deflate", blockysize=16)
    with rasterio.open(scene, "w", **profile) as target:
        target.write(pixels)
    with rasterio.open(scene) as source:
        offset = int(source.get_tag_item("BLOCK_OFFSET_0_9", "TIFF", bidx=1))
    raw = bytearray(scene.read_bytes())
    raw[offset : offset + 40] = bytes(40)
    scene.write_bytes(raw)
    with pytest.raises(SceneError, match=r"scene\.tif"):
        map_scene(scene, bundle, tmp_path / "map", OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_a_scene_without_a_valid_pixel_gives_an_empty_map_without_a_network(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(tmp_path / "scene.tif", nodata_rows=150)
    found = map_scene(scene, bundle, tmp_path / "map", OPTIONS)
    with rasterio.open(found.folder / "classes.tif") as classes:
        assert (classes.read(1) == 255).all()
    assert found.summary["nodata_share"] == 1.0
    assert len(pyogrio.read_dataframe(found.folder / "polygons.gpkg", layer="landcover")) == 0


def test_chip_rows_do_not_depend_on_the_output_folders_disk(
    bundle: ModelBundle, make_scene: MakeScene, tmp_path: Path
) -> None:
    """The same scene under another name and time is the same scene."""
    scene = make_scene(tmp_path / "scene.tif")
    copy = tmp_path / "copy" / "scene.tif"
    copy.parent.mkdir()
    shutil.copy(scene, copy)
    os.utime(copy, (1, 1))
    first = map_scene(scene, bundle, tmp_path / "a", OPTIONS)
    second = map_scene(copy, bundle, tmp_path / "b", OPTIONS)
    assert same_but_for_the_run(first.folder, second.folder)


def test_probabilities_have_a_band_a_class_and_agree_with_the_map(
    bundle: ModelBundle, scene: Path, tmp_path: Path
) -> None:
    found = map_scene(scene, bundle, tmp_path / "map", replace(OPTIONS, probabilities=True))
    with rasterio.open(found.folder / "probabilities.tif") as source:
        planes = source.read()
        assert source.descriptions == bundle.legend.names
    with rasterio.open(found.folder / "classes.tif") as source:
        values = source.read(1)
    assert np.abs(planes.astype(int).sum(axis=0) - 100).max() <= 2
    chosen = np.take_along_axis(planes, (values - 1)[None].astype(int), axis=0)[0]
    assert (chosen == planes.max(axis=0)).all()
