"""Labelled imagery in memory: sources as configured, read, checked and split.

Everything wrong with the data is found here, before the first step, each with one line that names the file.
"""

import csv
import fnmatch
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from geounet.datasets.config import DataConfig, PlacesConfig, SourceConfig
from geounet.datasets.doubt import vegetation_index, without_doubted
from geounet.datasets.images import IMAGE_SUFFIXES, ImageFile, read_image, read_label
from geounet.datasets.labels import IGNORE, LabelCodes
from geounet.datasets.split import Place, split_by_block
from geounet.errors import TrainingError

Codes = npt.NDArray[np.uint8]
METRES_A_DEGREE = 111_320.0
FRESH = ("imagenet", "scratch")
"""Values of `init` that know none of the classes yet."""

PARTS = ("train", "val", "test")
"""What a split table may say; what is for testing, or not named, is left out of training and validation."""
LEFT_OUT = "test"


@dataclass(frozen=True)
class Sample:
    """One image with its labels. `image` uint8 (bands, rows, columns) on 0-255, `codes` uint8 (rows, columns).

    `place` is where it lies on the ground, `place_name` which place of the source's table it shows (empty without a
    table), `gsd_m` metres a pixel as far as the source says.
    """

    name: str
    group: str
    image: torch.Tensor
    codes: torch.Tensor
    place: Place | None
    place_name: str = ""
    gsd_m: float = 1.0

    @cached_property
    def pixels(self) -> int:
        """Pixels of the image."""
        return int(self.codes.numel())


@dataclass(frozen=True)
class Source:
    """A source, read: its samples for training and for validation, and those in the gap between."""

    config: SourceConfig
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    gap: tuple[Sample, ...] = ()
    credits: tuple["Credit", ...] = ()

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self.config.name

    @cached_property
    def groups(self) -> tuple[tuple[Sample, ...], ...]:
        """Training samples that show the same ground, together: a crop is drawn from one of them."""
        found: dict[str, list[Sample]] = {}
        for sample in self.train:
            found.setdefault(sample.group, []).append(sample)
        return tuple(tuple(samples) for samples in found.values())


@dataclass(frozen=True)
class Shown:
    """What a table of places says of an image: the place, the survey that took it, metres a pixel (or None)."""

    place: str
    survey: str
    gsd_m: float | None
    licence: str = ""
    attribution: str = ""


@dataclass(frozen=True)
class Credit:
    """Places whose imagery asks for the same words: the licence and whom to name."""

    places: tuple[str, ...]
    licence: str
    attribution: str


@dataclass(frozen=True)
class DataSet:
    """All sources, with the label codes they share."""

    codes: LabelCodes
    sources: tuple[Source, ...]

    def train_pixels(self) -> torch.Tensor:
        """Training pixels a class (classes,), sources weighted by their share of the crops; either-or pixels count
        for each of their classes in equal parts, not-this labels and ignored ones not at all."""
        allowed = self.codes.allowed
        members = allowed.sum(axis=1)
        share = np.where((members <= max(1, allowed.shape[1] // 2))[:, None], allowed / members[:, None], 0.0)
        total = np.zeros(allowed.shape[1])
        for source in self.sources:
            counts = np.zeros(allowed.shape[0])
            for sample in source.train:
                counts += np.bincount(sample.codes.numpy().ravel(), minlength=allowed.shape[0])
            if counts.sum():
                total += (counts @ share) / counts.sum() * source.config.weight * 1e8
        return torch.from_numpy(total)


def load_data(config: DataConfig, folder: Path) -> DataSet:
    """Read all sources of a configuration below `folder`.

    Raises TrainingError at the first image without label, size that differs, label value without a class, class
    without a pixel, or ground that is both in train and val.
    """
    codes = LabelCodes.of(config.class_names)
    for source in config.source:
        doubted = [*source.doubt.below, *source.doubt.above] if source.doubt else []
        texts = [*source.classes.values(), *([source.background] if source.background else []), *doubted]
        try:
            codes = codes.with_sets(texts)
        except TrainingError as error:
            raise TrainingError(f"source '{source.name}', classes: {error}") from error
    data = DataSet(codes, tuple(_load_source(s, config, codes, folder) for s in config.source))
    _check_surveys(data.sources)
    _check_classes(data, from_bundle=config.init not in FRESH)
    return data


def load_validation(config: DataConfig, folder: Path) -> DataSet:
    """Read only the sources that have a validation part: what scoring needs. Raises TrainingError as `load_data`."""
    kept = tuple(s for s in config.source if not s.split.none)
    if not kept:
        raise TrainingError("no source of the configuration has a validation part: give one a split")
    return load_data(config.model_copy(update={"source": kept, "init": "bundle"}), folder)


def _check_classes(data: DataSet, *, from_bundle: bool) -> None:
    """A few corrections need not hold every class that a bundle knows already."""
    if not any(source.train for source in data.sources):
        raise TrainingError("no source has a training image: check the splits")
    if from_bundle:
        return
    for name, pixels in zip(data.codes.names, data.train_pixels().tolist(), strict=True):
        if pixels == 0:
            raise TrainingError(
                f"class '{name}' has no pixel in any training label: take it out of the legend or add labels of it"
            )


def _load_source(source: SourceConfig, config: DataConfig, codes: LabelCodes, folder: Path) -> Source:
    images = list(_images(source, folder))
    if not images:
        raise TrainingError(f"source '{source.name}': no image matches {folder / source.images / source.pattern}")
    shown = _shown(source.name, source.places, folder, [name for name, _ in images])
    parts = _split_of(source, folder, [name for name, _ in images], shown)
    used = [name for name, _ in images if parts.get(name, LEFT_OUT) != LEFT_OUT]
    if source.places is not None and (homeless := next((n for n in used if n not in shown), None)):
        table = folder / source.places.csv
        raise TrainingError(f"source '{source.name}': {table} does not say which place {homeless} shows")
    groups = _groups(source, folder)
    train: list[Sample] = []
    val: list[Sample] = []
    wanted = [(name, path) for name, path in images if parts.get(name, LEFT_OUT) != LEFT_OUT]
    labelled = [(name, path, _label_path(source, folder, path, Path(name))) for name, path in wanted]
    for name, image_path, label_path in labelled:
        sample = _read_pair(source, config, codes, name, image_path, label_path, groups.get(name, name))
        sample = _with_place(sample, source, shown.get(name))
        if source.doubt and parts[name] != "val":
            sample = _without_doubt(sample, source, codes, image_path)
        (val if parts[name] == "val" else train).append(sample)
    gap: list[Sample] = []
    if source.split.block_m is not None:
        train, val, gap = split_by_block([*train, *val], source.split, source.name)
    _check_apart(source.name, train, val)
    return Source(source, tuple(train), tuple(val), tuple(gap), _credits([shown[s.name] for s in train if shown]))


def _shown(name: str, places: PlacesConfig | None, folder: Path, files: list[str]) -> dict[str, Shown]:
    """What the table of places says of each file that it names."""
    if places is None:
        return {}
    wanted = (places.gsd_column, places.licence_column, places.attribution_column)
    table = _read_table(folder / places.csv, (places.file_column, places.place_column, *(c for c in wanted if c)))
    surveys = {place: "+".join(survey) for survey in places.surveys for place in survey}
    known = {row[places.place_column] for row in table}
    strange = sorted(set(surveys) - known)
    if strange:
        raise TrainingError(f"source '{name}': places.surveys names '{strange[0]}', no place of {folder / places.csv}")
    found = {}
    for row in table:
        place = row[places.place_column]
        gsd_m = float(row[places.gsd_column]) if places.gsd_column else None
        for file in _names_of(row[places.file_column]):
            found[file] = Shown(place, surveys.get(place, place), gsd_m, *_words(row, places))
    return {file: found[file] for file in files if file in found}


def _words(row: dict[str, Any], places: PlacesConfig) -> tuple[str, str]:
    licence, attribution = (row[c] if c else "" for c in (places.licence_column, places.attribution_column))
    return licence, attribution


def _credits(shown: Sequence[Shown]) -> tuple[Credit, ...]:
    """The words of the imagery that was trained on, places that ask for the same together."""
    found: dict[tuple[str, str], list[str]] = {}
    for s in shown:
        if s.licence or s.attribution:
            found.setdefault((s.licence, s.attribution), []).append(s.place)
    return tuple(Credit(tuple(dict.fromkeys(places)), *words) for words, places in found.items())


def _with_place(sample: Sample, source: SourceConfig, shown: Shown | None) -> Sample:
    usual = math.sqrt(source.gsd_m[0] * source.gsd_m[1])
    if shown is None:
        return replace(sample, gsd_m=usual)
    return replace(sample, place_name=shown.place, gsd_m=(shown.gsd_m or usual) * (source.reduce if shown.gsd_m else 1))


def _without_doubt(sample: Sample, source: SourceConfig, codes: LabelCodes, path: Path) -> Sample:
    if source.doubt is None:
        return sample
    if source.reduce != 1:
        raise TrainingError(f"source '{source.name}': doubt needs reduce = 1")
    index = vegetation_index(path, source.doubt)
    return replace(sample, codes=torch.from_numpy(without_doubted(sample.codes.numpy(), index, source.doubt, codes)))


def _images(source: SourceConfig, folder: Path) -> Iterator[tuple[str, Path]]:
    images = folder / source.images
    if not images.is_dir():
        raise TrainingError(f"source '{source.name}': {images} is no folder; give the data folder with --data")
    for path in sorted(images.glob(source.pattern)):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        yield path.relative_to(images).as_posix(), path


def _label_path(source: SourceConfig, folder: Path, image: Path, name: Path) -> Path:
    root = folder / source.labels
    if root.is_file():
        return root
    if source.label_folder:
        old, new = source.label_folder
        name = Path(*(new if part == old else part for part in name.parts))
    label = root / name
    if source.label_suffix:
        label = label.with_suffix(source.label_suffix)
    if not label.is_file():
        raise TrainingError(f"source '{source.name}': {image} has no label: {label} does not exist")
    return label


def _split_of(source: SourceConfig, folder: Path, names: list[str], shown: dict[str, Shown]) -> dict[str, str]:
    split = source.split
    if split.places:
        return _split_by_place(source, names, shown)
    if split.csv is not None:
        table = _read_table(folder / split.csv, (split.file_column, split.split_column))
        parts = {row[split.file_column]: row[split.split_column] for row in table}
        strange = next((f"{name} '{part}'" for name, part in parts.items() if part not in PARTS), None)
        if strange:
            raise TrainingError(
                f"source '{source.name}': {folder / split.csv} puts {strange}: "
                f"column '{split.split_column}' may hold train, val, or test, which is left out"
            )
        return parts
    if split.val:
        chosen = {n: "val" if any(fnmatch.fnmatch(n, p) for p in split.val) else "train" for n in names}
        for pattern in split.val:
            if not any(fnmatch.fnmatch(n, pattern) for n in names):
                raise TrainingError(f"source '{source.name}': split.val pattern '{pattern}' matches no image")
        return chosen
    return dict.fromkeys(names, "train")


def _split_by_place(source: SourceConfig, names: list[str], shown: dict[str, Shown]) -> dict[str, str]:
    """Every image of a left-out place is val, and so is every image of the survey that took it."""
    strange = sorted(set(source.split.places) - {s.place for s in shown.values()})
    if strange:
        raise TrainingError(f"source '{source.name}': split.places names '{strange[0]}', which no image shows")
    out = {s.survey for s in shown.values() if s.place in source.split.places}
    return {name: "val" if name in shown and shown[name].survey in out else "train" for name in names}


def _groups(source: SourceConfig, folder: Path) -> dict[str, str]:
    """Group of each file: from `group = "table.csv:file:column+column"`; file names may lack their suffix there."""
    if source.group is None:
        return {}
    path, file_column, columns = [*source.group.split(":"), "", ""][:3]
    wanted = columns.split("+")
    table = _read_table(folder / path, (file_column, *wanted))
    return {n: "/".join(row[c] for c in wanted) for row in table for n in _names_of(row[file_column])}


def _names_of(name: str) -> list[str]:
    return [name] if PurePosixPath(name).suffix else [name + suffix for suffix in IMAGE_SUFFIXES]


def _read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error
    missing = [c for c in columns if not rows or c not in rows[0]]
    if missing:
        raise TrainingError(f"{path} has no column '{missing[0]}'")
    return rows


def _read_pair(
    source: SourceConfig,
    config: DataConfig,
    codes: LabelCodes,
    name: str,
    image_path: Path,
    label_path: Path,
    group: str,
) -> Sample:
    file = read_image(image_path, source.bands, len(config.bands))
    labels = read_label(label_path, source, codes, file)
    if labels.shape != file.counts.shape[1:]:
        raise TrainingError(
            f"{label_path} is {labels.shape[1]} x {labels.shape[0]} px, but {image_path} is "
            f"{file.counts.shape[2]} x {file.counts.shape[1]} px"
        )
    labels = np.where(file.valid, labels, np.uint8(IGNORE))
    image, label = torch.from_numpy(file.counts), torch.from_numpy(labels)
    label = without_border(label, source.ignore_border_px)
    image, label = reduced(image, label, source.reduce)
    return Sample(name, f"{source.name}/{group}", image, label, _place(file))


def _place(file: ImageFile) -> Place | None:
    """Bounds in metres: exactly for projected CRS, by the length of a degree for geographic ones."""
    if file.georef is None:
        return None
    left, bottom, right, top = file.georef.bounds()
    crs = file.georef.crs
    if crs.is_projected:
        x = y = float(crs.linear_units_factor[1])
    else:
        x, y = METRES_A_DEGREE * math.cos(math.radians((bottom + top) / 2)), METRES_A_DEGREE
    return Place(crs.to_string(), left * x, bottom * y, right * x, top * y)


def without_border(codes: torch.Tensor, width: int) -> torch.Tensor:
    """`codes` (rows, columns) with every pixel ignored that lies within `width` px of another code."""
    if width == 0:
        return codes
    values = codes[None, None].float()
    high = F.max_pool2d(values, 2 * width + 1, 1, width)
    low = -F.max_pool2d(-values, 2 * width + 1, 1, width)
    return torch.where((high == low)[0, 0], codes, torch.full_like(codes, IGNORE))


def reduced(image: torch.Tensor, codes: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and codes on a grid `factor` times coarser: means of counts, the middle pixel's code."""
    if factor == 1:
        return image, codes
    small = F.avg_pool2d(image[None].float(), factor)[0].round().to(torch.uint8)
    middle = codes[factor // 2 :: factor, factor // 2 :: factor]
    return small, middle[: small.shape[1], : small.shape[2]].contiguous()


def _check_surveys(sources: Sequence[Source]) -> None:
    """Whatever way the splits were made: a survey is in one part only, over all sources that tell places."""
    told = [s for s in sources if s.config.places is not None]
    surveys = {p: survey[0] for s in told if s.config.places for survey in s.config.places.surveys for p in survey}
    train = {surveys.get(x.place_name, x.place_name): (s.name, x.place_name) for s in told for x in s.train}
    for source in told:
        for sample in source.val:
            found = train.get(surveys.get(sample.place_name, sample.place_name))
            if found is not None:
                raise TrainingError(
                    f"source '{source.name}': {sample.place_name} is left out, but source '{found[0]}' trains on "
                    f"{found[1]}{'' if found[1] == sample.place_name else ' of the same survey'}: split by place"
                )


def _check_apart(name: str, train: list[Sample], val: list[Sample]) -> None:
    shared = {s.group for s in train} & {s.group for s in val}
    if shared:
        raise TrainingError(f"source '{name}': {sorted(shared)[0]} is both in train and in val: split by group")
    for a in val:
        for b in train:
            if a.place and b.place and a.place.overlaps(b.place):
                raise TrainingError(f"source '{name}': {a.name} (val) and {b.name} (train) show the same ground")
