"""From a scene's raw counts to the network's input; training and prediction share every line.

Two steps. `Stretch` brings raw counts of any type onto the 0-255 scale of the training imagery, with the same
numbers for the whole scene. `network_input` turns that scale into what the encoder wants.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geounet.bundle import Normalisation, Quantiles

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

LEVELS = (0.01, 0.02, 0.25, 0.5, 0.75, 0.98, 0.99)
"""Quantile levels a bundle keeps of its training imagery."""
LOW, MIDDLE, HIGH = 0.02, 0.5, 0.98


@dataclass(frozen=True)
class BandStretch:
    """`out_low + (out_high - out_low) * ((x - low) / (high - low)) ** gamma`, clipped to both ends."""

    low: float
    high: float
    gamma: float
    out_low: float
    out_high: float


@dataclass(frozen=True)
class Stretch:
    """One stretch for a whole scene. Without bands, counts are on the 0-255 scale already."""

    method: str
    bands: tuple[BandStretch, ...] = ()

    def apply(self, counts: Array, valid: npt.NDArray[np.bool_]) -> Float32:
        """Raw counts (bands, rows, columns) to float32 on 0-255, same shape.

        Pixels that are not `valid` (rows, columns) become 127, which the encoder sees as zero, so that nothing of
        a nodata value reaches its neighbours.
        """
        if self.bands:
            out = np.stack([_stretched(c, b) for c, b in zip(counts, self.bands, strict=True)])
        else:
            out = counts.astype(np.float32)
        out[:, ~valid] = 127.0
        return np.clip(out, 0.0, 255.0)

    def as_record(self) -> dict[str, Any]:
        """For `summary.json`."""
        return asdict(self)


def fit_stretch(sample: Array, dtype: np.dtype[Any], quantiles: Quantiles | None) -> Stretch:
    """The stretch for a scene from a sample of its valid pixels, shape (bands, pixels).

    8-bit counts are taken as they are. Others have their low, middle and high quantile brought to those of the
    training imagery: a linear stretch alone leaves a scene with one white roof dark.
    """
    if dtype == np.uint8:
        return Stretch("none")
    bands = tuple(_fit_band(band, *_targets(quantiles, index)) for index, band in enumerate(sample))
    return Stretch("match", bands)


def network_input(counts: Array, normalisation: Normalisation) -> Float32:
    """Counts on 0-255, shape (..., bands, rows, columns), to the encoder's input of the same shape."""
    mean = np.asarray(normalisation.mean, dtype=np.float32)[:, None, None]
    std = np.asarray(normalisation.std, dtype=np.float32)[:, None, None]
    return np.asarray((counts - mean) / std, dtype=np.float32)


def _stretched(counts: Array, band: BandStretch) -> Float32:
    share = np.clip((counts.astype(np.float32) - band.low) / (band.high - band.low), 0.0, 1.0)
    out: Float32 = (band.out_low + (band.out_high - band.out_low) * share**band.gamma).astype(np.float32)
    return out


def _targets(quantiles: Quantiles | None, band: int) -> tuple[float, float, float]:
    if quantiles is None:
        return 2.0, 105.0, 250.0
    values = quantiles.values[band]
    low, middle, high = (values[quantiles.levels.index(level)] for level in (LOW, MIDDLE, HIGH))
    return low, middle, high


def _fit_band(sample: Array, out_low: float, out_middle: float, out_high: float) -> BandStretch:
    low, middle, high = (float(q) for q in np.quantile(sample.astype(np.float64), (LOW, MIDDLE, HIGH)))
    if high <= low:
        return BandStretch(low, low + 1.0, 1.0, out_middle, out_middle)
    share = min(max((middle - low) / (high - low), 0.01), 0.99)
    wanted = min(max((out_middle - out_low) / (out_high - out_low), 0.01), 0.99)
    gamma = float(np.clip(np.log(wanted) / np.log(share), 0.25, 4.0))
    return BandStretch(low, high, gamma, out_low, out_high)
