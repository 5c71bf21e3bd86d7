"""An area that a client has drawn, in any CRS, on a map's own grid."""

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from pyproj.exceptions import CRSError, ProjError

from geounet.service.errors import BadRequestError
from geounet.service.features.crs_uri import named
from geounet.service.features.layer import FeatureLayer
from geounet.service.features.transformers import Geometries, transformer

_PIECES = 64


@dataclass(frozen=True)
class MapArea:
    """A polygon on a map: in the layer's CRS, and in pixels (column, row) of its raster."""

    polygon: shapely.Geometry
    pixels: shapely.Geometry

    def cut(self, geometries: Geometries) -> Geometries:
        """The polygonal part of each geometry inside the area; empty where only a line or a point is."""
        shapely.prepare(self.polygon)
        out = geometries.copy()
        for i in np.flatnonzero(~shapely.contains_properly(self.polygon, geometries)):
            flat = shapely.get_parts(shapely.get_parts(shapely.intersection(geometries[i], self.polygon)))
            polygons = [p for p in flat if p.geom_type == "Polygon" and not p.is_empty]
            out[i] = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
        return out


def area_on_map(polygon: shapely.Geometry, uri: str, layer: FeatureLayer) -> MapArea:
    """A valid polygon, given in the CRS of a URI and in its axis order, on the map; its edges bend as the CRS does.

    Raises BadRequestError for a CRS that nobody knows, and for a place that the map's CRS has not.
    """
    try:
        crs = named(uri)
    except (CRSError, ValueError) as error:
        raise BadRequestError(f"there is no CRS '{uri}': name one as .../def/crs/EPSG/0/NUMBER", "crs") from error
    west, south, east, north = polygon.bounds
    fine = shapely.segmentize(polygon, max(east - west, north - south, 1e-9) / _PIECES)
    xy = shapely.get_coordinates(fine)
    xy = xy[:, ::-1] if crs.swapped else xy
    try:
        moved = np.column_stack(transformer(crs.crs, layer.crs).transform(xy[:, 0], xy[:, 1]))
    except ProjError as error:
        raise BadRequestError("the area cannot be brought to the map's CRS", "geometry") from error
    if not np.isfinite(moved).all():
        raise BadRequestError("the area lies where the map's CRS has no places", "geometry")
    there = shapely.make_valid(shapely.transform(fine, lambda _: moved))
    t = ~Affine(*layer.summary["grid"]["transform"])
    x, y = shapely.get_coordinates(there).T
    pixels = np.column_stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f])
    return MapArea(there, shapely.transform(there, lambda _: pixels))
