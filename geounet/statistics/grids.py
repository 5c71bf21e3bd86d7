"""Two maps on one grid: the finer one brought to the coarser, strip by strip."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geounet.errors import StatisticsError
from geounet.outputs.files import CONFIDENCE
from geounet.statistics.maps import open_map
from geounet.statistics.zones import channels, zones_on
from tiles.georef import Georef
from tiles.legend import NODATA, Legend
from tiles.rasters.read import Categorical
from tiles.scene.source import gdal_environment, open_dataset
from tiles.window import Window

Bytes = npt.NDArray[np.uint8]
_SAME = 1e-6
"""In pixels: how far two transforms may differ and be one grid."""


class Aligned(Protocol):
    """A map on the common grid."""

    @property
    def legend(self) -> Legend:
        """Its own legend."""
        ...

    def rows(self, first: int, last: int) -> tuple[Bytes, Bytes]:
        """Rows `first` to `last`: places of the classes in `legend` (255: nodata), confidence 0-100 (255: unknown)."""
        ...


@dataclass(frozen=True)
class _AsItIs:
    raster: Categorical

    @property
    def legend(self) -> Legend:
        return self.raster.legend

    def rows(self, first: int, last: int) -> tuple[Bytes, Bytes]:
        codes, confidence = self.raster.read(Window(first, 0, last - first, self.raster.georef.shape[1]))
        places = channels(self.raster)[codes]
        return np.where(places == len(self.legend), NODATA, places).astype(np.uint8), confidence


@dataclass(frozen=True)
class _Resampled:
    """Classes by the most frequent one under each pixel, confidence by the mean."""

    legend: Legend
    classes: WarpedVRT
    confidence: WarpedVRT | None

    def rows(self, first: int, last: int) -> tuple[Bytes, Bytes]:
        window = RasterioWindow(0, first, self.classes.width, last - first)
        values = self.classes.read(1, window=window)
        places = np.full(256, NODATA, np.uint8)
        places[self.legend.values] = np.arange(len(self.legend))
        if self.confidence is None:
            return places[values], np.full(values.shape, NODATA, np.uint8)
        return places[values], np.asarray(self.confidence.read(1, window=window))


@contextmanager
def aligned(one: Path, other: Path) -> Iterator[tuple[tuple[Aligned, Aligned], Georef, str | None]]:
    """Both maps on the coarser one's grid, that grid, and which map was resampled to it (None: they share theirs).

    Raises StatisticsError where they do not touch, or where the finer one holds more than bytes.
    """
    with ExitStack() as stack:
        first, second = (stack.enter_context(open_map(path)) for path in (one, other))
        if _one_grid(first.georef, second.georef):
            yield (_AsItIs(first), _AsItIs(second)), first.georef, None
            return
        _check_touching(first, second)
        if first.georef.gsd >= second.georef.gsd:
            yield (_AsItIs(first), _resampled(stack, second, first.georef)), first.georef, str(other)
        else:
            yield (_resampled(stack, first, second.georef), _AsItIs(second)), second.georef, str(one)


def _one_grid(one: Georef, other: Georef) -> bool:
    if one.shape != other.shape or not one.proj_crs.equals(other.proj_crs, ignore_axis_order=True):
        return False
    moved = ~one.transform @ other.transform
    rows, columns = one.shape
    corners = [moved @ corner for corner in ((0, 0), (columns, 0), (0, rows), (columns, rows))]
    wanted = [(0, 0), (columns, 0), (0, rows), (columns, rows)]
    return bool(np.allclose(corners, wanted, atol=_SAME * max(rows, columns), rtol=0))


def _check_touching(one: Categorical, other: Categorical) -> None:
    rows, columns = other.georef.shape
    t = other.georef.transform
    corners = [t @ corner for corner in ((0, 0), (columns, 0), (columns, rows), (0, rows))]
    (zone,) = zones_on({"map": shapely.Polygon(corners)}, other.georef.proj_crs, one.georef)
    if zone.pixels is None or not shapely.intersects(zone.pixels, shapely.box(0, 0, *one.georef.shape[::-1])):
        raise StatisticsError(f"{one.path} and {other.path} do not touch: there is nothing to compare")


def _resampled(stack: ExitStack, raster: Categorical, grid: Georef) -> _Resampled:
    stack.enter_context(gdal_environment(raster.path))
    classes = stack.enter_context(open_dataset(raster.path))
    if classes.dtypes[0] != "uint8":
        raise StatisticsError(f"{raster.path} holds {classes.dtypes[0]} values on another grid: make it bytes first")
    beside = Path(raster.path).with_name(CONFIDENCE)
    known = stack.enter_context(open_dataset(beside)) if raster.has_confidence and beside.is_file() else None
    nodata = None if classes.nodata is None else classes.nodata
    return _Resampled(
        raster.legend,
        stack.enter_context(_warped(classes, grid, Resampling.mode, nodata)),
        None if known is None else stack.enter_context(_warped(known, grid, Resampling.average, NODATA)),
    )


def _warped(dataset: Any, grid: Georef, resampling: Resampling, nodata: float | None) -> WarpedVRT:
    rows, columns = grid.shape
    return WarpedVRT(
        dataset,
        crs=rasterio.crs.CRS.from_wkt(grid.crs.to_wkt()),
        transform=grid.transform,
        width=columns,
        height=rows,
        resampling=resampling,
        src_nodata=nodata,
        nodata=NODATA,
    )
