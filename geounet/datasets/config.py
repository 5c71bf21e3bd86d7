"""Where labelled imagery lies and how it is split, as written in a training configuration."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geounet.model.bundle import ClassCard

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """A table of a configuration: unknown fields are refused, so that a typing mistake is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitConfig(Part):
    """How a source is divided into train and val; exactly one of the ways.

    `val`: patterns of file names, relative to `images`. `csv`: a table with a column of file names and one that says
    train, val or test; files that it gives to test or does not name are left out. `block_m`: squares of this many
    metres on the ground, every `nth` of them val, train files that come nearer than `gap_m` to a val file left out;
    needs georeferenced images. `none = true`: everything is for training.
    """

    val: tuple[str, ...] = ()
    csv: str | None = None
    file_column: str = "file"
    split_column: str = "split"
    block_m: Positive | None = None
    nth: Annotated[int, Field(ge=2)] = 5
    gap_m: Annotated[float, Field(ge=0)] = 0.0
    none: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "SplitConfig":
        ways = [bool(self.val), self.csv is not None, self.block_m is not None, self.none]
        if sum(ways) != 1:
            raise ValueError("give exactly one of: val (file patterns), csv, block_m, none = true")
        return self


class SourceConfig(Part):
    """One folder of images with labels. Paths are relative to the data folder."""

    name: str
    images: str
    labels: str
    pattern: str = "**/*"
    label_suffix: str | None = None
    label_folder: tuple[str, str] | None = None
    attribute: str = "class"
    background: str | None = None
    bands: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    classes: dict[str, str]
    gsd_m: tuple[Positive, Positive]
    reduce: Annotated[int, Field(ge=1)] = 1
    ignore_border_px: Annotated[int, Field(ge=0)] = 0
    group: str | None = None
    weight: Annotated[float, Field(ge=0)] = 1.0
    label_weight: Annotated[float, Field(ge=0)] = 1.0
    split: SplitConfig
    licence: str = ""
    attribution: str = ""
    held_out: str = ""


class DataConfig(Part):
    """Bands and classes, and the sources that hold them. `init` is a bundle, `imagenet` or `scratch`."""

    bands: Annotated[tuple[str, ...], Field(min_length=1)] = ("red", "green", "blue")
    legend: Annotated[tuple[ClassCard, ...], Field(min_length=2)]
    init: str = "imagenet"
    source: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names(self) -> "DataConfig":
        names = [s.name for s in self.source]
        if len(set(names)) != len(names):
            raise ValueError(f"source names must be unique: {names}")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the land classes in channel order."""
        return tuple(c.name for c in self.legend)
