"""Find a scene's bands by name, never by a silent guess."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rasterio.enums import ColorInterp

from tiles.errors import BandError, SceneError
from tiles.scene.notice import Notice

_SYNONYMS = {
    "red": ("red", "r"),
    "green": ("green", "g"),
    "blue": ("blue", "b"),
    "nir": ("nir", "near infrared", "near ir", "nearinfrared", "infrared", "n", "nir1"),
    "rededge": ("rededge", "red edge", "re"),
    "coastal": ("coastal", "coastal blue", "coastal aerosol", "aerosol"),
    "yellow": ("yellow",),
    "pan": ("pan", "panchromatic"),
    # STAC's common names for Sentinel-2's and Landsat's bands go with them.
    "rededge1": ("rededge1", "rededge071"),
    "rededge2": ("rededge2", "rededge075"),
    "rededge3": ("rededge3", "rededge078"),
    "nir08": ("nir08", "narrow nir"),
    "swir1": ("swir1", "swir 1", "swir16"),
    "swir2": ("swir2", "swir 2", "swir22"),
    "gray": ("gray", "grey", "greyscale", "grayscale"),
}
_NAMES = {text: name for name, texts in _SYNONYMS.items() for text in texts}
_BY_COLOUR = {
    ColorInterp.red: "red",
    ColorInterp.green: "green",
    ColorInterp.blue: "blue",
    ColorInterp.pan: "pan",
    ColorInterp.coastal: "coastal",
    ColorInterp.rededge: "rededge",
    ColorInterp.nir: "nir",
}


@dataclass(frozen=True)
class SceneBand:
    """One band of a file: its number from 1, its name where it has one, and what the file says of it."""

    number: int
    name: str | None
    description: str
    colour: str

    def __str__(self) -> str:
        return " ".join(filter(None, [str(self.number), f'"{self.description}"' * bool(self.description), self.shown]))

    @property
    def shown(self) -> str:
        """The colour interpretation in brackets."""
        return f"({self.colour})"


@dataclass(frozen=True)
class BandMatch:
    """Which file band (from 1) serves each wanted band, in wanted order, and how that was found."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    notices: tuple[Notice, ...]


def canonical(name: str) -> str:
    """The project's word for a band name: `NIR`, `near infrared` and `near-infrared` are `nir`."""
    words = re.sub(r"[\s_\-]+", " ", name.strip().lower())
    return _NAMES.get(words, _NAMES.get(words.replace(" ", ""), words))


def scene_bands(dataset: Any) -> tuple[SceneBand, ...]:
    """The bands of a rasterio dataset with the names its descriptions and colour interpretation give them.

    A description outranks the colour interpretation, which writers often fill in by habit: where the two
    contradict each other in any band, colours name no band at all. Nor do they where `colours_by_default`.
    """
    described = [_from_description(text) for text in dataset.descriptions]
    coloured = [_BY_COLOUR.get(colour) for colour in dataset.colorinterp]
    contradicted = any(d and c and d != c for d, c in zip(described, coloured, strict=True))
    contradicted = contradicted or colours_by_default(dataset.colorinterp)
    bands = []
    for index, (text, colour) in enumerate(zip(dataset.descriptions, dataset.colorinterp, strict=True)):
        by_colour = coloured[index]
        if contradicted or by_colour in described:
            by_colour = None
        bands.append(SceneBand(index + 1, described[index] or by_colour, text or "", colour.name))
    if dataset.count == 1 and bands[0].name is None and dataset.colorinterp[0] == ColorInterp.gray:
        return (replace(bands[0], name="gray"),)
    return tuple(bands)


def colours_by_default(colours: Sequence[ColorInterp]) -> bool:
    """Whether red, green, blue on bands 1-3 say nothing: TIFF calls the first three of many bands so by default.

    WorldView scenes of eight bands (coastal, blue, green, ...) come that way. Up to four bands are believed.
    """
    first, rest = list(colours[:3]), [c for c in colours[3:] if c != ColorInterp.alpha]
    plain = first == [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    return plain and len(rest) > 1 and all(c == ColorInterp.undefined for c in rest)


def refuse_unreadable(dataset: Any, path: str) -> None:
    """Refuse what is no measurement: palettes and complex numbers. Raises SceneError."""
    if ColorInterp.palette in dataset.colorinterp:
        raise SceneError(
            f"{path} is a palette image (its values are colour numbers): "
            "expand it with `gdal_translate -expand rgb INPUT OUTPUT.tif`"
        )
    strange = {str(name) for name in dataset.dtypes if str(name).startswith("complex")}
    if strange:
        raise SceneError(f"{path} holds {', '.join(sorted(strange))} values: bring it to real numbers first")


def match_bands(
    path: str,
    bands: Sequence[SceneBand],
    wanted: Sequence[str],
    chosen: Mapping[str, int] | None,
    masks: Sequence[int] = (),
    dtype: str = "uint8",
) -> BandMatch:
    """Serve every wanted band, by the user's choice, then by name, then by the one guess that is allowed.

    The guess: a file with exactly three unnamed uint8 bands is red, green, blue. `masks` are the numbers of bands
    that are no measurement. Raises BandError, showing both lists and the option that settles it.
    """
    chosen = {canonical(name): number for name, number in (chosen or {}).items()}
    _check_choice(path, bands, chosen)
    data = [band for band in bands if band.number not in masks]
    found: dict[str, int] = {}
    notices: list[Notice] = []
    for name in dict.fromkeys(canonical(w) for w in wanted):
        numbers = [band.number for band in data if band.name == name]
        if name in chosen:
            found[name] = chosen[name]
        elif len(numbers) == 1:
            found[name] = numbers[0]
        elif numbers:
            listed = ", ".join(str(n) for n in numbers)
            raise BandError(f"{path}: bands {listed} are all called {name}; choose with --bands {name}={numbers[0]}")
    missing = [name for name in (canonical(w) for w in wanted) if name not in found]
    if missing and not found and _is_plain_rgb(data, wanted, dtype):
        found = {name: band.number for name, band in zip(("red", "green", "blue"), data, strict=True)}
        notices.append(Notice("adjusted", "bands", "three unnamed 8-bit bands, taken as red, green, blue"))
    elif missing:
        raise BandError(_no_match(path, bands, data, wanted, missing))
    numbers = [found[canonical(w)] for w in wanted]
    if not notices:
        text = ", ".join(f"{name} = band {number}" for name, number in zip(wanted, numbers, strict=True))
        how = "as chosen" if all(canonical(w) in chosen for w in wanted) else "by name"
        codes = [
            b.description
            for b in data
            if b.number in numbers and b.description and not _from_description(b.description)
        ]
        if codes and how == "by name":
            how = f"by colour tag; the file calls them {', '.join(codes)}"
        notices.append(Notice("adjusted" if codes and how != "as chosen" else "ok", "bands", f"{text} ({how})"))
    if len(set(numbers)) < len(numbers):
        notices.append(Notice("warning", "bands", "one band serves several names, so there is no colour to go by"))
    return BandMatch(tuple(wanted), tuple(numbers), tuple(notices))


def _from_description(text: str | None) -> str | None:
    """The band name in a description: the whole of it, or the one known colour word in it ("B4 - Red")."""
    if not text:
        return None
    whole = canonical(text)
    if whole in _SYNONYMS:
        return whole
    words = re.sub(r"[^a-z0-9]+", " ", text.lower())
    found = {name for known, name in _NAMES.items() if len(known) > 2 and re.search(rf"\b{known}\b", words)}
    for wider, inner in (("rededge", "red"), ("coastal", "blue")):
        if wider in found:
            found.discard(inner)
    return found.pop() if len(found) == 1 else None


def _check_choice(path: str, bands: Sequence[SceneBand], chosen: Mapping[str, int]) -> None:
    for name, number in chosen.items():
        if not 1 <= number <= len(bands):
            raise BandError(f"{path} has bands 1-{len(bands)}; --bands {name}={number} is outside")


def _is_plain_rgb(data: Sequence[SceneBand], wanted: Sequence[str], dtype: str) -> bool:
    plain = {"gray", "undefined", "red", "green", "blue"}  # and not, say, the lightness of a Lab image
    unnamed = len(data) == 3 and all(band.name is None and band.colour in plain for band in data)
    return unnamed and dtype == "uint8" and {canonical(w) for w in wanted} <= {"red", "green", "blue"}


def _default_note(bands: Sequence[SceneBand]) -> str:
    """Why colours that the list shows were not believed."""
    shown = any(band.name is None and band.colour in ("red", "green", "blue") for band in bands)
    return " (colours that TIFF gives by default to many bands, or that contradict the names)" if shown else ""


def _no_match(
    path: str, bands: Sequence[SceneBand], data: Sequence[SceneBand], wanted: Sequence[str], missing: Sequence[str]
) -> str:
    have = "; ".join(str(band) for band in bands[:16]) + ("; ..." if len(bands) > 16 else "")
    numbers = [band.number for band in data] or [1]
    if len(numbers) == 8 and list(wanted) == ["red", "green", "blue"]:
        numbers = [5, 3, 2]  # the order of most eight-band sensors; an example, never applied
    example = ",".join(f"{name}={numbers[min(i, len(numbers) - 1)]}" for i, name in enumerate(wanted))
    return (
        f"{path}: no band is known to be {', '.join(missing)}. The file has: {have}{_default_note(bands)}. "
        f"The model wants: {', '.join(wanted)}. Say which is which, for example --bands {example}"
    )
