"""Painted lakes and seas, for imagery whose labels have only a few ponds.

Water is the class whose looks vary most from place to place - black, blue, green, milky, calm, rough - and the one
that a label set may hold in a few colours only. So ground on one side of a wavy shore becomes water of a drawn colour
with waves of several lengths, and its label follows.
"""

import colorsys

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

Float = npt.NDArray[np.float32]
HUE, SATURATION, VALUE = (50.0, 220.0), (0.0, 0.5), (0.05, 0.7)
"""Ranges of the mean colour: hue in degrees, value drawn evenly in its logarithm, so that dark water is common."""
WAVES = (1, 2, 4, 9)
"""Lengths in pixels."""


def flooded(x: Float, rng: np.random.Generator) -> tuple[Float, npt.NDArray[np.bool_]]:
    """An image (bands, h, w; red, green, blue first, on 0-255) with a painted lake, and where it lies (h, w)."""
    ground = _beyond_a_shore(x.shape[1:], rng)
    ripples = sum(_noise(ground.shape, length, rng) * rng.uniform(0, 6) for length in WAVES)
    depth = _noise(ground.shape, 90, rng) * rng.uniform(0, 10)
    water = _colour(rng)[:, None, None] + (ripples * rng.uniform(0.3, 1.5) + depth)[None]
    cover = F.avg_pool2d(torch.from_numpy(ground[None].astype(np.float32)), 3, 1, 1, count_include_pad=False).numpy()
    out = x.astype(np.float32)
    out[:3] = np.clip(out[:3] + cover * (water - out[:3]), 0, 255)
    return out, ground


def _beyond_a_shore(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """From two fifths of the image to all of it, on one side of a line that bends by 15 pixels or so."""
    h, w = shape
    rows, cols = np.mgrid[0:h, 0:w].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = (rows - h / 2) * np.cos(angle) + (cols - w / 2) * np.sin(angle) + rng.uniform(-0.2, 1.2) * h / 2
    return np.asarray(along + 15 * _noise(shape, 48, rng) > 0)


def _colour(rng: np.random.Generator) -> Float:
    hue, saturation = rng.uniform(*HUE) / 360, rng.uniform(*SATURATION)
    value = float(np.exp(rng.uniform(*np.log(VALUE))))
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32) * 255


def _noise(shape: tuple[int, ...], length: int, rng: np.random.Generator) -> Float:
    """Smooth noise of about unit size that varies over `length` pixels, shape (h, w)."""
    knots = tuple(side // length + 2 for side in shape)
    drawn = torch.from_numpy(rng.standard_normal((1, 1, *knots), dtype=np.float32))
    return F.interpolate(drawn, size=tuple(shape), mode="bicubic", align_corners=False)[0, 0].numpy()
