"""The module of functions that belongs to an array: NumPy's, torch's, or any that speaks the array API.

So blending runs where the scores are, on a GPU too, and this package imports no torch. The same idea as
`array_api_compat.array_namespace`, for the handful of calls in which NumPy and torch agree.
"""

import sys
from typing import Any

import numpy as np


def namespace(array: Any) -> Any:
    """The module whose functions take `array`; torch's own for a tensor, which does not name it itself."""
    if isinstance(array, np.ndarray):
        return np
    named = getattr(array, "__array_namespace__", None)
    return named() if named is not None else sys.modules[type(array).__module__.partition(".")[0]]
