"""Coordinate transformations, one a thread and pair of CRS."""

import threading

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer

_local = threading.local()
Geometries = npt.NDArray[np.object_]
Bounds = tuple[float, float, float, float]


def transformer(source: CRS, target: CRS) -> Transformer:
    """A transformer, made once a thread: making one takes longer than a page, and none may change threads."""
    known: dict[tuple[CRS, CRS], Transformer] = _local.__dict__.setdefault("known", {})
    if (source, target) not in known:
        if len(known) > 256:
            known.clear()
        known[source, target] = Transformer.from_crs(source, target, always_xy=True)
    return known[source, target]
