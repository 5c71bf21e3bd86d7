"""The process that reads rasters for the API: one JSON request a line on standard input.

Web-map tiles and points of maps and of the scenes below them. A scene is a stranger's file: it is opened with the
GTiff driver only, in a fenced process, and a crash in here costs one answer. Answers are a JSON line with the length
of the bytes that follow it.
"""

import io
import json
import math
import sys
from collections import OrderedDict
from collections.abc import Mapping
from importlib import import_module
from typing import IO, Any

import numpy as np

from geounet.service.processes import antimeridian
from geounet.service.processes.sandbox.decoders import KEPT_DRIVERS, load_decoders
from geounet.service.processes.sandbox.kernel import Fence, enter
from geounet.service.processes.sandbox.limits import die_with_parent, fence
from tiles.longitudes import nearest_turn

TILE_PIXELS = 256
_MOST_PIXELS = 64_000_000
_OPEN = 8


class Rasters:
    """Open datasets, the most recently used ones."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Any] = OrderedDict()

    def get(self, path: str) -> Any:
        """A rasterio dataset."""
        from tiles.scene.source import open_dataset

        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        dataset = open_dataset(path)
        self._open[path] = dataset
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        return dataset


class Missing(Exception):  # noqa: N818 - not an error: the answer is "nothing there"
    """There is nothing to show at this place."""


def answer(request: Mapping[str, Any], rasters: Rasters) -> tuple[dict[str, Any], bytes]:
    """Answer one request: (JSON part, bytes). Raises Missing.

    `want` is tile, point, zooms, regions (a vector tile of a class raster), zone (what a polygon covers) or picture.
    """
    want = request["want"]
    if want == "tile":
        return {}, _tile(request, rasters)
    if want == "point":
        return _point(request, rasters), b""
    if want in _MORE:
        return _MORE[want](request, rasters)
    return _zooms(rasters.get(request["path"])), b""


def _tile(request: Mapping[str, Any], rasters: Rasters) -> bytes:
    if request["layer"] == "scene":
        return _scene_tile(request, rasters.get(request["path"]))
    from rio_tiler.errors import TileOutsideBounds
    from rio_tiler.io import Reader

    dataset = rasters.get(request["path"])
    place = (request["x"], request["y"], request["z"])
    layer = request["layer"]
    try:
        with Reader(None, dataset=dataset) as reader:
            if not dataset.overviews(1) and _pixels_under(reader, place) > _MOST_PIXELS:
                raise Missing("the raster has no overviews and the tile covers too much of it: zoom in")
            image = _read(reader, place, indexes=1, resampling_method="nearest")
    except TileOutsideBounds as error:
        raise Missing("the map has no pixels in this tile") from error
    table = _chosen(dataset.colormap(1), request.get("classes")) if layer == "classes" else _ramp()
    return _png(image, table)


def _read(reader: Any, place: tuple[int, int, int], **how: Any) -> Any:
    """The pixels of a tile. Raises TileOutsideBounds."""
    if antimeridian.crosses(reader.dataset):
        return antimeridian.read_tile(reader, *place, TILE_PIXELS, **how)
    return reader.tile(*place, tilesize=TILE_PIXELS, **how)


def _scene_tile(request: Mapping[str, Any], dataset: Any) -> bytes:
    from rio_tiler.models import ImageData

    from tiles.rasters.web_tile import web_tile

    if dataset.crs is None:
        raise Missing("the scene has no CRS of its own grid")
    shown = _shown(dataset, request.get("bands"))
    place = (request["x"], request["y"], request["z"])
    if antimeridian.crosses(dataset):
        return _tile_across(dataset, place, shown)
    made = web_tile(dataset, place, shown, TILE_PIXELS)
    if made is None:
        raise Missing("the scene has no pixels in this tile")
    image = ImageData(np.ma.MaskedArray(made.values, np.broadcast_to(~made.valid, made.values.shape)))
    image.rescale(_stretch(dataset, shown))
    return _png(image)


def _tile_across(dataset: Any, place: tuple[int, int, int], shown: tuple[int, ...]) -> bytes:
    """A tile of a scene that lies on both sides of the antimeridian."""
    from rio_tiler.errors import TileOutsideBounds
    from rio_tiler.io import Reader

    try:
        with Reader(None, dataset=dataset) as reader:
            image = _read(reader, place, indexes=shown)
    except TileOutsideBounds as error:
        raise Missing("the scene has no pixels in this tile") from error
    image.rescale(_stretch(dataset, shown))
    return _png(image)


def _pixels_under(reader: Any, place: tuple[int, int, int]) -> float:
    """Pixels of the raster that a tile covers, about: both sizes in Web Mercator."""
    dataset = reader.dataset
    west, south, east, north = antimeridian.extent(dataset) or reader.get_geographic_bounds("EPSG:4326")
    degrees = max((east - west) * (north - south), 1e-12)
    tile = (360 / 2 ** place[2]) ** 2
    return float(dataset.width * dataset.height * min(1.0, tile / degrees))


def _ramp() -> dict[int, tuple[int, int, int, int]]:
    """0-100 % from dark violet to yellow, for the confidence."""
    low, high = np.array([68, 1, 84]), np.array([253, 231, 37])
    mixed = ((low + (high - low) * v / 100).astype(int).tolist() for v in range(101))
    return {v: (red, green, blue, 255) for v, (red, green, blue) in enumerate(mixed)}


def _shown(dataset: Any, bands: Mapping[str, int] | None) -> tuple[int, ...]:
    """Numbers of the bands to show as red, green and blue, or one as grey."""
    if bands and {"red", "green", "blue"} <= set(bands):
        return tuple(bands[name] for name in ("red", "green", "blue"))
    named = {(d or "").lower(): n for n, d in zip(dataset.indexes, dataset.descriptions, strict=True)}
    if {"red", "green", "blue"} <= set(named):
        return tuple(named[name] for name in ("red", "green", "blue"))
    return (1, 2, 3) if dataset.count >= 3 else (1,)


_stretches: dict[tuple[str, tuple[int, ...]], tuple[tuple[float, float], ...]] = {}


def _stretch(dataset: Any, indexes: tuple[int, ...]) -> tuple[tuple[float, float], ...]:
    """(dark, bright) of each band: 2 % and 98 % of the valid pixels in a sample; bytes are shown as they are."""
    if dataset.dtypes[0] == "uint8":
        return tuple((0.0, 255.0) for _ in indexes)
    key = (dataset.name, indexes)
    if key not in _stretches:
        _stretches[key] = tuple(_sampled(dataset, index) for index in indexes)
        if len(_stretches) > 64:
            _stretches.pop(next(iter(_stretches)))
    return _stretches[key]


def _sampled(dataset: Any, index: int) -> tuple[float, float]:
    from rasterio.windows import Window

    if dataset.overviews(index):
        values = dataset.read(index, out_shape=(512, 512), masked=True)
    else:
        half = 512
        left, top = max(dataset.width // 2 - half, 0), max(dataset.height // 2 - half, 0)
        window = Window(left, top, min(2 * half, dataset.width), min(2 * half, dataset.height))
        values = dataset.read(index, window=window, masked=True)
    found = values.compressed().astype(np.float64)
    found = found[np.isfinite(found)]
    if not len(found):
        return 0.0, 1.0
    dark, bright = np.percentile(found, [2, 98])
    return float(dark), float(max(bright, dark + 1e-6))


def _point(request: Mapping[str, Any], rasters: Rasters) -> dict[str, Any]:
    """Values of the rasters in `paths` at a longitude and latitude, None outside or where there is nodata."""
    from pyproj import Transformer

    found: dict[str, Any] = {}
    for name, path in request["paths"].items():
        dataset = rasters.get(path)
        to_map = Transformer.from_crs("OGC:CRS84", dataset.crs.to_wkt(), always_xy=True)
        x, y = to_map.transform(request["lon"], request["lat"])
        found[name] = None
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        if dataset.crs.is_geographic:  # its longitudes may run past 180: the place is where the pixels are
            x = nearest_turn(x, dataset.transform.c + dataset.transform.a * dataset.width / 2)
        back = ~dataset.transform
        column, row = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
        if 0 <= column < dataset.width and 0 <= row < dataset.height:
            window = ((int(row), int(row) + 1), (int(column), int(column) + 1))
            value = int(dataset.read(1, window=window)[0, 0])
            found[name] = None if value == dataset.nodata else value
    return found


def _chosen(table: dict[int, Any], classes: list[int] | None) -> dict[int, Any]:
    """The colour table with every class but the chosen ones transparent; None: all of them."""
    if classes is None:
        return table
    return {value: colour if value in classes else (0, 0, 0, 0) for value, colour in table.items()}


def _regions(request: Mapping[str, Any], rasters: Rasters) -> tuple[dict[str, Any], bytes]:
    """A vector tile of the regions of a class raster, as coarse as the tile's pixels are."""
    from rio_tiler.errors import TileOutsideBounds
    from rio_tiler.io import Reader

    from tiles.rasters.tile_regions import tile_regions
    from tiles.vectors.mvt import TileFeatures, encode_tile

    dataset = rasters.get(request["path"])
    place = (request["x"], request["y"], request["z"])
    try:
        with Reader(None, dataset=dataset) as reader:
            image = reader.tile(*place, tilesize=512, buffer=_MARGIN, indexes=1, resampling_method="nearest")
    except TileOutsideBounds as error:
        raise Missing("the map has no pixels in this tile") from error
    classes = image.array[0].filled(255).astype(np.uint8)
    polygons, values = tile_regions(classes, _MARGIN)
    names = {int(value): name for value, name in request["names"].items()}
    properties = {
        "class_id": [int(value) for value in values],
        "class_name": [names.get(int(value), f"class {value}") for value in values],
    }
    return {}, encode_tile(request["layer"], TileFeatures(polygons, properties))


def _zone(request: Mapping[str, Any], rasters: Rasters) -> tuple[dict[str, Any], bytes]:
    """What a polygon, WKT in pixels of the grid, covers of a class raster."""
    from dataclasses import asdict

    import shapely

    from tiles.georef import Georef
    from tiles.rasters.zonal import zonal_counts

    classes, confidence = rasters.get(request["classes"]), rasters.get(request["confidence"])
    georef = Georef(classes.crs, classes.transform, (classes.height, classes.width))
    found = zonal_counts(classes, confidence, georef, shapely.from_wkt(request["polygon"]))
    return {"zones": [asdict(zone) for zone in found]}, b""


def _ready(request: Mapping[str, Any], rasters: Rasters) -> tuple[dict[str, Any], bytes]:
    """Nothing: a process that answers has loaded what it needs."""
    return {}, b""


def _picture(request: Mapping[str, Any], rasters: Rasters) -> tuple[dict[str, Any], bytes]:
    """A small PNG of a scene, on its own grid; of one band in grey where `band` is given."""
    from rio_tiler.models import ImageData

    dataset = rasters.get(request["path"])
    if not dataset.overviews(1) and dataset.width * dataset.height > _MOST_PIXELS:
        raise Missing("the scene has no overviews and is too large for a picture")
    band = request.get("band")
    if band is not None and band > dataset.count:
        raise Missing(f"the scene has {dataset.count} bands")
    indexes = (band,) if band else _shown(dataset, request.get("bands"))
    scale = min(1.0, request["size"] / max(dataset.width, dataset.height))
    shape = (max(int(dataset.height * scale), 1), max(int(dataset.width * scale), 1))
    image = ImageData(dataset.read(indexes, out_shape=(len(indexes), *shape), masked=True))
    image.rescale(_stretch(dataset, indexes))
    return {}, _png(image)


def _png(image: Any, table: Mapping[int, tuple[int, int, int, int]] | None = None) -> bytes:
    """A picture as PNG, what is masked transparent. By Pillow: GDAL has no driver for it behind the fence."""
    from PIL import Image

    seen = np.asarray(image.mask)
    if table is not None:
        colours = np.zeros((256, 4), np.uint8)
        for value, colour in table.items():
            colours[value] = colour
        pixels = colours[image.data[0]]
        pixels[seen == 0] = 0
    else:
        pixels = np.dstack([*image.data.astype(np.uint8), seen])
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=2)
    return out.getvalue()


_MARGIN = 8
_MORE = {"ready": _ready, "regions": _regions, "zone": _zone, "picture": _picture}


def _zooms(dataset: Any) -> dict[str, Any]:
    """Bounds in degrees, the zooms with something new in their tiles, and where to look first: lon, lat, zoom."""
    from rio_tiler.io import Reader

    if dataset.crs is None:
        raise Missing("the scene has no CRS of its own grid")
    with Reader(None, dataset=dataset) as reader:
        if antimeridian.crosses(dataset):
            return {**antimeridian.zooms(dataset), "minzoom": _first_zoom(reader)}
        west, south, east, north = (round(v, 7) for v in reader.get_geographic_bounds("EPSG:4326"))
        most = min(int(reader.maxzoom), 24)
        centre = [round((west + east) / 2, 7), round((south + north) / 2, 7), min(int(reader.minzoom), most)]
        told = {"bounds": [west, south, east, north], "center": centre}
        return {**told, "minzoom": min(_first_zoom(reader), most), "maxzoom": most}


def _first_zoom(reader: Any) -> int:
    """The lowest zoom that `_tile` answers at: any with overviews."""
    if reader.dataset.overviews(1):
        return 0
    return next((z for z in range(24) if _pixels_under(reader, (0, 0, z)) <= _MOST_PIXELS), 24)


def serve(requests: IO[str], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    import rasterio

    from tiles.errors import TilesError

    rasters = Rasters()
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO", GDAL_CACHEMAX=64_000_000):
        for line in requests:
            body = b""
            try:
                told, body = answer(json.loads(line), rasters)
            except Missing as error:
                told = {"missing": str(error)}
            except (TilesError, rasterio.errors.RasterioError, MemoryError, ValueError, RuntimeError) as error:
                told = {"error": type(error).__name__, "detail": str(error)}
            answers.write(json.dumps({**told, "bytes": len(body)}).encode() + b"\n" + body)
            answers.flush()


def _load_tiler() -> None:
    """Import what tiles need before the fence goes up."""
    for name in (
        "PIL.PngImagePlugin",
        "rasterio.features",
        "rio_tiler.io",
        "rio_tiler.models",
        "tiles.rasters.tile_regions",
        "tiles.rasters.web_tile",
        "tiles.rasters.zonal",
    ):
        import_module(name)


def main() -> None:
    """Serve the process that started this one."""
    import warnings

    die_with_parent()
    warnings.simplefilter("ignore")  # a scene without overviews is no news here
    limits = json.loads(sys.stdin.readline())
    fence(memory=limits["memory"], file_bytes=0)
    load_decoders((*KEPT_DRIVERS, "Memory"))  # what turns regions into polygons works in memory
    _load_tiler()
    enter(Fence(**limits["fence"]))
    serve(sys.stdin, sys.stdout.buffer)


if __name__ == "__main__":
    main()
