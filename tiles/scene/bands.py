"""Find a scene's bands by name, never by a silent guess."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rasterio.enums import ColorInterp

from tiles.band_names import canonical, name_in, words_unknown
from tiles.errors import BandError, SceneError
from tiles.scene.notice import Notice

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


def scene_bands(dataset: Any) -> tuple[SceneBand, ...]:
    """The bands of a rasterio dataset with the names its descriptions and colour interpretation give them.

    A description outranks the colour interpretation, which writers often fill in by habit: where the two
    contradict each other in any band, colours name no band at all. Nor do they where `colours_by_default`.
    """
    described = [name_in(text) for text in dataset.descriptions]
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
    """Refuse what is no measurement: palettes, negatives and complex numbers. Raises SceneError."""
    if str(dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE", "")).upper() == "YES":
        top = 65_535 if str(dataset.dtypes[0]) == "uint16" else 255
        way = "-expand gray" if ColorInterp.palette in dataset.colorinterp else f"-scale 0 {top} {top} 0"
        raise SceneError(
            f"{path} is stored as a negative (MinIsWhite: 0 is white): "
            f"turn it with `gdal_translate {way} INPUT OUTPUT.tif`"
        )
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
            choice = " or ".join(f"{name}={n}" for n in numbers)
            raise BandError(f"{path}: bands {listed} are all called {name}; choose with --bands {choice}")
    missing = [name for name in (canonical(w) for w in wanted) if name not in found]
    if missing and not found and _is_plain_rgb(data, wanted, dtype):
        found = {name: band.number for name, band in zip(("red", "green", "blue"), data, strict=True)}
        notices.append(Notice("adjusted", "bands", "three unnamed 8-bit bands, taken as red, green, blue"))
    elif missing:
        raise BandError(_no_match(path, bands, data, wanted, missing, dtype))
    _refuse_foreign_names(path, data, wanted, found, chosen)
    numbers = [found[canonical(w)] for w in wanted]
    if not notices:
        text = ", ".join(f"{name} = band {number}" for name, number in zip(wanted, numbers, strict=True))
        how = "as chosen" if all(canonical(w) in chosen for w in wanted) else "by name"
        codes = [b.description for b in data if b.number in numbers and b.description and not name_in(b.description)]
        if codes and how == "by name":
            how = f"by colour tag; the file calls them {', '.join(codes)}"
        notices.append(Notice("adjusted" if codes and how != "as chosen" else "ok", "bands", f"{text} ({how})"))
    if len(set(numbers)) < len(numbers):
        notices.append(Notice("warning", "bands", "one band serves several names, so there is no colour to go by"))
    return BandMatch(tuple(wanted), tuple(numbers), tuple(notices))


def _check_choice(path: str, bands: Sequence[SceneBand], chosen: Mapping[str, int]) -> None:
    for name, number in chosen.items():
        if not 1 <= number <= len(bands):
            raise BandError(f"{path} has bands 1-{len(bands)}; --bands {name}={number} is outside")


def _refuse_foreign_names(
    path: str,
    data: Sequence[SceneBand],
    wanted: Sequence[str],
    found: Mapping[str, int],
    chosen: Mapping[str, int],
) -> None:
    """Refuse colours from tags alone where the file tells its bands apart by words that nobody here understands.

    TIFF tags three bands red, green, blue by default, whatever they are; words were put there by somebody.
    """
    by_tag = [band for band in data if band.number in [found[n] for n in found if n not in chosen]]
    unknown = {words_unknown(band.description) for band in by_tag}
    if any(name_in(band.description) for band in by_tag) or frozenset() in unknown or len(unknown) < 2:
        return
    said = ", ".join(f'{band.number} "{band.description}"' for band in by_tag)
    example = ",".join(f"{name}={found[canonical(name)]}" for name in wanted)
    raise BandError(
        f"{path}: its bands are called {said}, which is not understood; their colour tags may be TIFF's default. "
        f"Say which is which; if the tags are right, --bands {example}"
    )


def _is_plain_rgb(data: Sequence[SceneBand], wanted: Sequence[str], dtype: str) -> bool:
    plain = {"gray", "undefined", "red", "green", "blue"}  # and not, say, the lightness of a Lab image
    unnamed = len(data) == 3 and all(band.name is None and band.colour in plain for band in data)
    return unnamed and dtype == "uint8" and {canonical(w) for w in wanted} <= {"red", "green", "blue"}


def _default_note(bands: Sequence[SceneBand]) -> str:
    """Why colours that the list shows were not believed."""
    shown = any(band.name is None and band.colour in ("red", "green", "blue") for band in bands)
    return " (colours that TIFF gives by default to many bands, or that contradict the names)" if shown else ""


def _no_match(
    path: str,
    bands: Sequence[SceneBand],
    data: Sequence[SceneBand],
    wanted: Sequence[str],
    missing: Sequence[str],
    dtype: str,
) -> str:
    have = "; ".join(str(band) for band in bands[:16]) + ("; ..." if len(bands) > 16 else "")
    return (
        f"{path}: no band is known to be {', '.join(missing)}. The file has: {have}{_default_note(bands)}. "
        f"The model wants: {', '.join(wanted)}. {_way_on(data, wanted, dtype)}"
    )


def _way_on(data: Sequence[SceneBand], wanted: Sequence[str], dtype: str) -> str:
    """What to do where bands are missing; an example is never applied."""
    if len(data) < len(set(wanted)):
        text = f"It needs {len(set(wanted))} bands and this file has {len(data)}: take a scene that has them"
        if len(data) == 1 and data[0].name in ("gray", "pan") and dtype in ("uint8", "uint16"):
            again = ",".join(f"{name}={data[0].number}" for name in wanted)
            text += f"; a grey image can be repeated with --bands {again}, with no colour to go by"
        return text
    numbers = [band.number for band in data]
    if len(numbers) == 8 and list(wanted) == ["red", "green", "blue"]:
        return "Say which is which: --bands red=5,green=3,blue=2 on WorldView, red=6,green=4,blue=2 on PlanetScope"
    example = ",".join(f"{name}={number}" for name, number in zip(wanted, numbers, strict=False))
    return f"Say which is which, for example --bands {example}"
