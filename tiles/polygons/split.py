"""Cutting polygons that are too large for readers: GDAL, for one, stops at 200 MB a GeoJSON feature."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import shapely

from tiles.errors import VectorError
from tiles.georef import Georef
from tiles.polygons.polygonise import PolygonBatch

Objects = npt.NDArray[np.object_]

_FEWEST = 64


def split_large(batches: Iterable[PolygonBatch], georef: Georef, most_vertices: int) -> Iterator[PolygonBatch]:
    """Cuts polygons of more than `most_vertices` vertices in halves, again and again, along lines of the CRS.

    Parts keep the region's class and confidence; area, perimeter and pixels are shared out by the parts' size. The
    first part keeps the region's `fid`, the k-th after it adds k times the number of places on the Hilbert curve.
    Where a cut crosses a boundary only this side has a vertex. Raises VectorError for a limit below 64.
    """
    if most_vertices < _FEWEST:
        raise VectorError(f"polygons cannot be cut down to {most_vertices} vertices: allow at least {_FEWEST}")
    places = (1 << max(max(georef.shape) - 1, 1).bit_length()) ** 2
    for batch in batches:
        large = shapely.get_num_coordinates(batch.geometries) > most_vertices
        if not large.any():
            yield batch
            continue
        parts = [_parts(g, most_vertices) if cut else [g] for g, cut in zip(batch.geometries, large, strict=True)]
        yield _shared_out(batch, parts, places)


def _parts(polygon: shapely.Polygon, most_vertices: int) -> list[shapely.Polygon]:
    """Polygons of at most `most_vertices` vertices, from west to east and south to north."""
    if shapely.get_num_coordinates(polygon) <= most_vertices:
        return [polygon]
    west, south, east, north = polygon.bounds
    if east - west >= north - south:
        middle = (west + east) / 2
        halves = [shapely.box(west, south, middle, north), shapely.box(middle, south, east, north)]
    else:
        middle = (south + north) / 2
        halves = [shapely.box(west, south, east, middle), shapely.box(west, middle, east, north)]
    pieces = shapely.get_parts(shapely.intersection(polygon, np.array(halves)))
    polygons = [p for p in pieces if p.geom_type == "Polygon" and not p.is_empty]
    return [part for piece in polygons for part in _parts(piece, most_vertices)]


def _shared_out(batch: PolygonBatch, parts: list[list[shapely.Polygon]], places: int) -> PolygonBatch:
    numbers = np.array([len(p) for p in parts])
    source = np.repeat(np.arange(len(parts)), numbers)
    nth = np.arange(len(source)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    geometries = np.array([g for p in parts for g in p], dtype=object)
    size = shapely.area(geometries) / shapely.area(batch.geometries)[source]
    # A part's boundary has the scale of the whole one's.
    length = shapely.length(geometries) / shapely.length(batch.geometries)[source]
    return replace(
        batch,
        geometries=geometries,
        fid=batch.fid[source] + nth * places,
        class_id=batch.class_id[source],
        class_name=batch.class_name[source],
        area_m2=batch.area_m2[source] * size,
        perimeter_m=batch.perimeter_m[source] * length,
        confidence=batch.confidence[source],
        pixel_count=np.rint(batch.pixel_count[source] * size).astype(np.int64),
    )
