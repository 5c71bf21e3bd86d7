"""A class in a colour that no training image shows it in: a field in flower, a milky river.

What a network has seen in one colour only it knows by that colour. The ground of one class takes on another one, its
light and dark kept, so that texture, shape and surroundings have to say what it is.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from geounet.train.config import RecolourConfig

Float = npt.NDArray[np.float32]
LEAST = 0.05
"""Share of a crop that the class must cover: a flowering field is large, a tuft of grass stays what it is."""


def recoloured(x: Float, ground: npt.NDArray[np.bool_], recolour: RecolourConfig, rng: np.random.Generator) -> Float:
    """`x` (bands, h, w; red, green, blue first, on 0-255) with one of the colours on `ground` (h, w), borders soft.

    Unchanged where `ground` covers less than `LEAST` of the crop.
    """
    if ground.mean() < LEAST:
        return x
    colour = np.array(recolour.colours[int(rng.integers(len(recolour.colours)))], dtype=np.float32)
    colour = colour * np.float32(rng.uniform(0.75, 1.15)) + rng.uniform(-15, 15, 3).astype(np.float32)
    light = x[:3].mean(axis=0)
    relief = (light - light[ground].mean()) * np.float32(rng.uniform(0.4, 1.0))
    cover = F.avg_pool2d(torch.from_numpy(ground[None].astype(np.float32)), 3, 1, 1, count_include_pad=False).numpy()
    amount = cover * np.float32(rng.uniform(0.7, 1.0))
    out = x.astype(np.float32)
    out[:3] = np.clip(out[:3] + amount * (colour[:, None, None] + relief[None] - out[:3]), 0, 255)
    return out
