"""Read windows of pixels with their validity from an open file."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window as RasterioWindow

from tiles.errors import SceneError
from tiles.scene.source import CACHE_BYTES, CACHE_CEILING, GDAL_ERRORS, first_line, gdal_environment
from tiles.scene.validity import Validity, finite, holds, measurable
from tiles.window import Window

Counts = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


_PART_ROWS = 64


@dataclass(frozen=True)
class Pixels:
    """Raw counts, shape (bands, rows, columns), and which pixels are valid, shape (rows, columns).

    Counts of invalid pixels are 0.
    """

    values: Counts
    valid: Mask


class Layer(Protocol):
    """Something that has pixels; `shape` is (rows, columns)."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def read(self, window: Window) -> Pixels: ...
    def cache_bytes(self, columns: int) -> int: ...


class DatasetLayer:
    """Chosen bands of an open rasterio dataset, in the order of `numbers` (from 1).

    GDAL datasets are no thread's property but bear only one reader at a time: a lock sees to that.
    """

    def __init__(self, dataset: Any, path: str, numbers: Sequence[int], validity: Validity) -> None:
        self.dataset = dataset
        self.path = path
        self.numbers = tuple(numbers)
        self.validity = validity
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.dataset.height, self.dataset.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts."""
        kind: np.dtype[Any] = np.dtype(self.dataset.dtypes[self.numbers[0] - 1])
        return kind

    def cache_bytes(self, columns: int) -> int:
        """A block cache that holds one row of blocks over that many columns.

        Strips that end inside a row of blocks then do not decode it twice.
        """
        height, width = self.dataset.block_shapes[0]
        across = (-(-min(columns, self.dataset.width) // width) + 1) * width
        row = height * across * (self._bands_at_once * self.dtype.itemsize + (self.validity.kind == "mask"))
        ceiling = max(CACHE_CEILING, self.block_bytes * 5 // 4)
        return int(min(max(CACHE_BYTES, row * 5 // 4), ceiling))

    @property
    def block_bytes(self) -> int:
        """Memory that one block takes when it is decoded."""
        height, width = self.dataset.block_shapes[0]
        return int(height * width * self._bands_at_once * self.dtype.itemsize)

    @property
    def _bands_at_once(self) -> int:
        """Bands that are decoded together."""
        by_pixel = self.dataset.interleaving is not None and self.dataset.interleaving.name == "pixel"
        return int(self.dataset.count) if by_pixel else len(self.numbers)

    def read(self, window: Window) -> Pixels:
        """Counts and validity of a window inside the dataset. Raises SceneError where the file is damaged."""
        parts = [self._pixels(_Reading(self, part)) for part in self._parts(window)]
        if len(parts) == 1:
            return parts[0]
        return Pixels(np.concatenate([p.values for p in parts], axis=1), np.concatenate([p.valid for p in parts]))

    def read_overview(self, shape: tuple[int, int]) -> Pixels:
        """The whole dataset decimated to `shape` (rows, columns), from an overview where one has that shape."""
        return self._pixels(_Reading(self, Window(0, 0, *self.shape), shape))

    def _parts(self, window: Window) -> list[Window]:
        """The window, by rows of blocks where other bands may be asked for too: these are in the cache then."""
        if self.validity.kind != "nodata" or len(set(self.numbers)) == self.dataset.count:
            return [window]
        height = self.dataset.block_shapes[0][0]
        height *= max(1, _PART_ROWS // height)
        edges = [window.top, *range((window.top // height + 1) * height, window.bottom, height), window.bottom]
        return [Window(a, window.left, b - a, window.width) for a, b in pairwise(edges)]

    def _pixels(self, reading: "_Reading") -> Pixels:
        alpha = (self.validity.alpha,) if self.validity.alpha else ()
        counts = reading.bands(self.numbers + alpha)
        values = counts[: len(self.numbers)]
        valid = self._valid(reading, values, counts[-1] if alpha else None)
        values[:, ~valid] = 0
        return Pixels(values, valid)

    def _valid(self, reading: "_Reading", values: Counts, alpha: Counts | None) -> Mask:
        valid = finite(values)
        if self.validity.kind == "mask":
            valid &= reading.mask()
        elif alpha is not None:
            valid &= alpha > 0
        elif self.validity.kind == "nodata":
            valid &= self._has_data(reading, values)
        if self.validity.chosen:
            valid &= ~self._called_nodata(values)
        return valid

    def _called_nodata(self, values: Counts) -> Mask:
        """Pixels (rows, columns) that the user's nodata values take out."""
        chosen, empty, spoiled = self.validity.chosen, [], []
        for band in values:
            held = {value: holds(band, value) for value in chosen}
            empty.append(np.logical_or.reduce(list(held.values())))
            spoiled += [where for value, where in held.items() if not measurable(value, self.dtype)]
        taken = np.logical_and.reduce(empty)
        return np.asarray(np.logical_or.reduce([taken, *spoiled]))

    def _has_data(self, reading: "_Reading", values: Counts) -> Mask:
        nodata = self.validity.nodata
        missing = [holds(band, nodata[n - 1]) for band, n in zip(values, self.numbers, strict=True)]
        lacking = [m for m, n in zip(missing, self.numbers, strict=True) if not measurable(nodata[n - 1], self.dtype)]
        complete = ~np.logical_or.reduce(lacking) if lacking else np.ones(values.shape[1:], dtype=bool)
        empty = np.logical_and.reduce(missing)
        others = [n for n in range(1, self.dataset.count + 1) if n not in self.numbers]
        if others and empty.any() and complete.any():
            # Rarely needed, so read late: a pixel black in every wanted band may have data in another one.
            rest = reading.bands(others)
            empty &= np.logical_and.reduce([holds(b, nodata[n - 1]) for b, n in zip(rest, others, strict=True)])
        return np.asarray(complete & ~empty)

    def band(self, number: int, window: Window) -> Counts:
        """Raw counts of one band, shape (rows, columns), whatever their validity."""
        return np.asarray(_Reading(self, window).bands((number,))[0])

    def counts(self, window: Window) -> Counts:
        """Raw counts, shape (bands, rows, columns), whatever their validity. Raises SceneError."""
        return _Reading(self, window).bands(self.numbers)

    def mask(self, window: Window) -> Mask:
        """The file's own mask, shape (rows, columns). Raises SceneError."""
        return _Reading(self, window).mask()

    def locked(self) -> threading.Lock:
        """The lock to hold while anything else is asked of the dataset."""
        return self._lock


@dataclass(frozen=True)
class _Reading:
    """One window of a dataset, read at its own size or at another; errors become SceneError."""

    layer: DatasetLayer
    window: Window
    shape: tuple[int, int] | None = None

    def bands(self, numbers: Sequence[int]) -> Counts:
        size = None if self.shape is None else (len(numbers), *self.shape)
        return self._guarded("read", indexes=list(numbers), out_shape=size)

    def mask(self) -> Mask:
        return np.asarray(self._guarded("read_masks", indexes=1, out_shape=self.shape) > 0)

    def _guarded(self, method: str, **arguments: Any) -> Counts:
        w, path = self.window, self.layer.path
        try:
            with self.layer.locked(), gdal_environment(path, self.layer.cache_bytes(w.width)):
                area = RasterioWindow(w.left, w.top, w.width, w.height)
                return np.asarray(getattr(self.layer.dataset, method)(window=area, **arguments))
        except GDAL_ERRORS as error:
            reason = first_line(error)
            raise SceneError(
                f"{path} cannot be decoded in {self._place(reason)} ({reason}): "
                "the file is damaged there, copy or download it again"
            ) from error
        except MemoryError as error:
            raise SceneError(f"{path}: not enough memory to read {self._place('')}") from error

    def _place(self, reason: str) -> str:
        """Rows and columns of the block that GDAL names, else of the window."""
        w = self.window
        top, bottom, left, right = w.top, w.bottom, w.left, w.right
        block = re.search(r"X offset (\d+), Y offset (\d+)", reason)
        if block is not None:
            across, down = (int(number) for number in block.groups())
            height, width = self.layer.dataset.block_shapes[0]
            top, bottom = down * height, min((down + 1) * height, self.layer.shape[0])
            left, right = across * width, min((across + 1) * width, self.layer.shape[1])
        return f"rows {top}-{bottom - 1}, columns {left}-{right - 1}"
