"""A cap on the polygons of a map: beyond it the mapping unit is raised until they are few enough."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tiles.polygons.polygonise import PolygonBatch, default_generalisation, polygonise
from tiles.rasters.read import open_categorical
from tiles.vectors.write import write_vectors

_STEP = 4.0


def keep_polygons_few(folder: Path, formats: Sequence[str], cap: int, min_area_m2: float, simplify_px: float) -> float:
    """Make a finished map's polygons again, with a larger smallest area, while there are more than `cap`.

    What stays smaller than that area because nodata is all around it has no neighbour to join, and is left out: the
    polygons become fewer with each step, whatever the map. Returns the smallest area in square metres that they were
    made with, and notes a raised one in `summary.json`. The rasters stay as they are. Each file is replaced in one
    step; an interrupted call can be repeated.
    """
    raised = min_area_m2
    while count_of(folder / "polygons.gpkg") > cap:
        confidence = folder / "confidence.tif"
        with open_categorical(folder / "classes.tif", confidence=confidence) as raster:
            smallest, _ = default_generalisation(raster.georef)
            raised = max(raised, smallest) * (_STEP if raised else 1.0)
            batches = polygonise(
                raster.rows(),
                raster.georef,
                raster.legend,
                min_area_m2=raised,
                simplify_px=simplify_px,
                values=raster.values,
            )
            few = at_most(_large(batches, raised), cap)
            write_vectors(few, folder, formats, raster.georef, raster.legend)
    if raised != min_area_m2:
        path = folder / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        summary["polygons_raised"] = {"cap": cap, "asked_min_area_m2": min_area_m2, "min_area_m2": raised}
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return raised


def _large(batches: Iterable[PolygonBatch], least: float) -> Iterator[PolygonBatch]:
    """The polygons of at least `least` square metres."""
    for batch in batches:
        kept = batch.area_m2 >= least
        yield batch if kept.all() else _part(batch, kept)


def at_most(batches: Iterable[PolygonBatch], cap: int) -> Iterator[PolygonBatch]:
    """The batches up to the one that goes beyond `cap`: enough to see that there are too many."""
    found = 0
    for batch in batches:
        yield batch
        found += len(batch)
        if found > cap:
            return


def _part(batch: PolygonBatch, kept: npt.NDArray[np.bool_]) -> PolygonBatch:
    return PolygonBatch(**{field.name: getattr(batch, field.name)[kept] for field in fields(batch)})


def count_of(path: Path) -> int:
    """Polygons in a GeoPackage, without opening it for more."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM rtree_landcover_geom").fetchone()[0])
