"""Where to look next: the places of a map where a correction is likely to teach the most."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.windows import Window

from geounet.correction.write import collection
from geounet.errors import CorrectionError
from geounet.outputs.files import CLASSES, CONFIDENCE, CORRECTIONS
from tiles.georef import Georef
from tiles.legend import NODATA
from tiles.rasters.write import read_legend

_CELL = 16
"""Pixels a side of the squares of which each offers one place: the surest-to-be-doubted one inside."""
_MOST_PIXELS = 16_000_000
"""Of a larger map every second, third, ... pixel is looked at, through its overviews."""
_APART = 0.6
"""Suggestions keep this share of the distance that as many points spread evenly would have."""


def suggest(folder: Path, most: int) -> dict[str, Any]:
    """At most `most` points of a map to look at, the most useful first, as a GeoJSON FeatureCollection in WGS 84.

    Places are taken where the map is least sure, each kept away from the ones before and from corrections that were
    made already, and no class gets more than its turn: classes take turns as long as they have unsure places.
    `properties`: `rank` from 1, `class` that the map says, `confidence` 0-1. Raises CorrectionError.
    """
    try:
        with rasterio.open(folder / CLASSES, driver="GTiff") as classes:
            georef = Georef(classes.crs, classes.transform, classes.shape)
            legend = read_legend(classes.tags())
            with rasterio.open(folder / CONFIDENCE, driver="GTiff") as confidence:
                places = _candidates(classes, confidence)
    except rasterio.errors.RasterioIOError as error:
        raise CorrectionError(f"{folder} is no map that suggestions can be made for: {error}") from error
    known = _known(folder, georef)
    chosen = _spread(places, known, georef.shape, most)
    rows, cols, values, sure = (part[chosen] for part in places)
    lon, lat = georef.lonlat(cols + 0.5, rows + 0.5)
    names = {c.value: c.name for c in legend.classes} if legend else {}
    return collection(
        [
            (
                shapely.Point(round(float(x), 7), round(float(y), 7)),
                {"rank": rank, "class": names.get(int(v), f"class {v}"), "confidence": round(float(c) / 100, 2)},
            )
            for rank, (x, y, v, c) in enumerate(zip(lon, lat, values, sure, strict=True), 1)
        ]
    )


def write_suggestions(folder: Path, most: int, path: Path) -> int:
    """Write `suggest` as a GeoJSON file; how many there are."""
    found = suggest(folder, most)
    path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return len(found["features"])


Places = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _candidates(classes: Any, confidence: Any) -> Places:
    """One place a cell: rows, columns, class value, confidence (n,) each."""
    factor = max(1, math.ceil(math.sqrt(classes.height * classes.width / _MOST_PIXELS)))
    parts = []
    step = _CELL * 16 * factor
    for top in range(0, classes.height, step):
        height = min(step, classes.height - top)
        window = Window(0, top, classes.width, height)
        shape = max(1, height // factor), max(1, classes.width // factor)
        values, sure = (raster.read(1, window=window, out_shape=shape) for raster in (classes, confidence))
        rows, cols, *told = _of_strip(values, sure)
        rows = np.minimum(rows * factor + factor // 2 + top, classes.height - 1)
        cols = np.minimum(cols * factor + factor // 2, classes.width - 1)
        parts.append((rows, cols, *told))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _of_strip(values: npt.NDArray[np.uint8], sure: npt.NDArray[np.uint8]) -> Places:
    rows, cols = values.shape
    down, across = -(-rows // _CELL), -(-cols // _CELL)
    pad = ((0, down * _CELL - rows), (0, across * _CELL - cols))
    doubt = np.pad(np.where(values == NODATA, 255, sure).astype(np.int64), pad, constant_values=255)
    cells = doubt.reshape(down, _CELL, across, _CELL).transpose(0, 2, 1, 3).reshape(down * across, -1)
    known = np.where(cells == 255, -1, cells)
    # The place whose doubt is typical of its cell: the least sure pixel of all sits on a border between two classes,
    # where nobody can say what is there.
    usable = (known >= 0).sum(axis=1)
    order = np.argsort(np.where(known >= 0, known, 999), axis=1, kind="stable")
    at = order[np.arange(len(cells)), np.maximum(usable - 1, 0) // 4]
    kept = np.flatnonzero(usable >= _CELL * _CELL // 4)
    r = kept // across * _CELL + at[kept] // _CELL
    c = kept % across * _CELL + at[kept] % _CELL
    return r, c, values[r, c].astype(np.int64), sure[r, c].astype(np.int64)


def _known(folder: Path, georef: Georef) -> npt.NDArray[np.float64]:
    """Where corrections lie already, (n, 2) rows and columns."""
    from geounet.correction.read import read_corrections

    path = folder / CORRECTIONS
    if not path.is_file():
        return np.empty((0, 2))
    with rasterio.open(folder / CLASSES, driver="GTiff") as classes:
        legend = read_legend(classes.tags())
    if legend is None:
        return np.empty((0, 2))
    centres = shapely.centroid(read_corrections(path, georef, legend).shapes)
    return np.stack([shapely.get_y(centres), shapely.get_x(centres)], axis=1)


def _spread(places: Places, known: npt.NDArray[np.float64], shape: tuple[int, int], most: int) -> npt.NDArray[np.int64]:
    """Indices of places: classes in turn, in each the least sure that is far enough from all before."""
    rows, cols, values, sure = places
    apart = _APART * float(np.sqrt(shape[0] * shape[1] / max(most + len(known), 1)))
    taken = [tuple(point) for point in known]
    chosen: list[int] = []
    while len(chosen) < most and apart >= 1:
        queues = [_doubtful_first(values == v, sure) for v in np.unique(values)]
        while len(chosen) < most and any(queues):
            for queue in queues:
                while queue:
                    place = int(queue.pop(0))
                    point = (float(rows[place]), float(cols[place]))
                    if all((point[0] - r) ** 2 + (point[1] - c) ** 2 >= apart**2 for r, c in taken):
                        chosen.append(place)
                        taken.append(point)
                        break
                if len(chosen) == most:
                    break
        apart /= 2
    return np.array(chosen, dtype=np.int64)


def _doubtful_first(chosen: npt.NDArray[np.bool_], sure: npt.NDArray[np.int64]) -> list[int]:
    found = np.flatnonzero(chosen)
    return [int(index) for index in found[np.argsort(sure[found], kind="stable")]]
