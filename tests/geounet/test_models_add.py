"""Models from elsewhere become bundles: what their files say is taken, what they do not say is asked for."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geounet.cli.app import app, run
from geounet.engines.choose import open_engine
from geounet.engines.engine import EngineSpec
from geounet.errors import BundleError
from geounet.model.bundle import ModelBundle, added_bundles
from geounet.model.stretch import Stretch
from geounet.options import Options
from geounet.registry.add import add_model, remove_model
from geounet.registry.contact_picture import contact_picture
from geounet.registry.describe import VALUES, Told, describe
from geounet.registry.sources import fetch
from tiles.chips.cut import Chip
from tiles.window import Window

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")

Maker = Callable[..., Any]
DEEPNESS = {
    "model_type": '"Segmentor"',
    "class_names": '{"0": "other", "1": "field", "2": "road"}',
    "resolution": "60",
    "tile_size": "96",
    "tiles_overlap": "25",
    "standardization_mean": "[0.5, 0.4, 0.3]",
    "standardization_std": "[0.2, 0.2, 0.1]",
}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEOUNET_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def facts_of(model: Any) -> dict[str, Any]:
    from geounet.model import onnx_checks
    from geounet.registry.probe import _told, last_operator

    return {
        "input": _told(onnx_checks.only_input(model, "x")),
        "outputs": [{**_told(o), "last": last_operator(model, o.name)} for o in onnx_checks.outputs(model)],
        "metadata": onnx_checks.metadata(model),
    }


def scores(bundle: ModelBundle, counts: Any, engine: str = "onnxruntime") -> Any:
    side = counts.shape[-1]
    chip = Chip(0, 0, Window(0, 0, side, side), counts, np.ones((side, side), dtype=bool))
    found = open_engine(bundle, EngineSpec(engine, "cpu", "f32"), side).predict([chip], Stretch("none"))
    return np.array(next(iter(found)).probabilities)


def test_a_file_with_deepness_metadata_needs_nothing_else(make_onnx: Maker, tmp_path: Path, scene: Path) -> None:
    (tmp_path / "fields_v2.onnx").write_bytes(make_onnx(metadata=DEEPNESS).SerializeToString())
    added = add_model(str(tmp_path / "fields_v2.onnx"))
    card = added.bundle.card
    assert added.bundle.name == "fields_v2"
    assert added_bundles() == ("fields_v2",)
    assert added.bundle.legend.names == ("other", "field", "road")
    assert card.gsd_m == (0.6, 0.6)
    assert (card.chip_size, card.overlap) == (96, 24)
    assert card.normalisation.mean == pytest.approx((127.5, 102.0, 76.5))
    assert card.normalisation.std == pytest.approx((51.0, 51.0, 25.5))
    assert card.onnx is not None
    assert card.onnx.activation == "softmax"
    assert added.tried["pixels"] == 96 * 96
    assert any("taken as logits" in note for note in added.notes)
    # The file keeps its bytes, and so the digest by which people know it.
    assert added.bundle.weights_path.read_bytes() == (tmp_path / "fields_v2.onnx").read_bytes()
    contact = contact_picture(ModelBundle.load("fields_v2"), str(scene), tmp_path / "contact.png", Options())
    assert contact.path.stat().st_size > 1000
    assert sum(contact.shares.values()) == pytest.approx(1.0)

    remove_model("fields_v2")
    assert added_bundles() == ()
    with pytest.raises(BundleError, match="no added model 'fields_v2'; added are: none"):
        remove_model("fields_v2")


def test_everything_that_is_missing_is_asked_for_at_once(make_onnx: Maker) -> None:
    with pytest.raises(BundleError) as caught:
        describe(facts_of(make_onnx(bands=4)), Told(), "x.onnx")
    for option in ("--bands", "--classes", "--gsd", "--values"):
        assert option in str(caught.value)
    told = Told(bands=("a", "b", "c", "d"), classes=(("x", None), ("y", None), ("z", None)), gsd_m=(1, 1))
    with pytest.raises(BundleError, match="add --mean and --std"):
        describe(facts_of(make_onnx(bands=4)), replace(told, values="reflectance"), "x.onnx")


@pytest.mark.parametrize("values", list(VALUES))
def test_the_networks_numbers_are_reached_from_every_scale(make_onnx: Maker, values: str) -> None:
    told = Told(bands=("red", "green", "blue"), classes=(("a", None), ("b", None), ("c", None)), gsd_m=(1, 2),
                values=values, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))  # fmt: skip
    card = describe(facts_of(make_onnx()), told, "x.onnx").card
    factor = 255 if values == "0-1" else 1
    assert card["normalisation"] == {"mean": [0.5 * factor] * 3, "std": [0.25 * factor] * 3}
    assert card["reflectance_one"] == {"reflectance": 1.0, "reflectance*10000": 10_000.0}.get(values)
    assert card["gsd_m"] == [1, 2]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({}, {"layout": "nchw", "size": None, "activation": "softmax", "shrink": 1}),
        ({"layout": "nhwc", "size": 96, "last": "Softmax"}, {"layout": "nhwc", "size": 96, "activation": "none"}),
        ({"last": "Sigmoid"}, {"activation": "shares"}),
        ({"size": 64, "shrink": 4}, {"size": 64, "shrink": 4}),
        ({"channels": 1}, {"channels": 1, "activation": "sigmoid"}),
        ({"channels": 1, "last": "Sigmoid"}, {"channels": 1, "activation": "none"}),
    ],
)
def test_the_graph_says_how_it_is_fed_and_read(
    make_onnx: Maker, model: dict[str, Any], expected: dict[str, Any]
) -> None:
    names = ("no", "yes") if model.get("channels") == 1 else ("a", "b", "c")
    told = Told(classes=tuple((n, None) for n in names))
    card = describe(facts_of(make_onnx(metadata=DEEPNESS, **model)), told, "x.onnx").card
    assert {k: card["onnx"][k] for k in expected} == expected


def test_class_names_may_be_json_or_python_or_a_list(make_onnx: Maker) -> None:
    for text in ('{"0": "a", "1": "b", "2": "c"}', "{0: 'a', 1: 'b', 2: 'c'}", '["a", "b", "c"]'):
        card = describe(facts_of(make_onnx(metadata=DEEPNESS | {"class_names": text})), Told(), "x").card
        assert [c["name"] for c in card["legend"]] == ["a", "b", "c"]


def checkpoint(folder: Path, classes: int) -> Any:
    import segmentation_models_pytorch as smp

    torch.manual_seed(1)
    network = smp.Unet(
        "resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(32, 16, 16), classes=classes
    )
    network.save_pretrained(folder)
    return network.eval()


SMP = Told(name="mine", bands=("red", "green", "blue"), gsd_m=(0.5, 1), values="0-1", mean=(0.485, 0.456, 0.406),
           std=(0.229, 0.224, 0.225))  # fmt: skip


@pytest.mark.parametrize(("classes", "names"), [(3, ("a", "b", "c")), (1, ("no", "yes"))])
def test_a_checkpoint_of_smp_gives_its_own_answers(tmp_path: Path, classes: int, names: tuple[str, ...]) -> None:
    network = checkpoint(tmp_path / "smp", classes)
    added = add_model(str(tmp_path / "smp"), replace(SMP, classes=tuple((n, None) for n in names)))
    counts = np.random.default_rng(2).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (SMP.mean, SMP.std))
    with torch.inference_mode():
        logits = network((torch.from_numpy(counts)[None] / 255.0 - mean) / std)[0]
    theirs = logits.softmax(0) if classes > 1 else torch.cat([1 - logits.sigmoid(), logits.sigmoid()])
    assert np.abs(scores(added.bundle, counts, "torch") - theirs.numpy()).max() < 1e-5


def test_a_checkpoint_that_is_not_what_it_says(tmp_path: Path) -> None:
    checkpoint(tmp_path / "smp", 3)
    told = replace(SMP, classes=(("a", None), ("b", None), ("c", None)))
    with pytest.raises(BundleError, match="does not say everything; add --bands"):
        add_model(str(tmp_path / "smp"), replace(told, bands=None))
    with pytest.raises(BundleError, match="takes 3 bands, 4 are named"):
        add_model(str(tmp_path / "smp"), replace(told, bands=("a", "b", "c", "d"), mean=(0,) * 4, std=(1,) * 4))
    config = json.loads((tmp_path / "smp" / "config.json").read_text())
    (tmp_path / "smp" / "config.json").write_text(json.dumps(config | {"decoder_channels": [64, 16, 16]}))
    with pytest.raises(BundleError, match=r"smp: weights.safetensors: .*need \(64, 192, 3, 3\)"):
        add_model(str(tmp_path / "smp"), told)
    (tmp_path / "smp" / "config.json").write_text(json.dumps(config | {"_model_class": "os.system"}))
    with pytest.raises(BundleError, match="describes no network that is known here"):
        add_model(str(tmp_path / "smp"), told)


def test_a_bundle_comes_as_folder_or_archive_and_nothing_else_of_it(bundle: ModelBundle, tmp_path: Path) -> None:
    archive = tmp_path / "toy.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in bundle.folder.iterdir():
            zipped.write(file, f"some/folder/{file.name}")
        zipped.writestr("../../escaped.txt", "x")
        zipped.writestr("some/folder/run.py", "print('never')")
    added = add_model(str(archive), Told(name="from-zip")).bundle
    assert {p.name for p in added.folder.iterdir()} == {"model.json", "weights.safetensors", "README.md"}
    assert not (tmp_path.parent / "escaped.txt").exists()
    with pytest.raises(BundleError, match="there is a model 'from-zip' already"):
        add_model(str(bundle.folder), Told(name="from-zip"))
    add_model(str(bundle.folder), Told(name="from-zip"), overwrite=True)
    with pytest.raises(BundleError, match="is the name of a model that comes with geounet"):
        add_model(str(bundle.folder), Told(name="overhead-rgb"))
    with pytest.raises(BundleError, match="name: String should match pattern"):
        add_model(str(bundle.folder), Told(name="../../x"))


def test_where_models_come_from_and_where_they_do_not(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="only https:// is fetched"):
        fetch("http://example.org/x.onnx", tmp_path, 100)
    with pytest.raises(BundleError, match="models come from a path, https://"):
        fetch("file:///etc/passwd", tmp_path, 100)
    with pytest.raises(BundleError, match="does not exist: check the path"):
        fetch(str(tmp_path / "no.onnx"), tmp_path, 100)
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match="it is another file"):
        fetch(str(tmp_path / "x.onnx"), tmp_path, 100, sha256="0" * 64)
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert fetch(str(tmp_path / "x.onnx"), tmp_path, 100, sha256=f"sha256:{digest}") == tmp_path / "x.onnx"


def test_an_archive_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("model.onnx", b"\0" * 5_000_000)
    with pytest.raises(BundleError, match=r"model\.onnx is larger than 1 MB: refused"):
        fetch(str(tmp_path / "bomb.zip"), tmp_path / "room", 1_000_000)


def test_the_command_line_adds_shows_verifies_and_removes(
    make_onnx: Maker, tmp_path: Path, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def geounet(*arguments: str) -> tuple[int, str, str]:
        code = run(lambda **options: app(["models", *arguments], **options))
        return code, *capsys.readouterr()

    file = str(tmp_path / "x.onnx")
    Path(file).write_bytes(make_onnx().SerializeToString())
    code, _, said = geounet("add", file)
    assert code == 3
    assert said.startswith(f"geounet: {file} does not say everything; add --bands")
    given = ["--bands", "red,green,blue", "--classes", "a,b=#ff0000,c", "--gsd", "0.3-1.2", "--values", "0-255",
             "--mean", "127,127,127", "--std", "50,50,50", "--chip-size", "64", "--scene", str(scene)]  # fmt: skip
    code, out, _ = geounet("add", file, *given, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["card"]["legend"][1]["color"] == [255, 0, 0]
    assert Path(told["contact"]["picture"]).read_bytes().startswith(b"\x89PNG")
    code, out, _ = geounet()
    assert code == 0
    assert "overhead-rgb" in out
    assert "\nx  \n" in out
    code, out, _ = geounet("show", "x")
    assert (code, "softmax" in out) == (0, True)
    code, out, _ = geounet("verify", "x")
    assert (code, out.strip()) == (0, "x is whole: the weights are those of its card, and a chip gives probabilities")
    ModelBundle.load("x").weights_path.write_bytes(b"spoilt")
    code, _, said = geounet("verify", "x")
    assert code == 3
    assert "is damaged or not the file" in said
    assert geounet("remove", "x")[0] == 0
    assert geounet("add", file, "--gsd", "fast")[0] == 2
