"""Tiles of rasters that lie on both sides of the antimeridian: read in a Web Mercator that is turned by half a world.

In the usual one such a raster is as wide as the world and empty in the middle. In the turned one it is whole, and each
tile is the same square of it moved by half the world's width.
"""

import warnings
from typing import Any

import numpy as np

from tiles.errors import TilesError
from tiles.georef import Georef
from tiles.longitudes import turned
from tiles.vectors.wgs84 import ToWgs84

_HALF = 20037508.342789244
_MERCATOR = "+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=180 +x_0=0 +y_0=0 +k=1 +units=m +nadgrids=@null +no_defs"
_MOST_ZOOM = 24

_extents: dict[str, tuple[float, float, float, float] | None] = {}


def extent(dataset: Any) -> tuple[float, float, float, float] | None:
    """(west, south, east, north) in degrees, of which one end lies past 180 or -180; None where none does."""
    if dataset.name not in _extents:
        if len(_extents) > 64:
            _extents.clear()
        _extents[dataset.name] = _extent(dataset)
    return _extents[dataset.name]


def crosses(dataset: Any) -> bool:
    """Whether a raster lies on both sides of the antimeridian."""
    return extent(dataset) is not None


def zooms(dataset: Any) -> dict[str, Any]:
    """Bounds, zooms and where to look first. TileJSON's bounds must not wrap: they are the world's width."""
    from morecantile import tms
    from rasterio.vrt import WarpedVRT

    found = extent(dataset)
    assert found is not None
    west, south, east, north = found
    with WarpedVRT(dataset, crs=_MERCATOR) as turned_map:
        pixel, longer = turned_map.res[0], max(turned_map.width, turned_map.height)
    grid = tms.get("WebMercatorQuad")
    most = min(int(grid.zoom_for_res(pixel)), _MOST_ZOOM)
    least = int(grid.zoom_for_res(pixel * max(longer / 256, 1)))
    return {
        "bounds": [-180.0, round(south, 7), 180.0, round(north, 7)],
        "center": [round(turned((west + east) / 2), 7), round((south + north) / 2, 7), least],
        "minzoom": least,
        "maxzoom": most,
    }


def read_tile(reader: Any, x: int, y: int, z: int, size: int, **how: Any) -> Any:
    """The pixels of a tile as rio-tiler's ImageData. Raises TileOutsideBounds where the raster has none in it."""
    from rio_tiler.errors import TileOutsideBounds
    from rio_tiler.models import ImageData

    if z > 0:
        wide = 2 * _HALF / 2**z
        left, top = -_HALF + x * wide, _HALF - y * wide
        return _part(reader, (left, top - wide, left + wide, top), size, size, **how)
    sides = []
    for left in (-_HALF, 0.0):  # the one tile of zoom 0 holds both sides, each at its own edge
        try:
            sides.append(_part(reader, (left, -_HALF, left + _HALF, _HALF), size // 2, size, **how))
        except TileOutsideBounds:
            sides.append(None)
    known = next((side for side in sides if side is not None), None)
    if known is None:
        raise TileOutsideBounds("no pixels on either side")
    arrays = [np.ma.MaskedArray(np.zeros_like(known.data), True) if side is None else side.array for side in sides]
    values, masks = (np.concatenate(parts, axis=2) for parts in zip(*((a.data, _mask(a)) for a in arrays), strict=True))
    return ImageData(np.ma.MaskedArray(values, masks))


def _mask(array: Any) -> Any:
    return np.ma.getmaskarray(array)


def _part(reader: Any, bounds: tuple[float, float, float, float], width: int, height: int, **how: Any) -> Any:
    """Pixels of bounds in the usual Web Mercator that lie on one side of its middle."""
    from rasterio.crs import CRS
    from rasterio.vrt import WarpedVRT
    from rio_tiler.errors import TileOutsideBounds

    left, bottom, right, top = bounds
    shift = _HALF if right <= 0 else -_HALF
    bounds = (left + shift, bottom, right + shift, top)
    with WarpedVRT(reader.dataset, crs=_MERCATOR) as whole:
        there = whole.bounds
    if bounds[0] >= there.right or bounds[2] <= there.left or bounds[1] >= there.top or bounds[3] <= there.bottom:
        raise TileOutsideBounds("no pixels here")
    crs, own = CRS.from_user_input(_MERCATOR), _as_it_counts(reader.dataset)
    return reader.part(
        bounds, dst_crs=crs, bounds_crs=crs, width=width, height=height, vrt_options={"src_crs": own}, **how
    )


def _as_it_counts(dataset: Any) -> Any:
    """The raster's CRS; one in degrees with longitudes that go on past 180, as the raster's own do."""
    from pyproj import CRS as ProjCRS
    from rasterio.crs import CRS

    if not dataset.crs.is_geographic:
        return dataset.crs
    side = 180 if dataset.transform.c + dataset.transform.a * dataset.width / 2 > 0 else -180
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a PROJ string says less: what it says is enough for a tile
        text = ProjCRS.from_wkt(dataset.crs.to_wkt()).to_proj4()
    return CRS.from_string(f"{text} +lon_wrap={side}")


def _extent(dataset: Any) -> tuple[float, float, float, float] | None:
    if dataset.crs is None:
        return None
    try:
        found = ToWgs84(Georef(dataset.crs, dataset.transform, (dataset.height, dataset.width)))
    except (TilesError, ValueError):  # a pole: all longitudes meet there, and no tile shows it
        return None
    return found.bounds if found.crosses_antimeridian and np.isfinite(found.bounds).all() else None
