"""Bands are found by name, or asked for; nothing is guessed in silence."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tiles.errors import BandError
from tiles.scene.bands import canonical
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
    assert "--bands" in text
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
    assert "--bands red=5,green=3,blue=2" in text


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
     ("grey", "gray"), ("Swir 1", "swir1"), ("thermal", "thermal")],
)  # fmt: skip
def test_names_have_one_spelling(text: str, name: str) -> None:
    assert canonical(text) == name
