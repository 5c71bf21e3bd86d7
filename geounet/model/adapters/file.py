"""An adapter's numbers on disk: `adapter.safetensors`.

The file holds `bias`, float32 (classes,), and `weight`, float32 (classes, channels of all the base's stages in their
order): what a few 1 x 1 convolutions add to the base's logits (`geounet.model.adapters.layers`).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from geounet.errors import BundleError

Float32 = npt.NDArray[np.float32]

NEW_CLASS = -5.0
"""Logit with which a class that the base does not know begins, against all that it knows: a share of 0.7 %."""


def read_adapter(path: Path, classes: int) -> tuple[Float32, Float32]:
    """(weight, bias) of an adapter's file. Raises BundleError, in one line, where it is none for so many classes."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} is not a readable safetensors file: {error}") from error
    weight, bias = found.get("weight"), found.get("bias")
    if weight is None or bias is None or len(found) != 2:
        raise BundleError(f"{path} is no adapter: it holds {sorted(found)[:4]}, an adapter 'bias' and 'weight'")
    if bias.shape != (classes,) or weight.ndim != 2 or len(weight) != classes:
        raise BundleError(f"{path} does not fit the {classes} classes of model.json: {weight.shape} and {bias.shape}")
    if weight.dtype != np.float32 or bias.dtype != np.float32:
        raise BundleError(f"{path}: an adapter's numbers are float32, these are {weight.dtype} and {bias.dtype}")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise BundleError(f"{path} holds numbers that are not finite: make the adapter again")
    return weight, bias


def write_adapter(path: Path, weight: Float32, bias: Float32) -> None:
    """Write an adapter's file. Raises BundleError where a number is not finite."""
    from safetensors.numpy import save_file

    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise BundleError(f"{path}: an adapter with numbers that are not finite cannot be saved")
    save_file({"bias": np.ascontiguousarray(bias), "weight": np.ascontiguousarray(weight)}, path)
