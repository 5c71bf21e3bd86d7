import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geounet.errors import BundleError
from geounet.model.bundle import ModelBundle, save_bundle, shipped_bundles

CARD: dict[str, Any] = {
    "name": "tiny",
    "bands": ["red", "green", "blue"],
    "normalisation": {"mean": [127.0] * 3, "std": [128.0] * 3},
    "legend": [{"value": i, "name": n, "color": (i, i, i)} for i, n in enumerate("ab")],
    "gsd_m": [0.5, 1.0],
}
STATE = {"weight": torch.arange(6.0).reshape(2, 3), "norm.num_batches_tracked": torch.tensor(3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_bundle(tmp_path / "tiny", CARD, STATE, "# tiny\n").folder


def test_what_is_saved_is_loaded(folder: Path) -> None:
    bundle = ModelBundle.load(folder)
    assert bundle.name == "tiny"
    assert bundle.legend.names == ("a", "b")
    state = bundle.state_dict()
    assert list(state) == ["weight"]
    assert state["weight"].dtype == torch.float32
    assert torch.equal(state["weight"], STATE["weight"])


def test_texts_and_scores_do_not_change_the_digest_but_the_temperature_does(tmp_path: Path) -> None:
    def digest(**changes: Any) -> str:
        return save_bundle(tmp_path / str(len(list(tmp_path.iterdir()))), CARD | changes, STATE, "").digest

    first = digest()
    assert digest(description="other words", scores=[{"data": "d", "miou": 0.5, "iou": {"a": 0.5}}]) == first
    assert digest(temperature=1.2) != first


def change(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        record = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(record | values))

    return spoil


def no_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def flipped_byte(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)


def cut_card(folder: Path) -> None:
    (folder / "model.json").write_text('{"schema_version": 1, ')


def list_card(folder: Path) -> None:
    (folder / "model.json").write_text("[]")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (no_weights, r"weights\.safetensors is missing: the bundle is incomplete"),
        (flipped_byte, r"weights\.safetensors is damaged or not the file"),
        (cut_card, r"model\.json cannot be read as JSON"),
        (list_card, r"schema version None"),
        (change(schema_version=2), r"schema version 2, this geounet reads version 1"),
        (change(overlap=512), r"overlap must be smaller than chip_size"),
        (change(bands=["red", "green"]), r"normalisation needs one mean and one std for each of the 2 bands"),
        (change(bands=["red", "red", "blue"]), r"band names must be unique"),
        (change(gsd_m=[1.0, 0.5]), r"gsd_m must be \(finest, coarsest\)"),
        (change(temperature=0), r"temperature: "),
        (change(chip_size=100), r"chip_size: "),
        (change(surprise=1), r"surprise: "),
        (change(quantiles={"levels": [0.5], "values": [[1.0]]}), r"quantiles need one row a band"),
    ],
)
def test_every_kind_of_damage_is_told(folder: Path, spoil: Callable[[Path], None], told: str) -> None:
    spoil(folder)
    with pytest.raises(BundleError, match=told) as caught:
        ModelBundle.load(folder)
    assert str(folder) in str(caught.value)


def test_weights_outside_the_bundle_are_refused(folder: Path) -> None:
    record = json.loads((folder / "model.json").read_text())
    change(weights=record["weights"] | {"file": "../weights.safetensors"})(folder)
    with pytest.raises(BundleError, match="plain file name"):
        ModelBundle.load(folder)


def test_an_unknown_name_shows_the_installed_ones(tmp_path: Path) -> None:
    assert "overhead-rgb" in shipped_bundles()
    with pytest.raises(BundleError, match=r"no model 'nothing': .*overhead-rgb"):
        ModelBundle.load("nothing")
    with pytest.raises(BundleError, match=r"is no bundle: it has no model\.json"):
        ModelBundle.load(tmp_path)


def test_weights_that_half_precision_cannot_hold_are_kept_in_single(tmp_path: Path) -> None:
    state = {"variance": torch.tensor([0.1, 1e6]), "weight": torch.tensor([0.1])}
    kept = save_bundle(tmp_path / "big", CARD, state, "").state_dict()
    assert torch.equal(kept["variance"], state["variance"])
    assert torch.equal(kept["weight"], state["weight"].half().float())


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not finite"):
        save_bundle(tmp_path / "bad", CARD, {"weight": torch.tensor([float("nan")])}, "")
