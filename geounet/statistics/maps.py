"""A map as statistics read it: a map's folder, or any raster of classes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geounet.errors import StatisticsError
from geounet.outputs.files import CLASSES, CONFIDENCE, SUMMARY
from tiles.rasters.read import Categorical, open_categorical


@contextmanager
def open_map(path: Path) -> Iterator[Categorical]:
    """The class raster of a map's folder, with its confidence where it has one, or of a GeoTIFF of classes.

    Raises StatisticsError where there is neither, SceneError for a file that is no raster of classes.
    """
    if not path.exists():
        raise StatisticsError(f"{path} does not exist: give a map's folder or a GeoTIFF of classes")
    if path.is_dir() and not (path / CLASSES).is_file():
        raise StatisticsError(f"{path} is no map: it has no {CLASSES}")
    classes = path / CLASSES if path.is_dir() else path
    confidence = classes.with_name(CONFIDENCE)
    with open_categorical(classes, confidence=confidence if path.is_dir() and confidence.is_file() else None) as raster:
        known = {c.value for c in raster.legend.classes}
        if strange := [int(v) for v in raster.values if int(v) not in known]:
            raise StatisticsError(f"{classes} holds the values {strange[:5]}, which its legend does not name")
        yield raster


def title_of(path: Path) -> str:
    """What a map is called: its scene where its summary tells, else the path's own name."""
    try:
        return str(json.loads((path / SUMMARY).read_text(encoding="utf-8"))["scene"])
    except (OSError, ValueError, KeyError):
        return path.name
