"""Which pixels of a scene hold data.

One answer a pixel for the whole scene, in the order of rasterio's `dataset_mask`: an internal or `.msk` mask, else an
alpha band, else the nodata value (a pixel is valid where any band of the file has data), else all. Two rules are added,
because a network needs a number in every band it reads: NaN and infinity are never valid, and neither is a nodata
value that no sensor measures (negative, or beyond 16 bits), even in one band.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp, MaskFlags

from tiles.errors import SceneError
from tiles.scene.notice import Notice

_SIX_DIGITS = 5e-6
"""How far a number is moved, at most, by writing it with six digits."""

Counts = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Validity:
    """How valid pixels are told: `mask`, `alpha` (a band number), `nodata` (a value a band of the file) or `all`.

    `chosen` are values that the user calls nodata, in place of the file's; masks and alpha count beside them. A pixel
    is not valid where every wanted band holds one of them, or any band one that no sensor measures.
    """

    kind: str
    alpha: int | None = None
    nodata: tuple[float | None, ...] = ()
    text: str = ""
    chosen: tuple[float, ...] = ()


def is_mask_band(values: Counts) -> tuple[bool, float]:
    """Whether a band tagged alpha is a mask, and the share of its non-zero values that lie between the ends.

    A mask is 0 and a maximum; soft edges and lossy compression put a few values between. Near infrared that is
    tagged alpha holds almost nothing else.
    """
    top = float(values.max(initial=0))
    if top <= 0:
        return True, 0.0
    seen = values[values > 0.02 * top]
    between = float(np.mean(seen < 0.98 * top))
    return between < 0.5, between


def decide(
    dataset: Any,
    alpha_sample: Counts | None,
    kept: Sequence[int] = (),
    chosen: Sequence[float] = (),
    declared: str | None = None,
) -> tuple[Validity, tuple[Notice, ...]]:
    """How validity is told in a dataset, and what to say about it.

    `chosen` are the user's nodata values, `declared` is what the file's nodata tag says, word for word.
    `alpha_sample` holds values of the band tagged alpha, if there is one; `kept` are band numbers that are
    measurements whatever their tag says, because the user or a description named them.
    """
    asked = f"nodata value {shown_values(chosen)}, as asked" if chosen else ""
    if has_mask(dataset):
        text = "a mask in or beside the file" + (f", and {asked}" if asked else "")
        return Validity("mask", text=text, chosen=tuple(chosen)), ()
    notices: tuple[Notice, ...] = ()
    alpha = alpha_band(dataset)
    if alpha is not None and alpha_sample is not None:
        mask, between = is_mask_band(alpha_sample)
        if alpha in kept:
            notices = (Notice("adjusted", "validity", f"band {alpha} is tagged alpha but was named: no mask"),)
        elif mask:
            soft = (Notice("ok", "validity", f"{between:.1%} of band {alpha} is half transparent and counts as valid"),)
            text = f"alpha, band {alpha}" + (f", and {asked}" if asked else "")
            return Validity("alpha", alpha, text=text, chosen=tuple(chosen)), soft if between > 0.001 else ()
        else:
            text = (
                f"band {alpha} is tagged alpha, but {between:.0%} of it lies between 0 and its maximum: "
                "taken as a measurement (near infrared is often tagged so), not as a mask"
            )
            notices = (Notice("adjusted", "validity", text),)
    if chosen:
        return Validity("all", text=asked, chosen=tuple(chosen)), notices
    nodata = tuple(dataset.nodatavals)
    if declared and not any(_possible(value, dataset.dtypes[0]) for value in nodata if value is not None):
        text = (
            f"its nodata value {declared} is none that {dataset.dtypes[0]} counts can hold, so it marks nothing: "
            "where empty pixels hold another value, give that with --nodata VALUE"
        )
        notices = (*notices, Notice("warning", "nodata", text))
    if any(value is not None for value in nodata):
        shown = ", ".join(sorted({f"{value:g}" for value in nodata if value is not None}))
        return Validity("nodata", nodata=nodata, text=f"nodata value {shown}"), notices
    return Validity("all", text="no nodata value, alpha band or mask"), notices


def shown_values(values: Sequence[float]) -> str:
    """Numbers as they are given on the command line, to the last digit."""
    return ",".join(repr(int(v)) if float(v).is_integer() and abs(v) < 1e15 else repr(float(v)) for v in values)


def refuse_impossible(chosen: Sequence[float], dtype: str, path: str) -> None:
    """Raise SceneError for a chosen nodata value that counts of this type cannot hold: it would change nothing."""
    for value in chosen:
        if not _possible(value, dtype):
            reach = f"{dtype} from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
            raise SceneError(f"{path}: --nodata {shown_values([value])} is none of its counts, {reach}")


def _possible(value: float, dtype: str) -> bool:
    """Whether counts of a type can hold a value."""
    if np.dtype(dtype).kind == "f":
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and bool(limits.min <= value <= limits.max)


def has_mask(dataset: Any) -> bool:
    """Whether a dataset has an internal or `.msk` mask."""
    return any(MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags for flags in dataset.mask_flag_enums)


def alpha_band(dataset: Any) -> int | None:
    """Number of the band tagged alpha, None without one."""
    return next((i for i, colour in enumerate(dataset.colorinterp, 1) if colour == ColorInterp.alpha), None)


def holds(values: Counts, nodata: float | None) -> Mask:
    """Where an array holds the nodata value: NaN as NaN, floats to two units in the last place as GDAL does.

    A value that no sensor measures is recognised where it was written with six digits only, as -3.40282e+38, or for a
    wider type.
    """
    if nodata is None:
        return np.zeros(values.shape, dtype=bool)
    if np.isnan(nodata):
        return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)
    if values.dtype.kind != "f":
        if not _possible(nodata, str(values.dtype)):
            return np.zeros(values.shape, dtype=bool)
        return np.asarray(values == values.dtype.type(int(nodata)))
    with np.errstate(over="ignore"):
        centre = values.dtype.type(nodata)
    if np.isinf(centre) and np.isfinite(nodata):
        centre = np.copysign(np.finfo(values.dtype).max, centre)
    if np.isinf(centre):
        return np.asarray(values == centre)
    reach = 4 * np.spacing(np.abs(centre) / 2)  # two units, without leaving the type at its very end
    if not measurable(nodata, values.dtype):
        reach = max(reach, values.dtype.type(_SIX_DIGITS) * np.abs(centre))
    with np.errstate(over="ignore"):
        return np.asarray((values >= centre - reach) & (values <= centre + reach))


def measurable(nodata: float | None, dtype: np.dtype[Any]) -> bool:
    """Whether a nodata value could also be a real count, so that one band may hold it in a valid pixel."""
    if nodata is None or dtype.kind == "u":
        return True
    return bool(0 <= nodata <= 65535)


def finite(values: Counts) -> Mask:
    """Pixels (rows, columns) whose value is finite in every band of (bands, rows, columns)."""
    if values.dtype.kind != "f":
        return np.ones(values.shape[1:], dtype=bool)
    return np.asarray(np.isfinite(values).all(axis=0))
