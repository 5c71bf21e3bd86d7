"""From a scene's counts to the reflectance that a model was trained on.

How counts stand for reflectance is told by the user, by the file's scale and offset, or by the values; each way is
said, and a choice made by values alone is a warning. Sentinel-2 counts are reflectance times 10,000; products made
since 25 January 2022 (processing baseline 04.00) hold 1,000 more (Sentinel-2 Products Specification Document, 14.9).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geounet.errors import MismatchError
from geounet.model.stretch import BandStretch, Float32, Stretch, parse_stretch
from tiles.errors import SceneError

SENTINEL_ONE = 10_000.0
SENTINEL_OFFSET = 1_000.0
_OFFSET_FLOOR = 900.0
_WHITE = 0.35
_BRIGHTEST = 2.5
"""Reflectance above 1 is glint or snow on a slope; numbers beyond this are counts."""


@dataclass(frozen=True)
class Reflectance:
    """Reflectance is (count - `zero`) / (`one` - `zero`); `told` says how that is known, `sure` whether it is."""

    zero: float
    one: float
    told: str
    sure: bool = True


def find_reflectance(
    sample: npt.NDArray[Any],
    dtype: np.dtype[Any],
    scales: Sequence[float],
    offsets: Sequence[float],
    choice: str | None = None,
) -> Reflectance:
    """What the counts of a scene mean, from a sample (bands, pixels) of its valid pixels, type, and tags a band.

    `choice` is `--stretch`: LO,HI are the counts of reflectance 0 and 1. Raises MismatchError where the values are a
    picture's, SceneError for a choice that means nothing here.
    """
    if choice is not None:
        return _chosen(choice)
    if (len(set(scales)), len(set(offsets))) == (1, 1) and scales[0] > 0 and (scales[0], offsets[0]) != (1.0, 0.0):
        scale, offset = scales[0], offsets[0]
        text = f"reflectance by the file's own scale {scale:g} and offset {offset:g}"
        return Reflectance(-offset / scale, (1.0 - offset) / scale, text)
    if dtype.itemsize == 1:
        raise MismatchError(
            "the scene has 8-bit counts, a picture's; this model wants reflectance: take the product itself, or say "
            "with --stretch LO,HI which counts are reflectance 0 and 1"
        )
    if sample.shape[1] == 0:
        return Reflectance(0.0, SENTINEL_ONE, "no valid pixel to tell the scale by")
    floors, tops = np.quantile(sample.astype(np.float64), (0.001, 0.98), axis=1)
    if dtype.kind == "f" and tops.max() <= _BRIGHTEST:
        return Reflectance(0.0, 1.0, "values taken as reflectance on 0-1")
    if floors.min() >= _OFFSET_FLOOR:
        text = (
            f"every band begins at {floors.min():,.0f} or more: taken as Sentinel-2 counts with the offset of "
            f"{SENTINEL_OFFSET:,.0f} that products since 2022 have"
        )
        return Reflectance(SENTINEL_OFFSET, SENTINEL_OFFSET + SENTINEL_ONE, text, sure=False)
    return Reflectance(0.0, SENTINEL_ONE, "counts taken as reflectance times 10,000, without an offset", sure=False)


def reflectance_stretch(found: Reflectance, dtype: np.dtype[Any], one: float, fills: Sequence[float]) -> Stretch:
    """The linear way from counts to reflectance times `one`, a band for each of `fills`, clipped nowhere near.

    Counts of up to 16 bits keep their whole range; others end at reflectance -4 and 12.
    """
    span = found.one - found.zero
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    else:
        low, high = found.zero - 4 * span, found.zero + 12 * span
    ends = [(count - found.zero) / span * one for count in (low, high)]
    return Stretch("reflectance", tuple(BandStretch(low, high, 1.0, ends[0], ends[1], fill) for fill in fills))


def picture_of(stretch: Stretch, one: float | None) -> Callable[[npt.NDArray[Any], npt.NDArray[np.bool_]], Float32]:
    """What brings counts and validity to 0-255 for a picture: the stretch, or reflectance with 0.35 as white."""
    if one is None:
        return stretch.apply
    factor = np.float32(255.0 / (_WHITE * one))
    return lambda counts, valid: np.clip(stretch.apply(counts, valid) * factor, 0.0, 255.0)


def _chosen(choice: str) -> Reflectance:
    given = parse_stretch(choice)
    if given is None:
        raise SceneError("--stretch match is for pictures; this model wants reflectance: give LO,HI or leave it out")
    if not given.bands:
        return Reflectance(0.0, 1.0, "values taken as reflectance on 0-1, as asked")
    band = given.bands[0]
    return Reflectance(band.low, band.high, f"counts {band.low:g} and {band.high:g} are reflectance 0 and 1, as asked")
