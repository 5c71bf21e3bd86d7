"""Reading training images and their labels: GeoTIFF, PNG, JPEG; class values, mask colours, polygons."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image, UnidentifiedImageError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import rasterize

from geounet.datasets.config import SourceConfig
from geounet.datasets.labels import IGNORE, LabelCodes
from geounet.errors import TrainingError
from geounet.model.stretch import fit_stretch
from tiles.georef import Georef

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
VECTOR_SUFFIXES = (".geojson", ".json", ".gpkg")

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageFile:
    """Counts uint8 (bands, rows, columns) on 0-255, validity (rows, columns), the grid where the file has one."""

    path: Path
    counts: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_]
    georef: Georef | None


def read_image(path: Path, bands: tuple[int, ...] | None, wanted: int) -> ImageFile:
    """Read bands (1-based; the first `wanted` by default) of an image.

    Counts of other types than uint8 are stretched to 0-255 as prediction does it, by the whole image's quantiles.
    Raises TrainingError for a file that cannot be read or lacks a band.
    """
    indexes = bands or tuple(range(1, wanted + 1))
    if len(indexes) != wanted:
        raise TrainingError(f"{path}: bands = {list(indexes)} names {len(indexes)} bands, the model has {wanted}")
    try:
        if _is_tiff(path):
            return _read_tiff(path, indexes)
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, RasterioError) as error:
        raise TrainingError(f"{path} cannot be read as an image: {error}") from error
    if max(indexes) > 3:
        raise TrainingError(f"{path} has 3 bands, band {max(indexes)} does not exist")
    counts = np.ascontiguousarray(pixels.transpose(2, 0, 1)[[i - 1 for i in indexes]])
    return ImageFile(path, counts, np.ones(counts.shape[1:], dtype=bool), None)


def _is_tiff(path: Path) -> bool:
    """By the first bytes: some data sets name JPEG files .tif."""
    with path.open("rb") as file:
        return file.read(2) in (b"II", b"MM")


def _read_tiff(path: Path, indexes: tuple[int, ...]) -> ImageFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver="GTiff") as file:
            if max(indexes) > file.count:
                raise TrainingError(f"{path} has {file.count} bands, band {max(indexes)} does not exist")
            counts = file.read(list(indexes))
            valid = _validity(counts, file.nodata)
            georef = Georef(file.crs, file.transform, file.shape) if file.crs else None
    if counts.dtype != np.uint8:
        sample = counts[:, valid]
        if sample.size == 0:
            raise TrainingError(f"{path} has no valid pixel")
        counts = fit_stretch(sample, counts.dtype, None).apply(counts, valid).round().astype(np.uint8)
    return ImageFile(path, counts, valid, georef)


def _validity(counts: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    valid = np.ones(counts.shape[1:], dtype=bool)
    if counts.dtype.kind == "f":
        valid &= np.isfinite(counts).all(axis=0)
    if nodata is not None and not np.isnan(nodata):
        valid &= ~(counts == nodata).all(axis=0)
    return valid


def read_label(path: Path, source: SourceConfig, codes: LabelCodes, image: ImageFile) -> Codes:
    """Label codes uint8 (rows, columns) of a class raster, a colour mask, or polygons on the image's grid.

    Raises TrainingError for a value, colour or attribute that `source.classes` does not name.
    """
    if path.suffix.lower() in VECTOR_SUFFIXES:
        return _read_polygons(path, source, codes, image)
    try:
        if any(key.startswith("#") for key in source.classes):
            with Image.open(path) as picture:
                return _from_colours(path, np.asarray(picture.convert("RGB")), source, codes)
        return _from_values(path, _read_values(path), source, codes)
    except (OSError, UnidentifiedImageError, RasterioError) as error:
        raise TrainingError(f"{path} cannot be read as a label: {error}") from error


def _read_values(path: Path) -> npt.NDArray[Any]:
    if _is_tiff(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as file:
                return np.asarray(file.read(1))
    with Image.open(path) as picture:
        return np.asarray(picture)


def _from_values(path: Path, values: npt.NDArray[Any], source: SourceConfig, codes: LabelCodes) -> Codes:
    if values.ndim != 2:
        raise TrainingError(f"{path} has colours: name them in classes as '#rrggbb', or give a one-band label")
    out = np.full(values.shape, IGNORE, dtype=np.uint8)
    for value in np.unique(values).tolist():
        key = str(int(value))
        if key not in source.classes:
            raise TrainingError(f"{path}: label value {key} has no class: add '{key}' to classes, or as \"ignore\"")
        out[values == value] = codes.code(source.classes[key])
    return out


def _from_colours(path: Path, rgb: npt.NDArray[np.uint8], source: SourceConfig, codes: LabelCodes) -> Codes:
    packed = (rgb[..., 0].astype(np.uint32) << 16) | (rgb[..., 1].astype(np.uint32) << 8) | rgb[..., 2]
    known = {key.lower(): value for key, value in source.classes.items()}
    out = np.full(packed.shape, IGNORE, dtype=np.uint8)
    for colour in np.unique(packed).tolist():
        key = f"#{colour:06x}"
        if key not in known:
            raise TrainingError(f'{path}: mask colour {key} has no class: add it to classes, or as "ignore"')
        out[packed == colour] = codes.code(known[key])
    return out


def _read_polygons(path: Path, source: SourceConfig, codes: LabelCodes, image: ImageFile) -> Codes:
    import geopandas

    if image.georef is None:
        raise TrainingError(f"{path}: polygons need a georeferenced image, {image.path} is not")
    try:
        frame = geopandas.read_file(path)
    except Exception as error:  # the reader raises a family of its own, none of it public
        raise TrainingError(f"{path} cannot be read as polygons: {error}") from error
    if source.attribute not in frame.columns:
        found = ", ".join(c for c in frame.columns if c != "geometry")
        raise TrainingError(f"{path} has no attribute '{source.attribute}', but {found}")
    frame = frame.to_crs(image.georef.crs.to_wkt())
    shapes = []
    for name, geometry in zip(frame[source.attribute].astype(str), frame.geometry, strict=True):
        if name not in source.classes:
            raise TrainingError(f"{path}: polygons with {source.attribute} = '{name}' have no class: add it to classes")
        if geometry is not None and not geometry.is_empty:
            shapes.append((geometry, codes.code(source.classes[name])))
    background = codes.code(source.background) if source.background else IGNORE
    out = np.full(image.georef.shape, background, dtype=np.uint8)
    if shapes:
        rasterize(shapes, out=out, transform=image.georef.transform)
    return out
