"""A cap on the polygons of a map: beyond it the mapping unit is raised until they are few enough."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geounet.outputs.files import CLASSES, CONFIDENCE
from tiles.polygons.polygonise import PolygonBatch, default_generalisation, polygonise
from tiles.rasters.read import open_categorical
from tiles.vectors.write import write_vectors

_STEP = 4.0


@dataclass
class PolygonLimit:
    """Passes polygons on and counts them; stops behind the batch that goes beyond `cap`."""

    cap: int
    found: int = 0

    def watch(self, batches: Iterable[PolygonBatch]) -> Iterator[PolygonBatch]:
        """The batches up to the one that goes beyond: enough to see that there are too many."""
        for batch in batches:
            yield batch
            self.found += len(batch)
            if self.exceeded:
                return

    @property
    def exceeded(self) -> bool:
        """There are too many."""
        return self.found > self.cap


def keep_polygons_few(folder: Path, formats: Sequence[str], cap: int, min_area_m2: float, simplify_px: float) -> float:
    """Make the polygons of an unpublished map, of which there are more than `cap`, with a larger smallest area.

    What stays smaller than that area because nodata is all around it has no neighbour to join, and is left out: the
    polygons become fewer with each step, whatever the map. Returns the smallest area in square metres that they were
    made with. The rasters stay as they are.
    """
    raised, few = min_area_m2, PolygonLimit(cap, cap + 1)
    with open_categorical(folder / CLASSES, confidence=folder / CONFIDENCE) as raster:
        smallest, _ = default_generalisation(raster.georef)
        while few.exceeded:
            raised, few = max(raised, smallest) * (_STEP if raised else 1.0), PolygonLimit(cap)
            made = polygonise(
                raster.rows(),
                raster.georef,
                raster.legend,
                min_area_m2=raised,
                simplify_px=simplify_px,
                values=raster.values,
            )
            write_vectors(few.watch(_large(made, raised)), folder, formats, raster.georef, raster.legend)
    return raised


def _large(batches: Iterable[PolygonBatch], least: float) -> Iterator[PolygonBatch]:
    """The polygons of at least `least` square metres."""
    for batch in batches:
        kept = batch.area_m2 >= least
        yield batch if kept.all() else _part(batch, kept)


def _part(batch: PolygonBatch, kept: npt.NDArray[np.bool_]) -> PolygonBatch:
    return PolygonBatch(**{field.name: getattr(batch, field.name)[kept] for field in fields(batch)})
