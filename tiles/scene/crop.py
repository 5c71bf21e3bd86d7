"""Cut an area of interest out of a scene: a smaller GeoTIFF, invalid outside the area."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from rasterio.features import rasterize
from rasterio.windows import Window, transform
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from tiles.errors import SceneError
from tiles.longitudes import nearest_turn
from tiles.scene.source import gdal_environment, open_dataset

_STEP_PIXELS = 4_000_000


def cut_area(scene: Path, area: Mapping[str, Any], target: Path, assume_crs: str | None = None) -> Path:
    """Write the part of `scene` inside `area` to `target`, and return it.

    `area` is a GeoJSON Polygon or MultiPolygon in WGS 84 longitude and latitude. The pixels keep their places; those
    outside become nodata, or are masked where the file has no nodata value. `target` appears in one rename. Raises
    SceneError where the scene has no grid or the area misses it.
    """
    if target.exists():
        return target
    part = target.with_name(target.name + ".part")
    with gdal_environment(scene), rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), open_dataset(scene) as dataset:
        polygon = _in_pixels(dataset, str(scene), area, assume_crs)
        window = _window(polygon, dataset, str(scene))
        _write(dataset, polygon, window, part)
    part.replace(target)
    return target


def check_area(scene: Path, area: Mapping[str, Any], assume_crs: str | None = None) -> None:
    """Raise SceneError where `cut_area` would, without reading a pixel: no grid, or an area that misses the scene."""
    with gdal_environment(scene), open_dataset(scene) as dataset:
        polygon = _in_pixels(dataset, str(scene), area, assume_crs)
        window = _window(polygon, dataset, str(scene))
        touched = shapely.box(
            window.col_off, window.row_off, window.col_off + window.width, window.row_off + window.height
        )
        if not polygon.intersects(touched):
            raise SceneError(f"{scene} does not touch the area of interest: give the area in longitude and latitude")


def _in_pixels(dataset: Any, name: str, area: Mapping[str, Any], assume_crs: str | None) -> BaseGeometry:
    """The area in (column, row) coordinates of the scene."""
    crs = dataset.crs.to_wkt() if dataset.crs else assume_crs
    if crs is None or dataset.transform.is_identity:
        raise SceneError(f"{name} has no CRS of its own grid: leave the area of interest out, or georeference it")
    try:
        to_crs = Transformer.from_crs("OGC:CRS84", CRS.from_user_input(crs), always_xy=True)
        outline = shapely.segmentize(shape(area), 0.01)  # straight in degrees is curved on the grid
        lonlat = shapely.get_coordinates(outline)
        x, y = to_crs.transform(lonlat[:, 0], lonlat[:, 1])
    except ProjError as error:
        raise SceneError(f"{name}: the area of interest cannot be brought into its CRS ({error})") from error
    inverse = ~dataset.transform
    x, y = np.asarray(x), np.asarray(y)
    if CRS.from_user_input(crs).is_geographic:  # its longitudes may run past 180: the area lies where the pixels are
        centre = dataset.transform.c + dataset.transform.a * dataset.width / 2
        x = np.array([nearest_turn(lon, centre) for lon in x])
    columns = inverse.a * x + inverse.b * y + inverse.c
    rows = inverse.d * x + inverse.e * y + inverse.f
    if not np.isfinite(columns).all() or not np.isfinite(rows).all():
        raise SceneError(f"{name}: the area of interest lies where the scene's CRS does not reach")
    return shapely.set_coordinates(outline, np.column_stack([columns, rows]))


def _window(polygon: BaseGeometry, dataset: Any, name: str) -> Window:
    left, top, right, bottom = polygon.bounds
    left, top = max(int(np.floor(left)), 0), max(int(np.floor(top)), 0)
    right, bottom = min(int(np.ceil(right)), dataset.width), min(int(np.ceil(bottom)), dataset.height)
    if right <= left or bottom <= top:
        raise SceneError(f"{name} does not touch the area of interest: give the area in longitude and latitude")
    return Window(left, top, right - left, bottom - top)


def _write(dataset: Any, polygon: BaseGeometry, window: Window, part: Path) -> None:
    profile = {
        "driver": "GTiff",
        "width": window.width,
        "height": window.height,
        "count": dataset.count,
        "dtype": dataset.dtypes[0],
        "crs": dataset.crs,
        "transform": transform(window, dataset.transform),
        "nodata": dataset.nodata,
        "tiled": True,
        "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
    }
    step = max(1, _STEP_PIXELS // window.width // 256 * 256 or 256)
    with rasterio.open(part, "w", **profile) as out:
        out.descriptions = dataset.descriptions
        out.scales, out.offsets = dataset.scales, dataset.offsets
        out.colorinterp = dataset.colorinterp
        if taken := dataset.tags().get("TIFFTAG_DATETIME"):
            out.update_tags(TIFFTAG_DATETIME=taken)
        for top in range(0, window.height, step):
            rows = min(step, window.height - top)
            there = Window(window.col_off, window.row_off + top, window.width, rows)
            here = Window(0, top, window.width, rows)
            values = dataset.read(window=there)
            inside = _inside(polygon, there)
            if dataset.nodata is None:
                out.write_mask(np.where(inside, dataset.dataset_mask(window=there), 0).astype(np.uint8), window=here)
                values[:, ~inside] = 0
            else:
                values[:, ~inside] = dataset.nodata
            out.write(values, window=here)


def _inside(polygon: BaseGeometry, window: Window) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    shift = rasterio.Affine.translation(window.col_off, window.row_off)
    burnt = rasterize([polygon], out_shape=(window.height, window.width), transform=shift, fill=0, default_value=1)
    return np.asarray(burnt, dtype=np.bool_)
