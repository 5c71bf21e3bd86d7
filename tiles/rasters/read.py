"""Categorical rasters made by anyone: a grid, classes as codes, and what the classes are called."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window as RasterioWindow

from tiles.errors import SceneError
from tiles.georef import Georef
from tiles.legend import NODATA, LandClass, Legend
from tiles.rasters.write import read_legend
from tiles.scene.position import check_georef, find_place
from tiles.scene.source import GDAL_ERRORS, first_line, gdal_environment, open_dataset
from tiles.window import Window

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8 | np.uint16]
Longs = npt.NDArray[np.int64]

_STRIP_PIXELS = 8 << 20
_MOST_VALUES = 65_535
_COLOURS = (
    (166, 97, 63), (127, 127, 127), (217, 178, 120), (35, 110, 50), (150, 195, 95), (70, 130, 190),
    (200, 80, 80), (140, 90, 170), (230, 190, 60), (90, 180, 180), (225, 130, 190), (60, 60, 60),
)  # fmt: skip


@dataclass(frozen=True)
class Categorical:
    """An open raster of classes, any integers; `values` are those that occur, ascending, shape (codes,).

    Nothing stands for nodata among them: where the file's own nodata value or mask says so, there is no code.
    """

    path: str
    georef: Georef
    legend: Legend
    values: Longs
    _classes: "_Band"
    _confidence: "_Band | None" = None

    @property
    def has_confidence(self) -> bool:
        """Whether it was opened with a raster of confidence."""
        return self._confidence is not None

    def rows(self) -> Iterator[tuple[Codes, Bytes]]:
        """(codes, confidence) strips from top to bottom, each of shape (rows of the strip, columns).

        `values[code]` is the class; codes are uint8, uint16 beyond 255 values, the largest number is nodata.
        Confidence is 0-100, 255 where it is not known. Raises SceneError where a file turns out to be damaged.
        """
        for window in self._classes.windows():
            yield self._read(window)

    def read(self, window: Window) -> tuple[Codes, Bytes]:
        """(codes, confidence) of a window of the raster, each (rows, columns), as in `rows`. Raises as that does."""
        return self._read(RasterioWindow(window.left, window.top, window.width, window.height))

    def _read(self, window: RasterioWindow) -> tuple[Codes, Bytes]:
        kind: type[np.uint8] | type[np.uint16] = np.uint8 if len(self.values) <= NODATA else np.uint16
        classes, valid = self._classes.read(window)
        codes = _codes(classes, self.values, kind)
        codes[~valid] = np.iinfo(kind).max
        return codes, self._known(window)

    def _known(self, window: RasterioWindow) -> Bytes:
        if self._confidence is None:
            return np.full((window.height, window.width), NODATA, np.uint8)
        known, valid = self._confidence.read(window)
        return np.where(valid & (known <= 100), known, NODATA).astype(np.uint8)


@contextmanager
def open_categorical(
    path: str | os.PathLike[str],
    *,
    band: int | None = None,
    assume_crs: str | None = None,
    confidence: str | os.PathLike[str] | None = None,
) -> Iterator[Categorical]:
    """Opens a GeoTIFF of classes, integers of any size; `band` counts from 1 and is needed where the file has several.

    The legend comes from the tag that our own maps carry, else from the names (categories or attribute table, in the
    sidecar `.aux.xml`) and the colour table that GDAL knows, else classes are called `class N`. The raster is read
    once to see which classes occur. `confidence` may name a raster of 0-100 % on the same grid.
    Raises SceneError for everything that is no such file, and says what to do.
    """
    with ExitStack() as stack:
        stack.enter_context(gdal_environment(path))
        classes = _Band.open(stack, path, band)
        place = find_place(classes.dataset, classes.path, assume_crs)
        if place.transform is None:
            raise SceneError(f"{classes.path} is placed by control points alone: warp it to a grid first (`gdalwarp`)")
        georef = Georef(place.crs, place.transform, (classes.dataset.height, classes.dataset.width))
        check_georef(georef, classes.path)
        known = None
        if confidence is not None:
            known = _Band.open(stack, confidence, None)
            _check_percent(known)
            if known.dataset.shape != georef.shape or not known.dataset.transform.almost_equals(georef.transform):
                raise SceneError(f"{known.path} does not lie on the grid of {classes.path}: both must be of one map")
        values = _values(classes)
        yield Categorical(classes.path, georef, _legend(classes, values), values, classes, known)


@dataclass(frozen=True)
class _Band:
    dataset: Any
    path: str
    number: int

    @classmethod
    def open(cls, stack: ExitStack, path: str | os.PathLike[str], band: int | None) -> "_Band":
        dataset = stack.enter_context(open_dataset(path))
        return cls(dataset, os.fspath(path), _choose_band(dataset, os.fspath(path), band))

    def windows(self) -> Iterator[RasterioWindow]:
        """Full-width strips of whole blocks."""
        block, width = self.dataset.block_shapes[self.number - 1][0], self.dataset.width
        height = max(_STRIP_PIXELS // width // block, 1) * block
        for top in range(0, self.dataset.height, height):
            yield RasterioWindow(0, top, width, min(height, self.dataset.height - top))

    def read(self, window: RasterioWindow) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Values as stored, and where they are no nodata."""
        try:
            values = self.dataset.read(self.number, window=window)
            return values, self.dataset.read_masks(self.number, window=window) != 0
        except GDAL_ERRORS as error:
            raise SceneError(f"{self.path} cannot be read ({first_line(error)}): copy or download it again") from error


def _choose_band(dataset: Any, path: str, band: int | None) -> int:
    if band is None and dataset.count > 1:
        raise SceneError(f"{path} has {dataset.count} bands: say which one holds the classes with --band 1")
    chosen = 1 if band is None else band
    if not 1 <= chosen <= dataset.count:
        raise SceneError(f"{path} has no band {chosen}: choose --band 1 to {dataset.count}")
    kind = dataset.dtypes[chosen - 1]
    if np.dtype(kind).kind not in "iu":
        raise SceneError(
            f"{path} holds {kind} values, not classes: if all of them are whole numbers,"
            " convert it with `gdal_translate -ot Int32 INPUT OUTPUT.tif`"
        )
    return chosen


def _check_percent(known: _Band) -> None:
    kind = known.dataset.dtypes[known.number - 1]
    if kind != "uint8":
        raise SceneError(
            f"{known.path} holds {kind} values, not per cent of 8 bits: convert it with `gdal_translate -ot Byte`"
        )


def _values(classes: _Band) -> Longs:
    """The values that occur where the file is valid, ascending. Raises SceneError for too many."""
    found: npt.NDArray[Any] = np.zeros(0, classes.dataset.dtypes[classes.number - 1])
    for window in classes.windows():
        values, valid = classes.read(window)
        found = np.union1d(found, _distinct(values[valid]))
        if len(found) > _MOST_VALUES:
            raise SceneError(
                f"{classes.path} holds more than {_MOST_VALUES:,} different values: "
                "these are measurements or numbered objects, not classes"
            )
    if len(found) and int(found[-1]) > np.iinfo(np.int64).max:
        raise SceneError(f"{classes.path} holds the value {found[-1]}: classes may be at most {np.iinfo(np.int64).max}")
    return found.astype(np.int64)


def _codes(classes: npt.NDArray[Any], values: Longs, kind: type[np.uint8] | type[np.uint16]) -> Codes:
    """Positions in `values`; anything for what is not among them."""
    if classes.dtype.itemsize > 2:
        return np.searchsorted(values.astype(classes.dtype), classes).astype(kind)
    low = np.iinfo(classes.dtype).min
    lookup = np.zeros(1 << 8 * classes.dtype.itemsize, kind)
    lookup[values - low] = np.arange(len(values))
    return lookup[classes.astype(np.int32) - low if low else classes]


def _distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values that occur; counted where the type is small, which takes a tenth of the time of sorting."""
    if values.dtype.itemsize > 2 or not len(values):
        return np.unique(values)
    low = np.iinfo(values.dtype).min
    seen = np.flatnonzero(np.bincount(values.astype(np.int32) - low))
    return (seen + low).astype(values.dtype)


def _legend(classes: _Band, occurring: Longs) -> Legend:
    dataset, band = classes.dataset, classes.number
    tagged = read_legend(dataset.tags())
    known = {c.value: c for c in tagged.classes} if tagged else {}
    values = list(dict.fromkeys([*known, *occurring.tolist()])) or [0]
    names = {v: c.name for v, c in known.items()} or _names(classes.path, band)
    try:
        colours = {v: c[:3] for v, c in dataset.colormap(band).items()}
    except ValueError:  # no colour table
        colours = {v: _COLOURS[i % len(_COLOURS)] for i, v in enumerate(values)}
    colours |= {v: c.color for v, c in known.items()}
    labels = _unique({v: names.get(v) or f"class {v}" for v in values})
    return Legend(tuple(LandClass(v, labels[v], colours.get(v, _COLOURS[v % len(_COLOURS)])) for v in values))


def _unique(names: dict[int, str]) -> dict[int, str]:
    """The names, with the value behind where several classes have the same."""
    times = Counter(names.values())
    return {v: name if times[name] == 1 else f"{name} ({v})" for v, name in names.items()}


def _names(path: str, band: int) -> dict[int, str]:
    """Class names from GDAL's sidecar, from its category list or its attribute table; empty where there are none."""
    sidecar = Path(f"{path}.aux.xml")
    try:
        root = ET.parse(sidecar).getroot()
    except (OSError, ET.ParseError):
        return {}
    for element in root.iter("PAMRasterBand"):
        if element.get("band") != str(band):
            continue
        categories = element.findall("CategoryNames/Category")
        if categories:
            return {value: c.text.strip() for value, c in enumerate(categories) if c.text and c.text.strip()}
        table = element.find("GDALRasterAttributeTable")
        if table is not None:
            return _table_names(table)
    return {}


def _table_names(table: ET.Element) -> dict[int, str]:
    # Usages as GDAL numbers them: 2 is Name, 5 is MinMax (a class's value).
    usage = {field.findtext("Usage", ""): int(field.get("index", "-1")) for field in table.findall("FieldDefn")}
    if "2" not in usage or "5" not in usage:
        return {}
    names: dict[int, str] = {}
    for row in table.findall("Row"):
        cells = [cell.text or "" for cell in row.findall("F")]
        try:
            names[int(float(cells[usage["5"]]))] = cells[usage["2"]].strip()
        except (ValueError, IndexError):
            continue
    return names
