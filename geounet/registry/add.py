"""Add a model that somebody brought: fetched, looked at behind a fence, described, tried on one chip, kept."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geounet.errors import BundleError
from geounet.model.bundle import (
    MODEL_FILE,
    ONNX_FILE,
    ModelBundle,
    added_bundles,
    models_folder,
    save_onnx_bundle,
    shipped_bundles,
)
from geounet.registry.describe import Told, check_class_names, describe
from geounet.registry.probe import Fence, look_at, try_out
from geounet.registry.sources import copy_bundle, fetch
from tiles.durable import sync_folder, sync_tree

SMP_FILES = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class Added:
    """A model that was added: its bundle, what was decided, and what the one-chip test said (see `probe.try_out`)."""

    bundle: ModelBundle
    notes: tuple[str, ...]
    tried: Mapping[str, Any]


def add_model(
    source: str,
    told: Told = Told(),  # noqa: B008  (frozen)
    *,
    into: Path | None = None,
    sha256: str | None = None,
    overwrite: bool = False,
    fence: Fence = Fence(),  # noqa: B008  (frozen)
) -> Added:
    """Bring a model from `source` into the folder of added models (`into`, by default `models_folder()`).

    A source is a bundle (folder or archive), an ONNX file, a folder with a checkpoint of
    segmentation-models-pytorch (`config.json`, `model.safetensors`), or a TensorFlow SavedModel. `told` adds what the
    source does not say. Raises BundleError, in one line, and leaves nothing behind, where it cannot be used.
    """
    store = into or models_folder()
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=store) as room, _speaking_of(source, Path(room)):
            found = fetch(source, Path(room), fence.file_bytes, sha256)
            made, notes = _made(found, source, told, Path(room), fence)
            check_class_names(made.legend.names)
            found_out = tried(made, fence)
            bundle = _kept(made, store, overwrite)
    except OSError as error:
        raise BundleError(f"{store}: the model cannot be kept: {error.strerror}; set GEOUNET_MODELS") from error
    return Added(bundle, tuple(notes), found_out)


@contextmanager
def _speaking_of(source: str, room: Path) -> Iterator[None]:
    """Errors name what the user gave, not the room that it is worked on in."""
    try:
        yield
    except BundleError as error:
        text = str(error).replace(f"{room / 'made' / ONNX_FILE}", source).replace(f"{room / 'made'}/", f"{source}: ")
        raise BundleError(re.sub(f"{re.escape(str(room))}/[^/ ]*", lambda _: source, text)) from error


def remove_model(name: str, store: Path | None = None) -> Path:
    """Remove an added model, and give the folder that it was in. Raises BundleError for any other."""
    store = store or models_folder()
    if name in shipped_bundles():
        raise BundleError(f"{name} comes with geounet and cannot be removed")
    folder = store / name
    if Path(name).name != name or not (folder / MODEL_FILE).is_file():
        known = ", ".join(added_bundles()) or "none"
        raise BundleError(f"no added model '{name}'; added are: {known}")
    gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=store))
    folder.replace(gone / name)  # one step: whoever lists models sees it whole or not at all
    shutil.rmtree(gone)
    return folder


def _made(found: Path, source: str, told: Told, room: Path, fence: Fence) -> tuple[ModelBundle, list[str]]:
    """The bundle in a folder of its own inside `room`, named as it will be."""
    target = room / "made"
    if found.is_dir() and (found / MODEL_FILE).is_file():
        copy_bundle(found, target)
        if told.name is not None:
            record = json.loads((target / MODEL_FILE).read_text(encoding="utf-8"))
            (target / MODEL_FILE).write_text(json.dumps({**record, "name": told.name}, indent=2), encoding="utf-8")
        return ModelBundle.load(target), []
    if found.is_dir() and all((found / name).is_file() for name in SMP_FILES):
        from geounet.registry.smp_checkpoint import bundle_of_checkpoint

        return bundle_of_checkpoint(found, told, target, source)
    if found.is_dir() and (found / "saved_model.pb").is_file():
        from geounet.registry.saved_model import converted_to_onnx, dynamic_world

        squashed = told.preset is not None
        found = converted_to_onnx(found, room, squashed=squashed)
        told = dynamic_world(told) if squashed else told
    if found.is_file():
        return _of_onnx(found, source, told, room, target, fence)
    raise BundleError(
        f"{source} is no model: give a bundle (with {MODEL_FILE}), an .onnx file, a folder with "
        f"{' and '.join(SMP_FILES)}, or a TensorFlow SavedModel"
    )


def _of_onnx(
    file: Path, source: str, told: Told, room: Path, target: Path, fence: Fence
) -> tuple[ModelBundle, list[str]]:
    whole = room / ONNX_FILE
    facts = look_at(file, whole, fence)
    described = describe(facts, told, source)
    size = whole.stat().st_size / 1e6
    notes = [f"{facts['nodes']:,} nodes, operators of version {facts['opset']}, {size:.1f} MB", *described.notes]
    return save_onnx_bundle(target, described.card, whole.read_bytes(), _readme(described.card, source, notes)), notes


def _readme(card: Mapping[str, Any], source: str, notes: list[str]) -> str:
    said = "\n".join(f"- {note}" for note in notes)
    classes = ", ".join(c["name"] for c in card["legend"])
    return (
        f"# {card['name']}\n\n{card['description']}\n\nAdded from `{source}`. Licence: {card['licence']}.\n\n"
        f"Bands: {', '.join(card['bands'])}. Classes: {classes}.\n\n{said}\n"
    )


def tried(bundle: ModelBundle, fence: Fence = Fence()) -> Mapping[str, Any]:  # noqa: B008  (frozen)
    """What one chip says of a bundle; see `probe.try_out`. Raises BundleError where it gives no probabilities."""
    if bundle.card.onnx is not None:
        return try_out(bundle.folder, fence)
    if bundle.card.adapter is not None:
        return {}  # its file was read, and its base found, when it was loaded
    from geounet.model.architectures import build_network

    build_network(bundle)  # raises where the weights do not fit
    return {}


def _kept(made: ModelBundle, store: Path, overwrite: bool) -> ModelBundle:
    """Move the bundle under its name, in one step."""
    name = made.name
    if name in shipped_bundles():
        raise BundleError(f"'{name}' is the name of a model that comes with geounet: give another with --name")
    target = store / name
    if target.exists() and not overwrite:
        raise BundleError(f"there is a model '{name}' already: give another --name, or replace it with --overwrite")
    sync_tree(made.folder)
    if target.exists():
        remove_model(name, store)
    made.folder.replace(target)
    sync_folder(store)
    return replace(made, folder=target)
