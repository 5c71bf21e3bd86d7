"""Arrays that may live on disk."""

import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt


def scratch_array(shape: tuple[int, ...], dtype: npt.DTypeLike, *, on_disk: bool) -> npt.NDArray[Any]:
    """An uninitialised array in memory, or mapped to a temporary file that goes with its last reference."""
    if not on_disk:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="geounet-") as file:  # the mapping keeps what it needs of the file
        return np.memmap(file, dtype, "w+", shape=shape)
