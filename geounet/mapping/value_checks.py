"""Do a scene's values look like the imagery a model was trained on?

Thresholds were set so that none of 549 tiles (Ohio, California, Dubai, Nepal; most 150 m across) raises a warning as it
is; a whole scene varies less than a tile. No warning is no proof: `docs/input.md` tells what is missed.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from geounet.model.bundle import Quantiles
from geounet.model.stretch import GAMMA_LIMITS, Stretch, fill_value, quantiles_at
from geounet.outputs.check import Check
from tiles.scene.validity import shown_values

Array = npt.NDArray[Any]
Table = npt.NDArray[np.float64]

_LEVELS = (0.02, 0.25, 0.5, 0.75, 0.98)
_FEWEST = 256
_SWAP_MARGIN = 4.5
_OFFSET_FLOOR = 900.0
_VISIBLE = ("red", "green", "blue")


def check_values(
    sample: Array, dtype: np.dtype[Any], bands: Sequence[str], stretch: Stretch, quantiles: Quantiles | None
) -> list[Check]:
    """What is to say about valid pixels (bands, n) of type `dtype`, as they are and as the stretch leaves them.

    Tells how values reach the 0-255 scale, then what is suspicious: an undeclared fill value, a constant offset,
    values much darker, brighter or flatter than the training imagery, and bands that look swapped.
    """
    if sample.shape[1] == 0:
        return []
    found = [_path(dtype, stretch)]
    fill = fill_value(sample)
    light = sample if fill is None else sample[:, ~(sample == fill).all(axis=0)]
    if fill is not None:
        found.append(undeclared_fill(sample, fill))
    if light.shape[1] < _FEWEST:
        return found
    raw = np.quantile(light.astype(np.float64), _LEVELS, axis=1).T
    found += _offset(light, raw, stretch)
    found += _flat(bands, raw)
    if quantiles is not None:
        found += _distribution(_scaled(light, stretch), bands, quantiles, stretch)
    if set(_VISIBLE) <= set(bands):
        order = [list(bands).index(name) for name in _VISIBLE]
        found += _swapped(raw[order], dtype, quantiles, order)
    return found


def _path(dtype: np.dtype[Any], stretch: Stretch) -> Check:
    if stretch.method == "match":
        text = f"{dtype} counts, low, middle and high quantile of each band matched to the training imagery"
        return Check("values", "adjusted", text)
    if stretch.method == "linear":
        band = stretch.bands[0]
        return Check("values", "adjusted", f"{dtype} counts, {band.low:g} to {band.high:g} brought to 0-255 as asked")
    return Check("values", "ok", f"{dtype} counts taken as they are, on 0-255")


def undeclared_fill(sample: Array, fill: float) -> Check:
    """A warning of pixels that hold one number in every band; see `geounet.model.stretch.fill_value`."""
    share = float(np.mean((sample == fill).all(axis=0)))
    text = f"{share:.0%} of the pixels are {fill:g} in every band, yet the file does not call them nodata"
    return Check("values", "warning", text, f"if they are empty: --nodata {shown_values([fill])}")


def _offset(sample: Array, raw: Table, stretch: Stretch) -> list[Check]:
    """A constant that was added to all bands, as to Sentinel-2 products since 2022 (+1000)."""
    floors = np.quantile(sample.astype(np.float64), 0.001, axis=1)
    if floors.min() < _OFFSET_FLOOR or np.ptp(floors) > 0.35 * floors.min() or floors.min() < 0.1 * np.ptp(raw):
        return []
    text = f"counts begin at about {floors.min():,.0f} in every band: an offset was added to them"
    if stretch.method == "match":
        return [Check("values", "adjusted", text + ", the match takes it away again")]
    low = stretch.bands[0].low if stretch.bands else 0.0
    if low >= 0.8 * floors.min():
        return []
    return [Check("values", "warning", text, f"leave --stretch out, or begin it at {floors.min():.0f}")]


def _scaled(sample: Array, stretch: Stretch) -> Table:
    """Quantiles (bands, levels) on the 0-255 scale."""
    image = np.ascontiguousarray(sample[:, None, :])
    counts = stretch.apply(image, np.ones(image.shape[1:], dtype=bool))[:, 0]
    return np.asarray(np.quantile(counts, _LEVELS, axis=1).T, dtype=np.float64)


def _distribution(scaled: Table, bands: Sequence[str], quantiles: Quantiles, stretch: Stretch) -> list[Check]:
    trained = np.array([quantiles_at(quantiles, index, _LEVELS) for index in range(len(bands))])
    middle, usual = (", ".join(f"{v:.0f}" for v in table[:, 2]) for table in (scaled, trained))
    remedy = "look at the scene for clouds, fill values or a wrong band"
    if stretch.method != "match":
        remedy = "look at the scene; --stretch match brings its values to those of the training imagery"
    if (scaled[:, 4] < trained[:, 1]).all():
        text = f"much darker than the training imagery: middle {middle} of 255, usual {usual}"
        return [Check("distribution", "warning", text, remedy)]
    if (scaled[:, 0] > trained[:, 3]).all():
        text = f"much brighter than the training imagery: middle {middle} of 255, usual {usual}"
        return [Check("distribution", "warning", text, remedy)]
    if (scaled[:, 4] - scaled[:, 0] < 0.12 * (trained[:, 4] - trained[:, 0])).all():
        return [Check("distribution", "warning", f"next to no contrast: middle {middle} of 255", remedy)]
    bent = [b.gamma for b in stretch.bands if b.gamma in GAMMA_LIMITS]
    if bent:
        text = "the values pile up at one end: matching them to the training imagery reached its limit"
        return [Check("distribution", "warning", text, remedy)]
    return [Check("distribution", "ok", f"middle of each band {middle} of 255, in training {usual}")]


def _flat(bands: Sequence[str], raw: Table) -> list[Check]:
    flat = [name for name, row in zip(bands, raw, strict=True) if row[0] == row[-1]]
    if len(flat) in (0, len(bands)):  # all flat: that is no contrast, and told as such
        return []
    return [Check("distribution", "warning", f"{', '.join(flat)}: one value nearly everywhere", "check the band")]


def _swapped(raw: Table, dtype: np.dtype[Any], quantiles: Quantiles | None, order: Sequence[int]) -> list[Check]:
    """Red, green, blue in another order, judged by quantiles (3, levels) of the counts as stored.

    Air and shadow are blue: the darkest pixels hold more blue than red, and red has the wider range. On 8-bit
    imagery, colour-balanced by its maker, the middle must agree and the trained quantiles may speak too.
    """
    red, blue = raw[0], raw[2]
    ranges = red[4] - red[0], blue[4] - blue[0]
    text = ""
    if dtype == np.uint8:
        if blue[2] - red[2] > 8 and red[0] - blue[0] > 3 and ranges[1] > 1.05 * ranges[0]:
            text = "red and blue look swapped"
        elif quantiles is not None:
            best = _best_order(raw, quantiles, order)
            text = f"the bands look like {', '.join(_VISIBLE[i] for i in best)}" if best else ""
            if best == (2, 1, 0):
                text = "red and blue look swapped"
    elif red[0] - blue[0] > 0.05 * ranges[0] and ranges[1] > 1.15 * ranges[0]:
        text = "red and blue look swapped"
    if not text:
        return []
    return [Check("colours", "warning", text, "check the order, and give it with --bands red=N,green=N,blue=N")]


def _best_order(raw: Table, quantiles: Quantiles, order: Sequence[int]) -> tuple[int, ...] | None:
    """What the bands called red, green, blue really are, where another order fits clearly better."""
    trained = np.array([quantiles_at(quantiles, index, _LEVELS) for index in order])
    misfit = {p: float(np.abs(raw - trained[list(p)]).mean()) for p in permutations(range(3))}
    best = min(misfit, key=lambda p: misfit[p])
    return best if misfit[0, 1, 2] - misfit[best] > _SWAP_MARGIN else None
