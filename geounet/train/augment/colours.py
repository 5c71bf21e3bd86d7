"""Colour, weather and sensor: what the same ground may look like.

Our own array operations rather than a library: everything that changes a band's counts one by one (histogram
transfer, gamma, contrast, tint, haze) is composed into one table of 256 entries and applied once, any number of bands
works, and shadows and transfer between images are in no library in the form needed here. Geometry (turns, scale,
crops) is in `sampler.py`, painted lakes are in `flood.py`, classes pasted from crop to crop in `class_mix.py`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geounet.train.augment.class_mix import class_mixed
from geounet.train.augment.flood import flooded
from geounet.train.augment.recolour import recoloured
from geounet.train.config import AugmentConfig
from geounet.train.sampler import CropSampler

Float = npt.NDArray[np.float32]
LEVELS = np.linspace(0, 1, 17)
BLANK = 127.0
"""What dropped rectangles hold, as nodata does in prediction."""


class Augmenter:
    """Varies batches; every draw depends on the seed and the step alone."""

    def __init__(self, config: AugmentConfig, sampler: CropSampler, seed: int) -> None:
        self.config, self.sampler, self.seed = config, sampler, seed

    def __call__(self, images: Tensor, codes: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Images (n, bands, h, w) on 0-255, varied, same shape and scale, float32, and their label codes (n, h, w)."""
        rng = np.random.default_rng((self.seed, step, 1))
        if self.config.class_mix:
            classes, drawn = len(self.sampler.names), np.random.default_rng((self.seed, step, 3))
            images, codes = class_mixed(images, codes, self.config.class_mix, classes, drawn)
        if self.config.flood:
            images, codes = self._flooded(images.clone(), codes.clone(), step)
        if self.config.recolour:
            images = self._recoloured(images.clone(), codes, step)
        return torch.from_numpy(np.stack([self._one(image.numpy(), rng) for image in images])), codes

    def _recoloured(self, images: Tensor, codes: Tensor, step: int) -> Tensor:
        rng = np.random.default_rng((self.seed, step, 4))
        for image, code in zip(images, codes, strict=True):
            for recolour in self.config.recolour:
                if rng.random() < recolour.share:
                    ground = (code == self.sampler.names.index(recolour.land) + 1).numpy()
                    image.copy_(torch.from_numpy(recoloured(image.numpy(), ground, recolour, rng)))
        return images

    def _flooded(self, images: Tensor, codes: Tensor, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, step, 2))
        for image, code in zip(images, codes, strict=True):
            if rng.random() < self.config.flood:
                painted, ground = flooded(image.numpy(), rng)
                image.copy_(torch.from_numpy(painted))
                code[torch.from_numpy(ground)] = self.sampler.names.index(self.config.flood_class) + 1
        return images, codes

    def _one(self, image: npt.NDArray[Any], rng: np.random.Generator) -> Float:
        c = self.config
        if rng.random() >= c.share:
            return np.asarray(np.rint(image), dtype=np.float32)
        other = self.sampler.any_image(rng).numpy() if rng.random() < c.transfer else None
        counts = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        x = np.stack([np.take(t, b) for t, b in zip(tables(counts, other, c, rng), counts, strict=True)])
        if x.shape[0] >= 3 and c.saturation:
            grey = x.mean(axis=0)
            x = grey + (x - grey) * np.float32(max(0.0, 1 + rng.uniform(-c.saturation, c.saturation)))
        if rng.random() < c.shadow:
            x = shaded(x, rng)
        if rng.random() < c.blur:
            x = blurred(x, float(rng.uniform(0.4, 1.6)))
        if rng.random() < c.noise:
            x += rng.standard_normal(x.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 9.0))
        x = np.rint(np.clip(x, 0, 255))
        return dropped(x, rng) if rng.random() < c.dropout else x


def tables(
    counts: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8] | None, c: AugmentConfig, rng: np.random.Generator
) -> list[Float]:
    """For each band of `counts` (bands, h, w) a table of 256 new counts, float32 on 0-255.

    In this order: the histogram moved by 30-100 % towards that of the image `other`; gamma (log of the exponent
    within +-`gamma`, each band within a quarter of it besides); contrast (log of the factor about the mean within
    +-`contrast`); brightness and a tint a band, in counts; haze, a share of a bright, slightly tinted grey.
    """
    amount = float(rng.uniform(0.3, 1.0))
    gamma, factor = rng.uniform(-c.gamma, c.gamma), np.exp(rng.uniform(-c.contrast, c.contrast))
    shift = rng.uniform(-c.brightness, c.brightness)
    clear = float(rng.uniform(0.5, 0.95)) if rng.random() < c.haze else 1.0
    air, mean, out = rng.uniform(120, 235), float(counts.mean()), []
    for index, band in enumerate(counts):
        table = np.arange(256.0)
        if other is not None:
            table += (_matched(band, other[index]) - table) * amount
        table = 255 * np.clip(table / 255, 0, 1) ** np.exp(gamma + rng.uniform(-c.gamma, c.gamma) / 4)
        table = (table - mean) * factor + mean + shift + rng.uniform(-c.band_shift, c.band_shift)
        table = np.clip(table, 0, 255) * clear + (air + rng.uniform(-12, 12)) * (1 - clear)
        out.append(np.clip(table, 0, 255).astype(np.float32))
    return out


def _matched(band: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    have = np.quantile(band.ravel()[::31], LEVELS)
    want = np.quantile(target.ravel()[:: max(1, target.size // 2048)], LEVELS)
    steps = np.arange(len(have)) * 1e-6  # np.interp wants rising positions
    return np.interp(np.arange(256), have + steps, want)


def shaded(x: Float, rng: np.random.Generator) -> Float:
    """Soft-edged rectangles and stripes in shadow, bluish as skylight is: a shadow is no water."""
    bands, h, w = x.shape
    rows, cols = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None, :]
    light = np.ones((h, w), dtype=np.float32)
    for _ in range(int(rng.integers(1, 7))):
        angle, r, c = (float(v) for v in (rng.uniform(0, np.pi), rng.uniform(0, h), rng.uniform(0, w)))
        along = np.abs((rows - r) * np.float32(np.cos(angle)) + (cols - c) * np.float32(np.sin(angle)))
        across = np.abs((cols - c) * np.float32(np.cos(angle)) - (rows - r) * np.float32(np.sin(angle)))
        inside = np.minimum(np.float32(rng.uniform(4, h / 5)) - along, np.float32(rng.uniform(3, h / 10)) - across)
        light = np.minimum(light, 1 - np.float32(rng.uniform(0.3, 0.8)) * np.clip(inside + 0.5, 0, 1))
    depth = np.linspace(1.0, 0.85, bands, dtype=np.float32)[:, None, None]
    return x * (1 - (1 - light)[None] * depth)


def blurred(x: Float, sigma: float) -> Float:
    """Gaussian blur of `sigma` pixels, the image mirrored at its edges."""
    radius = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (1, 2):
        length = x.shape[axis]
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(x, pad, mode="reflect")
        x = np.zeros_like(x)
        for offset, weight in enumerate(kernel):
            x += weight * (wide[:, offset : offset + length] if axis == 1 else wide[:, :, offset : offset + length])
    return x


def dropped(x: Float, rng: np.random.Generator) -> Float:
    """One to four rectangles without a picture."""
    _, h, w = x.shape
    for _ in range(int(rng.integers(1, 5))):
        rows, cols = int(rng.integers(4, max(5, h // 5))), int(rng.integers(4, max(5, w // 5)))
        top, left = int(rng.integers(max(1, h - rows))), int(rng.integers(max(1, w - cols)))
        x[:, top : top + rows, left : left + cols] = BLANK
    return x
