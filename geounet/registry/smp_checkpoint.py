"""A checkpoint of segmentation-models-pytorch, as its `save_pretrained` leaves it, made a bundle."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geounet.errors import BundleError
from geounet.model.bundle import Architecture, ModelBundle, save_bundle
from geounet.registry.describe import VALUES, Told, check_class_names, class_cards

if TYPE_CHECKING:
    import torch

_NAMES = {
    "Unet": "unet",
    "UnetPlusPlus": "unetplusplus",
    "MAnet": "manet",
    "Linknet": "linknet",
    "FPN": "fpn",
    "PSPNet": "pspnet",
    "DeepLabV3Plus": "deeplabv3plus",
    "UPerNet": "upernet",
    "Segformer": "segformer",
}
_OWN = (
    "_model_class",
    "encoder_name",
    "encoder_weights",
    "in_channels",
    "classes",
    "activation",
    "aux_params",
)
_MOST_CONFIG = 100_000
_HEAD = "segmentation_head.0"


def bundle_of_checkpoint(folder: Path, told: Told, target: Path, source: str) -> tuple[ModelBundle, list[str]]:
    """Read `config.json` and `model.safetensors` of a folder and write the bundle to `target`.

    A network of one channel (a logit) becomes one of two: what is not it has the logit 0. Raises BundleError for what
    is missing or does not fit together.
    """
    config = _config(folder / "config.json")
    if told.bands is None or told.classes is None or told.gsd_m is None or told.values is None or told.mean is None:
        raise BundleError(
            f"{source} does not say everything; add --bands, --classes, --gsd, --values and --mean, --std: "
            "a checkpoint knows none of them"
        )
    names = [label for label, _ in told.classes]
    check_class_names(names)
    architecture = Architecture(
        name=_NAMES[config["_model_class"]],
        encoder=str(config.get("encoder_name")),
        arguments={k: v for k, v in config.items() if k not in _OWN},
    )
    state, notes = _state(folder / "model.safetensors"), ["a checkpoint of segmentation-models-pytorch"]
    channels = config.get("classes")
    if channels == 1 and len(names) == 2:
        state = _two_channels(state, source)
        notes.append("one logit: the first class is what it is not")
    elif channels != len(names):
        raise BundleError(f"{source} scores {channels} classes, {len(names)} are named: check --classes")
    if config.get("in_channels") != len(told.bands):
        raise BundleError(
            f"{source} takes {config.get('in_channels')} bands, {len(told.bands)} are named: check --bands"
        )
    factor, one = VALUES[told.values]
    card: dict[str, Any] = {
        "name": told.name or folder.name,
        "description": told.description or "",
        "licence": told.licence or "not stated",
        "architecture": architecture.model_dump(),
        "bands": list(told.bands),
        "normalisation": {"mean": [m * factor for m in told.mean], "std": [s * factor for s in told.std or ()]},
        "reflectance_one": one,
        "legend": class_cards(told.classes),
        "gsd_m": list(told.gsd_m),
        "chip_size": told.chip_size or 512,
        "overlap": told.overlap if told.overlap is not None else 128,
    }
    readme = f"# {card['name']}\n\n{card['description']}\n\nAdded from `{source}`. Licence: {card['licence']}.\n"
    return save_bundle(target, card, state, readme, half=False), notes


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_CONFIG:
            raise BundleError(f"{path} is too large for a configuration: refused")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from error
    kind = config.get("_model_class") if isinstance(config, dict) else None
    if kind not in _NAMES:
        raise BundleError(f"{path} describes no network that is known here ({kind!r:.60}): {', '.join(_NAMES)}")
    if config.get("activation") or config.get("aux_params"):
        raise BundleError(f"{path}: an activation or a second head is set; save the network without them")
    return dict(config)


def _state(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} is not a readable safetensors file: {error}") from error


def _two_channels(state: "dict[str, torch.Tensor]", source: str) -> "dict[str, torch.Tensor]":
    """softmax(0, z) is (1 - sigmoid(z), sigmoid(z)): the new first channel has weights of 0."""
    import torch

    wider = dict(state)
    for key in (f"{_HEAD}.weight", f"{_HEAD}.bias"):
        if key not in state or state[key].shape[0] != 1:
            raise BundleError(f"{source} has no '{key}' of one channel: it cannot be made a network of two classes")
        wider[key] = torch.cat([torch.zeros_like(state[key]), state[key]])
    return wider
