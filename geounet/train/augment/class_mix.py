"""ClassMix (Olsson et al. 2021) with labels: some classes of one crop are pasted onto another, pixels and labels.

Made for imagery that lies far apart: a roof of one place comes to stand among the streets of another, so the network
cannot tell a class by the place around it, and a place whose labels say little gets classes that it has no labels of.
"""

import numpy as np
import torch
from torch import Tensor


def class_mixed(
    images: Tensor, codes: Tensor, share: float, classes: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """`share` of the crops (n, bands, h, w) and their label codes (n, h, w) with parts of another crop of the batch.

    Pasted is half of the classes of the other crop (rounded down, but at least one), drawn anew each time; codes above
    `classes` (either-or) and ignored pixels stay where they are. Pasting is from the crops as given, never from a mix.
    What is pasted counts in the loss with the `label_weight` of the source that it lands on.
    """
    mixed_images, mixed_codes = images.clone(), codes.clone()
    for index in range(len(images)):
        if rng.random() >= share:
            continue
        other = int(rng.integers(len(images)))
        if other == index:
            continue
        present = [c for c in torch.unique(codes[other]).tolist() if 0 < c <= classes]
        pasted = rng.permutation(present)[: max(1, len(present) // 2)]
        part = torch.isin(codes[other], torch.tensor(pasted, dtype=codes.dtype))
        mixed_images[index] = torch.where(part, images[other], images[index])
        mixed_codes[index] = torch.where(part, codes[other], codes[index])
    return mixed_images, mixed_codes
