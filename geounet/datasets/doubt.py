"""Labels that near infrared contradicts: a car park drawn as grass, mown hay drawn as bare soil."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from geounet.datasets.config import DoubtConfig
from geounet.datasets.labels import IGNORE, LabelCodes
from geounet.errors import TrainingError


def vegetation_index(path: Path, doubt: DoubtConfig) -> npt.NDArray[np.float32]:
    """(near infrared - red) / (near infrared + red) of a GeoTIFF, (rows, columns), 0 where both are 0.

    Raises TrainingError where the file lacks a band.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver="GTiff") as file:
            if max(doubt.red, doubt.near_infrared) > file.count:
                raise TrainingError(
                    f"{path} has {file.count} bands: doubt asks for {doubt.red} and {doubt.near_infrared}"
                )
            red, infrared = file.read([doubt.red, doubt.near_infrared]).astype(np.float32)
    total = red + infrared
    return np.asarray((infrared - red) / np.where(total > 0, total, 1), dtype=np.float32)


def without_doubted(
    labels: npt.NDArray[np.uint8], index: npt.NDArray[Any], doubt: DoubtConfig, codes: LabelCodes
) -> npt.NDArray[np.uint8]:
    """`labels` (rows, columns), ignored where `index` (rows, columns) contradicts them."""
    out = labels.copy()
    for name, limit in doubt.below.items():
        out[(labels == codes.code(name)) & (index < limit)] = IGNORE
    for name, limit in doubt.above.items():
        out[(labels == codes.code(name)) & (index > limit)] = IGNORE
    return out
