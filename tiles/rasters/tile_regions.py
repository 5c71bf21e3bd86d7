"""The regions of a small picture of classes as polygons that fit, for tiles that show a map from far away."""

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import shapes, sieve
from rasterio.transform import Affine

from tiles.legend import NODATA
from tiles.vectors.mvt import EXTENT

_SPECK = 4
"""Regions of fewer pixels than this join their largest neighbour: on a screen they are grains."""


def tile_regions(classes: npt.NDArray[np.uint8], margin: int) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.uint8]]:
    """(polygons, the class of each) of a square picture of classes, nodata (255) left out.

    `classes`, shape (n, n), shows a tile and `margin` pixels around it. Coordinates are whole units of the tile's
    grid (`tiles.vectors.mvt.EXTENT`) from its upper left corner, y down. Neighbours share their borders exactly.
    """
    unit = EXTENT / (classes.shape[0] - 2 * margin)
    valid = classes != NODATA
    if not valid.any():
        return np.empty(0, object), np.empty(0, np.uint8)
    joined = sieve(classes, size=_SPECK, mask=valid)
    grid = Affine(unit, 0, -margin * unit, 0, unit, -margin * unit)
    found = list(shapes(joined, mask=valid, transform=grid))
    polygons = np.empty(len(found), object)
    for index, (geometry, _) in enumerate(found):
        outer, *holes = geometry["coordinates"]
        polygons[index] = shapely.Polygon(outer, holes)
    return polygons, np.array([value for _, value in found], np.uint8)
