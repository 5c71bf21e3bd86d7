"""Bands are found by name, or asked for; nothing is guessed in silence."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tiles.band_names import canonical
from tiles.errors import BandError
from tiles.scene.scene import Scene, open_scene
from tiles.window import Window

GeoTiff = Callable[..., Path]
RGB = ("red", "green", "blue")


def stack(bands: int, dtype: str = "uint8") -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Band `n` is full of the value `n`, so that what was read tells which band it was."""
    return np.stack([np.full((6, 5), n + 1, dtype=dtype) for n in range(bands)])


def served(scene: Scene) -> list[int]:
    """Which file band serves each wanted band."""
    return [int(v) for v in scene.read(Window(0, 0, 1, 1)).values[:, 0, 0]]


COLOURS_RGB = ("red", "green", "blue")
# what the file says of its bands; bands; wanted; what is expected to serve them (None: refused)
NAMED: list[tuple[str, Sequence[str], Sequence[str], Sequence[str], list[int] | None]] = [
    ("plain RGB", COLOURS_RGB, (), RGB, [1, 2, 3]),
    ("BGR by colour", ("blue", "green", "red"), (), RGB, [3, 2, 1]),
    ("RGB + undefined", (*COLOURS_RGB, "undefined"), (), RGB, [1, 2, 3]),
    ("RGB + named NIR", (*COLOURS_RGB, "undefined"), ("", "", "", "NIR"), (*RGB, "nir"), [1, 2, 3, 4]),
    ("named, shuffled", ("gray",) + ("undefined",) * 3, ("Blue", "GREEN", "Red", "Nir"), RGB, [3, 2, 1]),
    (
        "words in names",
        ("gray",) + ("undefined",) * 3,
        ("B2 - Blue", "B3 (green)", "B4: red", "B8 NIR"),
        RGB,
        [3, 2, 1],
    ),
    ("red edge is not red", ("gray",) + ("undefined",) * 3, ("red edge", "red", "green", "blue"), RGB, [2, 3, 4]),
    (
        "colour infrared: names outrank colours",
        COLOURS_RGB,
        ("nir", "red", "green"),
        ("nir", "red", "green"),
        [1, 2, 3],
    ),
    ("colour infrared for an RGB model", COLOURS_RGB, ("nir", "red", "green"), RGB, None),
    ("one name against the colours", COLOURS_RGB, ("nir", "", ""), RGB, None),
    ("8 bands with TIFF's default colours", COLOURS_RGB + ("undefined",) * 5, (), RGB, None),
    ("8 unnamed bands", ("gray",) + ("undefined",) * 7, (), RGB, None),
    ("12 unnamed bands", ("gray",) + ("undefined",) * 11, (), RGB, None),
    ("4 unnamed bands", ("gray",) + ("undefined",) * 3, (), RGB, None),
    ("numbers as names", ("gray",) + ("undefined",) * 3, ("B04", "B03", "B02", "B08"), RGB, None),
    ("grey", ("gray",), (), RGB, None),
    ("grey for a grey model", ("gray",), (), ("gray",), [1]),
    ("German, tagged by TIFF's default", COLOURS_RGB, ("Blau", "Grün", "Rot"), RGB, [3, 2, 1]),
    ("German, decomposed and shouted", COLOURS_RGB, ("BLAU", "GRU\u0308N", "ROT"), RGB, [3, 2, 1]),
    ("German, spelt out", COLOURS_RGB, ("Kanal 3 (blau)", "Kanal 2 (gruen)", "Kanal 1 (rot)"), RGB, [3, 2, 1]),
    ("French", COLOURS_RGB, ("Proche infrarouge", "Rouge", "Vert"), ("nir", "red", "green"), [1, 2, 3]),
    ("Spanish", COLOURS_RGB, ("azul", "verde", "rojo"), RGB, [3, 2, 1]),
    ("Polish", COLOURS_RGB, ("niebieski", "zielony", "czerwony"), RGB, [3, 2, 1]),
    ("Finnish", COLOURS_RGB, ("sininen", "vihreä", "punainen"), RGB, [3, 2, 1]),
    ("Norwegian", COLOURS_RGB, ("blå", "grønn", "rød"), RGB, [3, 2, 1]),
    ("Turkish", COLOURS_RGB, ("MAVİ", "YEŞİL", "KIRMIZI"), RGB, [3, 2, 1]),
    ("Russian", COLOURS_RGB, ("Синий канал", "Зелёный канал", "Красный канал"), RGB, [3, 2, 1]),
    ("Japanese", (*COLOURS_RGB, "undefined"), ("青", "緑", "赤", "近赤外"), (*RGB, "nir"), [3, 2, 1, 4]),
    ("Chinese", (*COLOURS_RGB, "undefined"), ("蓝波段", "绿波段", "红波段", "近红外波段"), (*RGB, "nir"), [3, 2, 1, 4]),
    ("Korean", COLOURS_RGB, ("청색", "녹색", "적색"), RGB, [3, 2, 1]),
    ("words nobody here knows", COLOURS_RGB, ("glas", "gwyrdd", "coch"), RGB, None),
    (
        "words nobody here knows, without colours",
        ("gray", "undefined", "undefined"),
        ("a1 glas", "gwy", "coch"),
        RGB,
        None,
    ),
    ("one word known, against the tags", COLOURS_RGB, ("Blau", "gwyrdd", "coch"), RGB, None),
    ("codes and colours", COLOURS_RGB, ("B04", "B03", "B02"), RGB, [1, 2, 3]),
    ("one title for all bands", COLOURS_RGB, ("ortho_2020_1", "ortho_2020_2", "ortho_2020_3"), RGB, [1, 2, 3]),
    (
        "PlanetScope's eight bands",
        COLOURS_RGB + ("undefined",) * 5,
        ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"),
        (*RGB, "nir"),
        [6, 4, 2, 8],
    ),
    ("two bands called red", ("gray",) + ("undefined",) * 3, ("red", "red", "green", "blue"), RGB, None),
    ("NIR is missing", COLOURS_RGB, (), (*RGB, "nir"), None),
    ("sensor colours of GDAL 3.10", ("coastal", "blue", "green", "red", "nir"), (), (*RGB, "nir"), [4, 3, 2, 5]),
]


@pytest.mark.parametrize(("colours", "names", "wanted", "expected"), [n[1:] for n in NAMED], ids=[n[0] for n in NAMED])
def test_bands_by_name(
    geotiff: GeoTiff, colours: Sequence[str], names: Sequence[str], wanted: Sequence[str], expected: list[int] | None
) -> None:
    path = geotiff(stack(len(colours)), colours=colours, names=names)
    if expected is not None:
        with open_scene(path, wanted) as scene:
            assert served(scene) == expected
            assert scene.bands == tuple(wanted)
        return
    with pytest.raises(BandError) as caught:
        open_scene(path, wanted)
    text = str(caught.value)
    assert "--bands" in text or "take a scene that has them" in text
    assert str(path) in text
    assert "\n" not in text


def test_the_refusal_names_both_lists_and_an_option_that_works(geotiff: GeoTiff) -> None:
    path = geotiff(stack(8, "uint16"), names=("a", "b"))
    with pytest.raises(BandError) as caught:
        open_scene(path, RGB)
    text = str(caught.value)
    assert '1 "a"' in text
    assert "8 (undefined)" in text
    assert "The model wants: red, green, blue" in text
    assert "--bands red=5,green=3,blue=2 on WorldView, red=6,green=4,blue=2 on PlanetScope" in text


@pytest.mark.parametrize(
    ("count", "dtype", "colour", "wanted", "says", "not_said"),
    [
        (
            1,
            "uint8",
            "gray",
            RGB,
            "needs 3 bands and this file has 1: .* repeated with --bands red=1,green=1,blue=1",
            "",
        ),
        (1, "float32", "undefined", RGB, "needs 3 bands and this file has 1: take a scene that has them", "--bands"),
        (2, "uint16", "undefined", RGB, "needs 3 bands and this file has 2", "--bands"),
        (3, "uint8", "undefined", (*RGB, "nir"), "needs 4 bands and this file has 3", "nir=3"),
    ],
)
def test_a_file_with_too_few_bands_is_told_so(
    geotiff: GeoTiff, count: int, dtype: str, colour: str, wanted: Sequence[str], says: str, not_said: str
) -> None:
    with pytest.raises(BandError, match=says) as caught:
        open_scene(geotiff(stack(count, dtype), colours=(colour,) * count), wanted)
    assert not not_said or not_said not in str(caught.value)


def test_words_that_are_not_understood_go_with_the_option_that_is_shown(geotiff: GeoTiff) -> None:
    path = geotiff(stack(3), colours=COLOURS_RGB, names=("glas", "gwyrdd", "coch"))
    with pytest.raises(BandError, match=r'1 "glas".*if the tags are right, --bands red=1,green=2,blue=3'):
        open_scene(path, RGB)
    with open_scene(path, RGB, bands={"red": 3, "green": 2, "blue": 1}) as scene:
        assert served(scene) == [3, 2, 1]


def test_three_unnamed_8_bit_bands_are_taken_as_rgb_and_that_is_said(geotiff: GeoTiff) -> None:
    with open_scene(geotiff(stack(3), colours=("gray", "undefined", "undefined")), RGB) as scene:
        assert served(scene) == [1, 2, 3]
        assert [n.text for n in scene.notices if n.level == "adjusted"] == [
            "three unnamed 8-bit bands, taken as red, green, blue"
        ]


@pytest.mark.parametrize(
    ("bands", "dtype", "wanted"), [(3, "uint16", RGB), (3, "uint8", (*RGB, "nir")), (2, "uint8", RGB)]
)
def test_no_other_guess(geotiff: GeoTiff, bands: int, dtype: str, wanted: Sequence[str]) -> None:
    colours = ("gray", *["undefined"] * (bands - 1))
    with pytest.raises(BandError):
        open_scene(geotiff(stack(bands, dtype), colours=colours), wanted)


def test_the_users_choice_outranks_everything(geotiff: GeoTiff) -> None:
    path = geotiff(stack(4), colours=(*COLOURS_RGB, "undefined"), names=("red", "green", "blue", "nir"))
    with open_scene(path, (*RGB, "nir"), bands={"Red": 3, "blue": 1}) as scene:
        assert served(scene) == [3, 2, 1, 4]


def test_one_band_for_all_is_possible_and_warned_of(geotiff: GeoTiff) -> None:
    with open_scene(geotiff(stack(1)), RGB, bands={"red": 1, "green": 1, "blue": 1}) as scene:
        assert served(scene) == [1, 1, 1]
        assert any(n.level == "warning" and "several names" in n.text for n in scene.notices)


@pytest.mark.parametrize(
    ("text", "name"),
    [("NIR", "nir"), ("near-infrared", "nir"), ("Near Infrared", "nir"), (" Red ", "red"), ("red_edge", "rededge"),
     ("Nahes Infrarot", "nir"), ("proche infrarouge", "nir"), ("Infrarrojo cercano", "nir"), ("красный", "red"),
     ("grey", "gray"), ("Swir 1", "swir1"), ("thermal", "thermal")],
)  # fmt: skip
def test_names_have_one_spelling(text: str, name: str) -> None:
    assert canonical(text) == name
