"""A bundle: a model on disk, with everything needed to use it rightly.

A folder with `model.json` (described by `ModelCard`), `weights.safetensors` and `README.md`, the model card for
people. `docs/bundle.md` explains every field.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geounet.errors import BundleError
from geounet.model.adapters.file import Float32, read_adapter, write_adapter
from tiles.legend import Legend, LegendError

if TYPE_CHECKING:
    import torch

SCHEMA_VERSION = 1
MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
ONNX_FILE = "model.onnx"
ADAPTER_FILE = "adapter.safetensors"
SHIPPED = Path(__file__).parents[1] / "bundles"
DEFAULT_BUNDLE = "overhead-rgb"

Fraction = Annotated[float, Field(ge=0, le=1)]
_FINE_ENOUGH = 0.7
"""A second view pays for scenes at most this part of its resolution."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassCard(_Part):
    """One land class of the legend; the position in the list is the network's output channel."""

    value: Annotated[int, Field(ge=0, le=254)]
    name: str
    color: tuple[int, int, int]


class Architecture(_Part):
    """What `net.build_network` builds: a segmentation-models-pytorch decoder on a named encoder."""

    name: str = "unet"
    encoder: str = "tu-tf_efficientnet_lite0"
    arguments: dict[str, Any] = Field(default_factory=dict)


class Normalisation(_Part):
    """Counts on the 0-255 scale become network input as (count - mean) / std, a value a band."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Quantiles(_Part):
    """Quantiles of the training imagery on the 0-255 scale: `values[band][level]`."""

    levels: tuple[Fraction, ...]
    values: tuple[tuple[float, ...], ...]


class DataSource(_Part):
    """One training source, with what its licence asks us to say."""

    name: str
    licence: str
    attribution: str
    held_out: str = ""


class Training(_Part):
    """How the weights came to be, well enough to make them again."""

    sources: tuple[DataSource, ...] = ()
    config: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    commit: str = ""
    command: str = ""


class Score(_Part):
    """Scores on one data set: mean IoU over `iou`'s classes, IoU a class, pixel accuracy."""

    data: str
    miou: Fraction
    iou: dict[str, Fraction]
    accuracy: Fraction | None = None
    calibration_error: Fraction | None = None


class WeightsCard(_Part):
    """The weights file and its fingerprint."""

    file: str = WEIGHTS_FILE
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class OnnxModel(_Part):
    """How a network that is a file `model.onnx` takes the image and tells the classes.

    `size` is the one side in pixels that it takes, None where it takes any. `output` is the output that is read, of
    `channels` channels (1: how much the second class is meant) and `shrink` times fewer pixels a side. `activation`
    makes probabilities of it: `softmax` and `sigmoid` of logits, `shares` of scores of 0-1 a class, `none` where they
    are that already.
    """

    layout: Literal["nchw", "nhwc"] = "nchw"
    size: Annotated[int, Field(ge=32, le=4096)] | None = None
    output: str
    channels: Annotated[int, Field(ge=1, le=255)]
    shrink: Annotated[int, Field(ge=1, le=32)] = 1
    activation: Literal["softmax", "sigmoid", "shares", "none"]


class BaseCard(_Part):
    """The bundle that an adapter was made for: looked for by name, in `folder`, and beside the adapter."""

    name: str
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    folder: str = ""


class CorrectedScene(_Part):
    """One scene that corrections were drawn on: its file's name and fingerprint, how many of which class."""

    scene: str
    fingerprint: str
    corrections: dict[str, int]


class AdapterCard(_Part):
    """What makes a bundle an adapter: a few small layers on another bundle, its base.

    `starts` says a class for class from which of the base's channels its scores come before the layers add theirs:
    several were merged, none is a new class.
    """

    base: BaseCard
    starts: Annotated[tuple[tuple[Annotated[int, Field(ge=0, le=254)], ...], ...], Field(min_length=2)]
    strength: float
    corrected: tuple[CorrectedScene, ...] = ()


class ModelCard(_Part):
    """`model.json`, whole."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: str = "1"
    description: str = ""
    licence: str = "Apache-2.0"
    architecture: Architecture = Architecture()
    bands: Annotated[tuple[str, ...], Field(min_length=1)]
    normalisation: Normalisation
    quantiles: Quantiles | None = None
    legend: Annotated[tuple[ClassCard, ...], Field(min_length=2)]
    gsd_m: tuple[float, float]
    context_gsd_m: Annotated[float, Field(gt=0)] | None = None
    chip_size: Annotated[int, Field(ge=32)] = 512
    overlap: Annotated[int, Field(ge=0)] = 128
    temperature: Annotated[float, Field(gt=0)] = 1.0
    training: Training = Training()
    scores: tuple[Score, ...] = ()
    weights: WeightsCard
    onnx: OnnxModel | None = None
    reflectance_one: Annotated[float, Field(gt=0)] | None = None
    adapter: AdapterCard | None = None

    @model_validator(mode="after")
    def _adapter_agrees(self) -> "ModelCard":
        if self.adapter is not None and len(self.adapter.starts) != len(self.legend):
            raise ValueError(f"adapter.starts needs one entry for each of the {len(self.legend)} classes")
        return self

    @model_validator(mode="after")
    def _onnx_agrees(self) -> "ModelCard":
        size = self.onnx.size if self.onnx else None
        if self.chip_size != size and self.chip_size % 32:
            raise ValueError("chip_size: must be a multiple of 32")
        if self.onnx is None:
            return self
        if size is not None and self.chip_size != size:
            raise ValueError(f"chip_size: must be {size}, the one size that the network takes")
        channels, classes = self.onnx.channels, len(self.legend)
        if channels != classes and (channels, classes) != (1, 2):
            raise ValueError(f"{classes} classes do not fit {channels} channels")
        if self.onnx.channels == 1 and self.onnx.activation not in ("sigmoid", "none"):
            raise ValueError("one channel says a probability or its logit: activation must be none or sigmoid")
        return self

    @model_validator(mode="after")
    def _agree(self) -> "ModelCard":
        bands = len(self.bands)
        if len(set(self.bands)) != bands:
            raise ValueError(f"band names must be unique: {list(self.bands)}")
        if len(self.normalisation.mean) != bands or len(self.normalisation.std) != bands:
            raise ValueError(f"normalisation needs one mean and one std for each of the {bands} bands")
        if min(self.normalisation.std) <= 0:
            raise ValueError("normalisation std must be positive")
        if self.quantiles is not None and (
            len(self.quantiles.values) != bands
            or any(len(v) != len(self.quantiles.levels) for v in self.quantiles.values)
        ):
            raise ValueError("quantiles need one row a band and one value a level")
        if not 0 < self.gsd_m[0] <= self.gsd_m[1]:
            raise ValueError(f"gsd_m must be (finest, coarsest), both positive: {self.gsd_m}")
        if self.overlap >= self.chip_size:
            raise ValueError("overlap must be smaller than chip_size")
        return self

    def context_scale(self, gsd_m: float) -> float:
        """Scale of the second view of a scene of `gsd_m` metres a pixel, 1.0 where it needs none.

        At 0.3 m a network sees a seventh of the ground around a pixel that it sees at 0.8 m. A scene hardly finer than
        `context_gsd_m` would gain little for the time.
        """
        if self.context_gsd_m is None or gsd_m > _FINE_ENOUGH * self.context_gsd_m:
            return 1.0
        return gsd_m / self.context_gsd_m


@dataclass(frozen=True)
class ModelBundle:
    """A bundle whose card was read and whose weights were checked against their fingerprint."""

    folder: Path
    card: ModelCard
    base: "ModelBundle | None" = None

    @classmethod
    def load(cls, name_or_folder: str | os.PathLike[str]) -> "ModelBundle":
        """Open a shipped bundle by name or any bundle by folder, and verify it.

        Raises BundleError, naming the file and the remedy, where something is missing, malformed or damaged.
        """
        folder = _find(name_or_folder)
        card = _read_card(folder / MODEL_FILE)
        weights = folder / card.weights.file
        if Path(card.weights.file).name != card.weights.file:
            raise BundleError(f"{folder / MODEL_FILE}: weights.file must be a plain file name inside the bundle")
        if not weights.is_file():
            raise BundleError(f"{weights} is missing: the bundle is incomplete, copy or train it again")
        digest = sha256_of(weights)
        if digest != card.weights.sha256:
            raise BundleError(
                f"{weights} is damaged or not the file that {MODEL_FILE} describes "
                f"(sha256 {digest[:12]}..., expected {card.weights.sha256[:12]}...): copy or train the bundle again"
            )
        if card.adapter is None:
            return cls(folder, card)
        return cls(folder, card, _base_of(folder, card))

    @property
    def name(self) -> str:
        """The bundle's name as its card gives it."""
        return self.card.name

    @property
    def bands(self) -> tuple[str, ...]:
        """Band names in the order the network wants them."""
        return self.card.bands

    @cached_property
    def legend(self) -> Legend:
        """The land classes in channel order."""
        try:
            return Legend.from_records([c.model_dump() for c in self.card.legend])
        except LegendError as error:
            raise BundleError(f"{self.folder / MODEL_FILE}: {error}") from error

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return self.folder / self.card.weights.file

    @cached_property
    def digest(self) -> str:
        """Fingerprint of all that changes a prediction: the card without scores and texts; weights included."""
        card = self.card.model_dump(mode="json", exclude={"description", "training", "scores", "licence"})
        if card["adapter"] is not None:
            card["adapter"] = {"base": card["adapter"]["base"]["digest"], "starts": card["adapter"]["starts"]}
        # Fields that came later count where they say something: what was mapped before them keeps its digest.
        card = {k: v for k, v in card.items() if v is not None or k not in ("onnx", "reflectance_one", "adapter")}
        return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """The weights as float32 tensors. Raises BundleError where the file is not readable safetensors."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if self.card.adapter is not None:
            raise BundleError(f"{self.folder} is an adapter: give its base '{self.card.adapter.base.name}' instead")
        if self.card.onnx is not None:
            raise BundleError(f"{self.weights_path} is an ONNX file: choose --engine onnxruntime or openvino")
        try:
            state = load_file(self.weights_path)
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{self.weights_path} is not a readable safetensors file: {error}") from error
        return {k: v.to(torch.float32) if v.is_floating_point() else v for k, v in state.items()}


def save_bundle(
    folder: Path, card: dict[str, Any], state: "dict[str, torch.Tensor]", readme: str, *, half: bool = True
) -> ModelBundle:
    """Write a bundle: weights, `model.json` (its `weights` filled in here), model card text.

    Weights are kept in half precision, a tensor that half cannot hold in single; all as they are without `half`.

    `card` holds the fields of `ModelCard` without `weights`. Raises BundleError where they do not validate.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        k: (_in_half(v) if half else v).contiguous().cpu()
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }
    if not all(bool(torch.isfinite(v).all()) for v in kept.values()):
        raise BundleError(f"{folder}: weights that are not finite cannot be saved")
    save_file(kept, folder / WEIGHTS_FILE)
    return save_card(folder, card, WEIGHTS_FILE, readme)


def save_onnx_bundle(folder: Path, card: dict[str, Any], model: bytes, readme: str) -> ModelBundle:
    """Write a bundle whose network is an ONNX file: `model` as `model.onnx`, `model.json`, model card text.

    `card` holds the fields of `ModelCard` without `weights`. Raises BundleError where they do not validate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ONNX_FILE).write_bytes(model)
    return save_card(folder, card, ONNX_FILE, readme)


def save_adapter(folder: Path, card: Mapping[str, Any], weight: Float32, bias: Float32, readme: str) -> ModelBundle:
    """Write an adapter: `weight` (classes, channels of the base's stages) and `bias` (classes,), card, text.

    `card` holds the fields of `ModelCard` without `weights`. Raises BundleError where they do not validate, or a
    number is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_adapter(folder / ADAPTER_FILE, weight, bias)
    return save_card(folder, card, ADAPTER_FILE, readme)


def save_card(folder: Path, card: Mapping[str, Any], weights: str, readme: str) -> ModelBundle:
    """Write `model.json` and the card for people beside the file `weights`, and open the bundle that they make.

    `card` holds the fields of `ModelCard` without `weights`. Raises BundleError where they do not validate.
    """
    try:
        described = {"file": weights, "sha256": sha256_of(folder / weights)}
        checked = ModelCard.model_validate({**card, "weights": described})
    except ValidationError as error:
        raise BundleError(f"{folder / MODEL_FILE}: {_first_problem(error)}") from error
    (folder / MODEL_FILE).write_text(checked.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return ModelBundle.load(folder)


def _in_half(tensor: "torch.Tensor") -> "torch.Tensor":
    # The variances of a deep layer may pass 65,504, the largest number in half precision; they are few.
    import torch

    half = tensor.to(torch.float16) if tensor.is_floating_point() else tensor
    return half if bool(torch.isfinite(half).all()) else tensor


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that come with the package."""
    return tuple(sorted(p.parent.name for p in SHIPPED.glob(f"*/{MODEL_FILE}")))


def models_folder() -> Path:
    """Where added models are kept: `GEOUNET_MODELS`, else a folder of the user's data."""
    return Path(os.environ.get("GEOUNET_MODELS") or Path(platformdirs.user_data_dir("geounet")) / "models")


def added_bundles() -> tuple[str, ...]:
    """Names of the bundles that were added on this machine."""
    return tuple(sorted(p.parent.name for p in models_folder().glob(f"*/{MODEL_FILE}")))


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(name_or_folder: str | os.PathLike[str]) -> Path:
    shipped = SHIPPED / str(name_or_folder)
    if str(name_or_folder) in shipped_bundles():
        return shipped
    if str(name_or_folder) in added_bundles():
        return models_folder() / str(name_or_folder)
    folder = Path(name_or_folder)
    if (folder / MODEL_FILE).is_file():
        return folder
    known = ", ".join((*shipped_bundles(), *added_bundles())) or "none"
    if folder.is_dir():
        raise BundleError(f"{folder} is no bundle: it has no {MODEL_FILE}")
    raise BundleError(
        f"no model '{name_or_folder}': give the folder of a bundle or one of the installed models: {known}"
    )


def _base_of(folder: Path, card: ModelCard) -> ModelBundle:
    """The base of the adapter in `folder`, its own file checked on the way.

    Raises BundleError where the file is damaged or no bundle of the base's digest is found.
    """
    assert card.adapter is not None
    read_adapter(folder / card.weights.file, len(card.legend))
    wanted = card.adapter.base
    other = ""
    for place in _places(folder, wanted.name, wanted.folder):
        try:
            found = ModelBundle.load(place)
        except BundleError:
            continue
        if found.base is not None:
            continue
        if found.digest == wanted.digest:
            if max((i for start in card.adapter.starts for i in start), default=0) >= len(found.legend):
                raise BundleError(f"{folder / MODEL_FILE}: adapter.starts names a class that '{wanted.name}' lacks")
            return found
        other = other or f"; {place} is another version of it (digest {found.digest[:12]}...)"
    raise BundleError(
        f"{folder} is an adapter for the model '{wanted.name}' with digest {wanted.digest[:12]}..., which is not "
        f"here{other}: install that model, or put its folder beside the adapter"
    )


def _places(folder: Path, name: str, hint: str) -> Iterator[Path | str]:
    if hint:
        yield Path(hint)
    if name in (*shipped_bundles(), *added_bundles()):
        yield name
    yield models_folder() / name
    yield folder.resolve().parent / name


def _read_card(path: Path) -> ModelCard:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path} has schema version {version!r}, this geounet reads version {SCHEMA_VERSION}: "
            "install the geounet that made the bundle, or train it again"
        )
    try:
        return ModelCard.model_validate(record)
    except ValidationError as error:
        raise BundleError(f"{path}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "card"
    return f"{where}: {problem['msg']}"
