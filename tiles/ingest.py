"""Decode a stranger's GeoTIFF once, into files of our own that hold pixels and nothing else.

`pixels.tif` is tiled, lossless and has overviews; each overview of the original is a file beside it, for maps of fine
scenes are made from those; `original.json` says what else there was. Nothing is taken over as it stands: no tag, no
metadata domain, no compressed block. Memory is bounded by a strip of rows, whatever the image.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from tiles.clean.dataset import level_file
from tiles.clean.original import PIXELS, Level, Original, original_of
from tiles.durable import sync_tree
from tiles.errors import OutputError
from tiles.scene.fingerprint import fingerprint
from tiles.scene.source import GDAL_ERRORS, check_complete, first_line, gdal_environment, open_dataset
from tiles.scene.validity import Validity, has_mask
from tiles.scene.window_reader import DatasetLayer
from tiles.window import Window

TILE = 512
_SMALLEST = 256
_STRIP_BYTES = 128_000_000
_BIG = 2_000_000_000


def ingest(path: Path, folder: Path, name: str = "scene.tif") -> Original:
    """Decode the GeoTIFF `path` into the empty `folder`, and return what it was; `name` is kept as the file's name.

    Raises SceneError where the file cannot be read to its end, OutputError where the disk does not take the pixels.
    """
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        gdal_environment(path),
        rasterio.Env(
            GDAL_TIFF_INTERNAL_MASK="YES", GDAL_CACHEMAX=256_000_000, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"
        ),
        open_dataset(path) as dataset,
    ):
        check_complete(dataset, str(path))
        digest = fingerprint(dataset, path)
        masked = has_mask(dataset)
        _copy(dataset, str(path), folder / PIXELS, masked)
        levels = []
        for number, factor in enumerate(dataset.overviews(1)):
            with open_dataset(path, overview_level=number) as overview:
                levels.append(_level(factor, overview))
                _copy(overview, str(path), folder / level_file(number), levels[-1].masked)
        size = path.stat().st_size
        original = original_of(
            dataset, path=path, name=name, levels=tuple(levels), masked=masked, size=size, digest=digest
        )
    try:
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.Env(GDAL_CACHEMAX=256_000_000),
        ):
            _add_overviews(folder / PIXELS)
        original.write(folder)
        sync_tree(folder)
    except (*GDAL_ERRORS, OSError) as error:
        raise _not_written(error) from error
    return original


def _level(factor: int, overview: Any) -> Level:
    height, width = overview.block_shapes[0]
    return Level(factor, (overview.height, overview.width), (int(height), int(width)), has_mask(overview))


def _copy(dataset: Any, path: str, target: Path, masked: bool) -> None:
    """Pixels, mask and what colours and places them, tile row by tile row. Raises SceneError or OutputError."""
    layer = DatasetLayer(dataset, path, dataset.indexes, Validity("all"))
    try:
        file = rasterio.open(target, "w", **_profile(dataset))
    except GDAL_ERRORS as error:
        raise _not_written(error) from error
    with file:
        _describe(dataset, file)
        for window in _windows(layer):
            values = layer.counts(window)
            mask = layer.mask(window) if masked else None
            area = RasterioWindow(window.left, window.top, window.width, window.height)
            try:
                file.write(values, window=area)
                if mask is not None:
                    file.write_mask(mask, window=area)
            except (*GDAL_ERRORS, OSError) as error:
                raise _not_written(error) from error
        try:
            file.close()
        except (*GDAL_ERRORS, OSError) as error:
            raise _not_written(error) from error


def _windows(layer: DatasetLayer) -> Iterator[Window]:
    """The image in rows of tiles; those of very wide images in parts."""
    rows, cols = layer.shape
    pixel = len(layer.numbers) * layer.dtype.itemsize
    width = max(TILE, _STRIP_BYTES // (TILE * pixel) // TILE * TILE)
    for top in range(0, rows, TILE):
        for left in range(0, cols, width):
            yield Window(top, left, min(TILE, rows - top), min(width, cols - left))


def _profile(dataset: Any) -> Mapping[str, Any]:
    kind = np.dtype(dataset.dtypes[0])
    decoded = dataset.width * dataset.height * dataset.count * kind.itemsize
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": dataset.width,
        "height": dataset.height,
        "count": dataset.count,
        "dtype": dataset.dtypes[0],
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "interleave": "pixel" if dataset.count <= 4 else "band",
        "compress": "zstd",
        "zstd_level": 1,
        "predictor": {"f": 3, "c": 1}.get(kind.kind, 2),
        "BIGTIFF": "YES" if decoded > _BIG else "NO",
    }
    if ColorInterp.palette in dataset.colorinterp:
        profile["photometric"] = "PALETTE"
        profile["predictor"] = 1
    points, _ = dataset.gcps
    if not points and not dataset.transform.is_identity:
        profile["transform"] = dataset.transform
    return profile


def _describe(dataset: Any, file: Any) -> None:
    """What shows a tile rightly; what a file of ours cannot say is left to the record."""
    for name in ("crs", "gcps", "nodata", "descriptions", "colorinterp"):
        value = getattr(dataset, name)
        if name == "gcps" and not value[0]:
            continue
        if value is None:
            continue
        try:
            setattr(file, name, value)
        except (RasterioError, *GDAL_ERRORS, ValueError, TypeError, OverflowError, AttributeError):
            continue
    if ColorInterp.palette in dataset.colorinterp:
        file.write_colormap(1, dataset.colormap(1))


def _add_overviews(path: Path) -> None:
    """Overviews, each half the size, until one fits into a web-map tile."""
    with rasterio.open(path, "r+") as file:
        sides = max(file.width, file.height)
        factors: list[int] = []
        while -(-sides // 2 ** len(factors)) > _SMALLEST:
            factors.append(2 ** (len(factors) + 1))
        if factors:
            plain = ColorInterp.palette not in file.colorinterp and np.dtype(file.dtypes[0]).kind != "c"
            file.build_overviews(factors, Resampling.average if plain else Resampling.nearest)


def _not_written(error: BaseException) -> OutputError:
    return OutputError(f"the decoded scene cannot be written ({first_line(error)}): make room and try again")
