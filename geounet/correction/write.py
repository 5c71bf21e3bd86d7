"""Corrections as files: beside the map that was made with them, and with the adapter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyproj import CRS, Transformer

from geounet.correction.read import Corrections
from tiles.georef import Georef

LAYER = "corrections"
_FIXED_DATE = "2000-01-01T00:00:00.000Z"
"""A GeoPackage holds its time of writing; without a fixed one no two runs are alike."""


def write_corrections(path: Path, corrections: Corrections, georef: Georef) -> None:
    """A GeoPackage in the map's CRS: `class` and `color` of every correction, in the order they came."""
    shapes = shapely.transform(corrections.shapes, lambda points: _placed(points, georef))
    names, colours = _told(corrections)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _FIXED_DATE})
    try:
        pyogrio.raw.write(
            path,
            shapely.to_wkb(shapes),
            [np.array(names, dtype=object), np.array(colours, dtype=object)],
            ["class", "color"],
            layer=LAYER,
            driver="GPKG",
            geometry_type="Unknown",
            crs=georef.crs.to_wkt(),
        )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def as_geojson(corrections: Corrections, georef: Georef) -> dict[str, Any]:
    """A FeatureCollection in longitude and latitude, 7 decimals."""
    way = Transformer.from_crs(georef.proj_crs, CRS.from_epsg(4326), always_xy=True)

    def to_lonlat(points: Any) -> Any:
        placed = _placed(points, georef)
        return np.round(np.stack(way.transform(placed[:, 0], placed[:, 1]), axis=1), 7)

    names, colours = _told(corrections)
    shapes = shapely.transform(corrections.shapes, to_lonlat)
    return collection(
        [(shape, {"class": name, "color": colour}) for shape, name, colour in zip(shapes, names, colours, strict=True)]
    )


def collection(features: Sequence[tuple[shapely.Geometry, dict[str, Any]]]) -> dict[str, Any]:
    """Geometries in longitude and latitude with properties, as a GeoJSON FeatureCollection."""
    return {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": properties}
            for shape, properties in features
        ],
    }


def _placed(points: Any, georef: Georef) -> Any:
    t = georef.transform
    x, y = points[:, 0], points[:, 1]
    return np.stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f], axis=1)


def _told(corrections: Corrections) -> tuple[list[str], list[str]]:
    classes = [corrections.legend.classes[int(i)] for i in corrections.target]
    return [c.name for c in classes], ["#{:02x}{:02x}{:02x}".format(*c.color) for c in classes]
