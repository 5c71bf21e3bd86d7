"""The training configuration: one TOML file, checked before anything runs. `docs/fine-tune.md` explains the fields."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from geounet.datasets.config import DataConfig, Fraction, Part, Positive
from geounet.errors import TrainingError
from geounet.model.bundle import Architecture


class LossTerm(Part):
    """One term of the loss, with its weight in the sum."""

    kind: Literal["ce", "focal", "dice", "lovasz"]
    weight: Positive = 1.0
    gamma: Annotated[float, Field(ge=0)] = 2.0


class LossConfig(Part):
    """The loss, and how classes are weighted in its pixel-wise terms."""

    terms: tuple[LossTerm, ...] = (LossTerm(kind="ce"), LossTerm(kind="dice", weight=0.5))
    class_weights: Literal["none", "inverse", "inverse_sqrt", "effective"] = "inverse_sqrt"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class RecolourConfig(Part):
    """A class that takes on one of `colours` (red, green, blue on 0-255) in `share` of the crops that show enough."""

    land: str
    share: Fraction
    colours: Annotated[tuple[tuple[float, float, float], ...], Field(min_length=1)]


class AugmentConfig(Part):
    """How training crops are varied; 0 switches a part off. Amounts are explained in `augment.py`.

    `share` of the crops have their colours varied at all; the others are the pictures as they are, so that a network
    made robust does not forget the imagery it will mostly see. `flood`: the share of crops that get a painted lake,
    labelled `flood_class`. `class_mix`: the share of crops that half of the classes of another crop are pasted onto.
    `recolour`: classes in colours that no image shows them in. `gsd_m`: crops come out at ground resolutions within
    this range, as far as `scale` lets an image's own be changed.
    """

    share: Fraction = 1.0
    scale: tuple[Positive, Positive] = (0.5, 2.0)
    gsd_m: tuple[Positive, Positive] | None = None
    turn: bool = True
    gamma: Annotated[float, Field(ge=0)] = 0.6
    contrast: Annotated[float, Field(ge=0)] = 0.4
    brightness: Annotated[float, Field(ge=0)] = 30.0
    band_shift: Annotated[float, Field(ge=0)] = 10.0
    saturation: Annotated[float, Field(ge=0)] = 0.6
    haze: Fraction = 0.25
    transfer: Fraction = 0.3
    blur: Fraction = 0.25
    noise: Fraction = 0.3
    shadow: Fraction = 0.25
    dropout: Fraction = 0.15
    flood: Fraction = 0.0
    flood_class: str = "water"
    class_mix: Fraction = 0.0
    recolour: tuple[RecolourConfig, ...] = ()

    @classmethod
    def off(cls) -> "AugmentConfig":
        """Crops as they are."""
        zero = dict.fromkeys(
            ("gamma", "contrast", "brightness", "band_shift", "saturation", "haze"), 0.0
        ) | dict.fromkeys(("transfer", "blur", "noise", "shadow", "dropout"), 0.0)
        return cls.model_validate({"scale": (1.0, 1.0), "turn": False, **zero})


class SamplingConfig(Part):
    """How crops are drawn.

    `balanced` is the share of crops placed on a class drawn evenly among the classes. Where a source tells places, a
    place of n groups of images is drawn with weight n ** `place_power`: 0 all places alike, 1 all images alike.
    """

    crop: Annotated[int, Field(ge=32, multiple_of=32)] = 256
    batch: Annotated[int, Field(ge=1)] = 8
    balanced: Fraction = 0.6
    place_power: Fraction = 0.5


class ScheduleConfig(Part):
    """Steps and rates: linear warm-up, then cosine to zero.

    `keep`: the averaged weights of the best validation, or those of the last step, which no validation has chosen.
    """

    steps: Annotated[int, Field(ge=1)] = 1500
    warmup: Annotated[int, Field(ge=0)] = 50
    validate_every: Annotated[int, Field(ge=1)] = 150
    rate: Positive = 2e-3
    encoder_rate: Positive = 5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    freeze_encoder: Annotated[int, Field(ge=0)] = 0
    clip: Positive = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    patience: Annotated[int, Field(ge=1)] | None = None
    keep: Literal["best", "last"] = "best"


class TrainConfig(DataConfig):
    """A whole training run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: str = "1"
    description: str = ""
    licence: str = "Apache-2.0"
    seed: int = 0
    threads: Annotated[int, Field(ge=1)] | None = None
    architecture: Architecture = Architecture(arguments={"decoder_channels": [128, 64, 48, 32, 16]})
    gsd_m: tuple[Positive, Positive]
    context_gsd_m: Positive | None = None
    chip_size: int = 512
    overlap: int = 128
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @model_validator(mode="after")
    def _recolour(self) -> "TrainConfig":
        for recolour in self.augment.recolour:
            if recolour.land not in self.class_names:
                raise ValueError(
                    f"augment.recolour: '{recolour.land}' is no class of the legend: {', '.join(self.class_names)}"
                )
            if self.bands[:3] != ("red", "green", "blue"):
                raise ValueError(f"augment.recolour needs red, green, blue first, not {', '.join(self.bands)}")
        return self

    @model_validator(mode="after")
    def _flood(self) -> "TrainConfig":
        wanted = self.augment.flood_class
        if self.augment.flood and wanted not in self.class_names:
            raise ValueError(f"augment.flood: '{wanted}' is no class of the legend: {', '.join(self.class_names)}")
        if self.augment.flood and self.bands[:3] != ("red", "green", "blue"):
            raise ValueError(f"augment.flood needs red, green, blue as first bands, not {', '.join(self.bands)}")
        return self


def load_config(path: Path) -> TrainConfig:
    """Read and check a configuration. Raises TrainingError with one line: the file, the field, the problem."""
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(f"{path} does not exist: give the TOML file that describes the training run") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path} cannot be read as TOML: {error}") from error
    return check_config(record, str(path))


def check_config(record: dict[str, Any], where: str) -> TrainConfig:
    """A configuration from plain values; `where` names them in the TrainingError that a mistake raises."""
    try:
        return TrainConfig.model_validate(record)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "configuration"
        raise TrainingError(f"{where}: {field}: {problem['msg']}") from error
