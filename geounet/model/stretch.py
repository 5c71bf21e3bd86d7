"""From a scene's raw counts to the network's input; training and prediction share every line.

Two steps. `Stretch` brings raw counts of any type onto the 0-255 scale of the training imagery, with the same
numbers for the whole scene. `network_input` turns that scale into what the encoder wants.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from geounet.model.bundle import Normalisation, Quantiles
from geounet.options import read_stretch
from tiles.errors import SceneError

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

LEVELS = (0.01, 0.02, 0.25, 0.5, 0.75, 0.98, 0.99)
"""Quantile levels a bundle keeps of its training imagery."""
LOW, MIDDLE, HIGH = 0.02, 0.5, 0.98
GAMMA_LIMITS = (0.25, 4.0)
INVALID = 127.0
"""What invalid pixels are filled with: the middle of the scale, which the encoder sees as next to nothing."""

_FILL_SHARE = 0.01
_FILL_SHARE_8_BIT = 0.1
"""Black water and white roofs do reach the ends of 8 bits."""


@dataclass(frozen=True)
class BandStretch:
    """`out_low + (out_high - out_low) * ((x - low) / (high - low)) ** gamma`, clipped to both ends.

    Pixels that are not valid become `invalid`, which the network should see as next to nothing.
    """

    low: float
    high: float
    gamma: float
    out_low: float
    out_high: float
    invalid: float = INVALID

    def as_record(self) -> dict[str, float]:
        """For `summary.json`."""
        record = asdict(self)
        if self.invalid == INVALID:
            del record["invalid"]
        return record


@dataclass(frozen=True)
class Stretch:
    """One stretch for a whole scene; `method` is `none`, `linear`, `match` or `reflectance`.

    Without bands, counts are on the 0-255 scale already. `reflectance` leads to the scale of a model that knows
    reflectance, not to 0-255.
    """

    method: str
    bands: tuple[BandStretch, ...] = ()

    def apply(self, counts: Array, valid: npt.NDArray[np.bool_]) -> Float32:
        """Raw counts (bands, rows, columns) to float32 on 0-255, same shape.

        Pixels that are not `valid` (rows, columns) become 127, which the encoder sees as zero, so that nothing of
        a nodata value reaches its neighbours; on the scale of reflectance, the model's own mean.
        """
        out = np.empty(counts.shape, dtype=np.float32)
        for index, band in enumerate(counts):
            _stretch_band(band, self.bands[index] if self.bands else None, out[index])
        if not valid.all():
            for plane, fill in zip(out, self.fills(len(out)), strict=True):
                plane[~valid] = fill
        return out

    def fills(self, bands: int) -> tuple[float, ...]:
        """What pixels that are not valid become, a number a band."""
        return tuple(band.invalid for band in self.bands) if self.bands else (INVALID,) * bands

    def tables(self, dtype: npt.DTypeLike) -> Float32:
        """`apply` for every count of a type of up to 16 bits, by its bits as a number: (bands, counts).

        One row stands for all bands where they share it.
        """
        return np.stack([_table(np.dtype(dtype), band) for band in self.bands or (None,)])

    def as_record(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {"method": self.method, "bands": [band.as_record() for band in self.bands]}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Stretch":
        """Inverse of `as_record`."""
        return cls(str(record["method"]), tuple(BandStretch(**band) for band in record["bands"]))


def fit_stretch(sample: Array, dtype: npt.DTypeLike, quantiles: Quantiles | None, choice: str | None = None) -> Stretch:
    """The stretch for a scene from a sample of its valid pixels, shape (bands, pixels).

    8-bit counts are taken as they are. Others have their low, middle and high quantile brought to those of the
    training imagery: a linear stretch alone leaves a scene with one white roof dark. Pixels that hold a fill value
    (see `fill_value`) stay out of the quantiles.

    `choice` overrides that, for all bands alike: `none` (counts are on 0-255), `match` (quantiles, for 8-bit counts
    too) or `LO,HI` (linear, in counts as stored). Raises SceneError where it is none of these.
    """
    if choice is not None and (given := parse_stretch(choice)) is not None:
        return Stretch(given.method, given.bands * len(sample))
    if choice is None and np.dtype(dtype) == np.uint8:
        return Stretch("none")
    fill = fill_value(sample)
    light = sample if fill is None else sample[:, ~(sample == fill).all(axis=0)]
    if light.shape[1] == 0:
        return Stretch("none")
    bands = tuple(_fit_band(band, *_targets(quantiles, index)) for index, band in enumerate(light))
    return Stretch("match", bands)


def parse_stretch(text: str) -> Stretch | None:
    """`none` or `LO,HI` as a stretch with one band at most; None for `match`, which needs a scene.

    Raises SceneError for anything else.
    """
    try:
        word = read_stretch(text)
    except ValueError as error:
        raise SceneError(f"--stretch {error}") from error
    if word in (None, "match"):
        return None
    if word == "none":
        return Stretch("none")
    low, high = (float(part) for part in str(word).split(","))
    return Stretch("linear", (BandStretch(low, high, 1.0, 0.0, 255.0),))


def fill_value(sample: Array) -> float | None:
    """A value that looks like undeclared nodata in a sample (bands, pixels) of valid pixels; None without one.

    At least 1 % of the pixels (10 % where counts have 8 bits) hold it in all bands at once, and it is 0 with fewer
    pixels just above it (clipped shadows have many), or the smallest or largest value with a gap to the others of
    more than twice their spread.
    Never decided silently: the pre-flight tells.
    """
    if sample.shape[1] == 0 or sample.shape[0] < 2:
        return None
    same = sample[0][(sample == sample[0]).all(axis=0)]
    for value in (0.0, float(sample.min()), float(sample.max())):
        share = float(np.mean(same == value)) * same.size / sample.shape[1] if same.size else 0.0
        if share < (_FILL_SHARE_8_BIT if sample.dtype == np.uint8 else _FILL_SHARE):
            continue
        rest = sample[:, (sample != value).any(axis=0)]
        if _stands_apart(value, rest) or (value == 0.0 and _share_near_zero(sample, rest) < share):
            return value
    return None


def network_input(counts: Array, normalisation: Normalisation) -> Float32:
    """Counts on 0-255, shape (..., bands, rows, columns), to the encoder's input of the same shape."""
    mean = np.asarray(normalisation.mean, dtype=np.float32)[:, None, None]
    std = np.asarray(normalisation.std, dtype=np.float32)[:, None, None]
    return np.asarray((counts - mean) / std, dtype=np.float32)


def quantiles_at(quantiles: Quantiles, band: int, levels: Iterable[float]) -> tuple[float, ...]:
    """A bundle's quantiles of one band at any levels, interpolated between those it keeps."""
    return tuple(float(v) for v in np.interp(list(levels), quantiles.levels, quantiles.values[band]))


def _stretch_band(counts: Array, band: BandStretch | None, out: Float32) -> None:
    """One band to 0-255 in place: by table for up to 16 bits, else by the formula."""
    if band is None and counts.dtype == np.uint8:
        out[:] = counts
    elif counts.dtype.kind in "iu" and counts.dtype.itemsize <= 2:
        unsigned = np.dtype(f"u{counts.dtype.itemsize}")
        np.take(_table(counts.dtype, band), counts.view(unsigned), out=out, mode="clip")
    else:
        _formula(counts, band, out)


@lru_cache(maxsize=64)
def _table(dtype: np.dtype[Any], band: BandStretch | None) -> Float32:
    """The stretched value of every count of a type, in the order of the counts' bit patterns."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    counts = np.arange(1 << 8 * dtype.itemsize, dtype=np.uint32).astype(unsigned).view(dtype)
    out = np.empty(counts.shape, dtype=np.float32)
    _formula(counts, band, out)
    return out


def _formula(counts: Array, band: BandStretch | None, out: Float32) -> None:
    if band is None:
        out[:] = np.clip(counts, 0, 255)
        return
    # In double precision up to here: 32-bit counts with a large offset would lose their differences.
    out[:] = np.clip((counts.astype(np.float64) - band.low) / (band.high - band.low), 0.0, 1.0)
    if band.gamma != 1.0:
        np.power(out, np.float32(band.gamma), out=out)
    out *= np.float32(band.out_high - band.out_low)
    out += np.float32(band.out_low)


def _share_near_zero(sample: Array, rest: Array) -> float:
    """Share of the pixels that are not 0 but next to it in every band: within 3 % of the brighter ones' level."""
    if rest.shape[1] == 0:
        return 0.0
    counts = np.abs(rest.astype(np.float64))
    near = (counts <= 0.03 * np.quantile(counts, HIGH)).all(axis=0)
    return float(np.count_nonzero(near)) / float(sample.shape[1])


def _stands_apart(value: float, rest: Array) -> bool:
    if rest.shape[1] == 0:
        return False
    low, high = (float(q) for q in np.quantile(rest.astype(np.float64), (LOW, HIGH)))
    return bool(min(abs(value - low), abs(value - high)) > 2.0 * (high - low))


def _targets(quantiles: Quantiles | None, band: int) -> tuple[float, float, float]:
    if quantiles is None:
        return 2.0, 105.0, 250.0
    low, middle, high = quantiles_at(quantiles, band, (LOW, MIDDLE, HIGH))
    return low, middle, high


def _fit_band(sample: Array, out_low: float, out_middle: float, out_high: float) -> BandStretch:
    low, middle, high = (float(q) for q in np.quantile(sample.astype(np.float64), (LOW, MIDDLE, HIGH)))
    if high <= low:
        return BandStretch(low, low + 1.0, 1.0, out_middle, out_middle)
    share = min(max((middle - low) / (high - low), 0.01), 0.99)
    wanted = min(max((out_middle - out_low) / (out_high - out_low), 0.01), 0.99)
    gamma = float(np.clip(np.log(wanted) / np.log(share), *GAMMA_LIMITS))
    return BandStretch(low, high, gamma, out_low, out_high)
