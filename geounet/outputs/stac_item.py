"""A finished map as a STAC 1.1 Item: where it lies, what its files hold, which model made it.

Fields follow the STAC Item specification 1.1.0, its common metadata (bands, `data_type`, `nodata`, `unit`), the
Projection Extension 2.0.0 and the Classification Extension 2.0.0. The same map gives the same item.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geounet.model.bundle import ModelBundle
from geounet.outputs.files import CLASSES, COG, MAP_FILES, PROBABILITIES, MapFile
from tiles.errors import VectorError
from tiles.georef import Georef
from tiles.legend import Legend
from tiles.longitudes import turned_extent
from tiles.scene.scene import Scene
from tiles.scene.source import gdal_environment, open_dataset
from tiles.vectors.wgs84 import ToWgs84

_EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/v2.0.0/schema.json" for name in ("projection", "classification")
)
_NODATA = 255
# Nobody knows when the scene was taken, and STAC wants an interval then: from the first to the last moment that RFC
# 3339 can write.
_UNKNOWN_TIME = {
    "datetime": None,
    "start_datetime": "0001-01-01T00:00:00Z",
    "end_datetime": "9999-12-31T23:59:59Z",
}


def stac_item(scene: Scene, bundle: ModelBundle, summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The Item of the map whose files lie in `folder`; `summary` is the one of `summary.json`.

    Assets are relative to the folder. Raises SceneError where the scene's tags cannot be read any more.
    """
    name, georef = scene.name, scene.georef
    geometry, bbox = _footprint(georef)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": f"{re.sub(r'[^A-Za-z0-9._-]+', '-', Path(name).stem)}-{summary['request']['digest'][:12]}",
        "geometry": geometry,
        **({"bbox": bbox} if bbox else {}),
        "properties": {
            "title": f"Land cover of {name}",
            **_time(scene.path),
            "gsd": round(georef.gsd, 4),
            **_projection(georef),
            "geounet:model": summary["model"],
        },
        "links": [],
        "assets": {f.name: _asset(f, bundle.legend) for f in MAP_FILES if f.roles and (folder / f.name).is_file()},
    }


def _time(scene: str) -> dict[str, Any]:
    """When the scene was made, as the TIFF tag DateTime says it: without a time zone, and so taken for UTC."""
    with gdal_environment(scene), open_dataset(scene, trust=True) as dataset:
        text = dataset.tags().get("TIFFTAG_DATETIME", "")
    try:
        told = datetime.strptime(text.strip(), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return {**_UNKNOWN_TIME, "geounet:datetime_source": "unknown"}
    source = "the scene's TIFF tag DateTime, which names no time zone: taken for UTC"
    return {"datetime": f"{told.isoformat()}Z", "geounet:datetime_source": source}


def _footprint(georef: Georef) -> tuple[dict[str, Any] | None, list[float] | None]:
    """The raster's outline and bounds in WGS 84 (RFC 7946, so west > east across the antimeridian).

    Neither for a raster that holds a pole: there is no such polygon.
    """
    (rows, cols), t = georef.shape, georef.transform
    pixels = ((0, 0), (0, rows), (cols, rows), (cols, 0))
    corners = [(t.a * c + t.b * r + t.c, t.d * c + t.e * r + t.f) for c, r in pixels]
    try:
        to_wgs84 = ToWgs84(georef)
        outline = to_wgs84.polygons(np.array([shapely.Polygon(corners)], dtype=object))[0]
    except VectorError:
        return None, None
    west, south, east, north = to_wgs84.bounds
    west, east = turned_extent(west, east)
    bbox = [west, south, east, north]
    return shapely.geometry.mapping(shapely.orient_polygons(outline)), [round(v, 7) for v in bbox]


def _projection(georef: Georef) -> dict[str, Any]:
    authority = georef.proj_crs.to_authority()
    crs = {"proj:code": ":".join(authority)} if authority else {"proj:projjson": georef.proj_crs.to_json_dict()}
    shape, transform = list(georef.shape), list(georef.transform)[:6]
    return {**crs, "proj:shape": shape, "proj:transform": transform, "proj:bbox": list(georef.bounds())}


def _asset(file: MapFile, legend: Legend) -> dict[str, Any]:
    asset: dict[str, Any] = {
        "href": f"./{file.name}",
        "title": file.what,
        "type": file.media_type,
        "roles": list(file.roles),
    }
    if file.media_type == COG:
        asset |= {"data_type": "uint8", "nodata": _NODATA}
    if file.name == CLASSES:
        asset["classification:classes"] = [
            {
                "value": c.value,
                "name": _plain(c.name),
                "title": c.name,
                "color_hint": "{:02X}{:02X}{:02X}".format(*c.color),
            }
            for c in legend.classes
        ]
    elif file.media_type == COG:
        asset["unit"] = "%"
    if file.name == PROBABILITIES:
        asset["bands"] = [{"name": c.name} for c in legend.classes]
    return asset


def _plain(name: str) -> str:
    """A class name as the extension wants it: letters, digits, `-` and `_`."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name)
