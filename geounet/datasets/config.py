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
    needs georeferenced images. `places`: the places that are val, whole, with every place of the same survey; needs
    the source's table of places. `none = true`: everything is for training.
    """

    val: tuple[str, ...] = ()
    csv: str | None = None
    file_column: str = "file"
    split_column: str = "split"
    block_m: Positive | None = None
    nth: Annotated[int, Field(ge=2)] = 5
    gap_m: Annotated[float, Field(ge=0)] = 0.0
    places: tuple[str, ...] = ()
    none: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "SplitConfig":
        ways = [bool(self.val), self.csv is not None, self.block_m is not None, bool(self.places), self.none]
        if sum(ways) != 1:
            raise ValueError("give exactly one of: val (file patterns), csv, block_m, places, none = true")
        return self


class PlacesConfig(Part):
    """The table that says which place an image shows; crops are then drawn by place, not by pixel.

    `csv` has a row an image: its file (the suffix may be missing), its place, and, where the columns are named, its
    ground resolution in metres and what the imagery's licence asks to say. `surveys`: places taken by one survey count
    as one place in every split.
    """

    csv: str
    file_column: str = "name"
    place_column: str = "place"
    gsd_column: str | None = None
    licence_column: str | None = None
    attribution_column: str | None = None
    surveys: tuple[tuple[str, ...], ...] = ()


class DoubtConfig(Part):
    """Labels that the vegetation index contradicts: they say nothing in training, and stay as they are in validation.

    The index is (near infrared - red) / (near infrared + red), `red` and `near_infrared` numbers of bands (1-based).
    A label of a class in `below` is doubted where the index lies under that number, one in `above` where it lies over.
    """

    red: Annotated[int, Field(ge=1)] = 1
    near_infrared: Annotated[int, Field(ge=1)] = 4
    below: dict[str, float] = {}
    above: dict[str, float] = {}


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
    places: PlacesConfig | None = None
    doubt: DoubtConfig | None = None
    weight: Annotated[float, Field(ge=0)] = 1.0
    label_weight: Annotated[float, Field(ge=0)] = 1.0
    split: SplitConfig
    licence: str = ""
    attribution: str = ""
    held_out: str = ""

    @model_validator(mode="after")
    def _table_of_places(self) -> "SourceConfig":
        if self.split.places and self.places is None:
            raise ValueError("split.places needs the table of places: give places.csv")
        return self


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
