"""Points to be checked by somebody who looks at the imagery: a stratified random sample of a map.

Olofsson et al. 2014, section 5.1: the classes of the map are the strata; the points are shared out by area, but rare
classes get enough of them to say something.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geounet.errors import StatisticsError
from tiles.georef import Georef
from tiles.legend import Legend
from tiles.rasters.read import Categorical

LEAST = 10
"""Points that every class gets at least, where there is room for that many."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SamplePoints:
    """Pixels of a map, in the order in which they are to be looked at, with the `value` mapped there."""

    row: Ints
    column: Ints
    value: Ints


def draw_sample(raster: Categorical, number: int, *, by_class: bool = True, seed: int = 0) -> SamplePoints:
    """`number` pixels at random, without repetition; with `by_class`, shared out over the classes.

    The raster is read twice, strip by strip. The same raster, number and seed give the same points. Raises
    StatisticsError where the map has fewer pixels than that, or too few points for its classes.
    """
    counts = np.zeros(len(raster.values), np.int64)
    for codes, _ in raster.rows():
        counts += np.bincount(codes.ravel(), minlength=len(counts))[: len(counts)]  # nodata comes behind the values
    if number > counts.sum():
        raise StatisticsError(
            f"{raster.path} has {counts.sum()} mapped pixels, fewer than the {number} points asked for"
        )
    rng = np.random.default_rng(seed)
    strata = [np.flatnonzero(counts)] if not by_class else [np.array([v]) for v in np.flatnonzero(counts)]
    sizes = np.array([counts[values].sum() for values in strata])
    wanted = shared_out(number, sizes)
    if wanted.min() < 2:
        raise StatisticsError(f"{number} points are too few for {len(strata)} classes: take at least {2 * len(strata)}")
    stratum = np.full(65_536, -1, np.int64)
    for index, values in enumerate(strata):
        stratum[values] = index
    # Ranks among the pixels of each stratum, in the order in which the raster is read.
    ranks = [np.sort(rng.choice(size, n, replace=False)) for size, n in zip(sizes, wanted, strict=True)]
    found = _at_ranks(raster, stratum, ranks)
    order = rng.permutation(len(found.row))  # looked at in any order, a part of the sample is a sample too
    return SamplePoints(found.row[order], found.column[order], found.value[order])


def shared_out(number: int, sizes: Ints) -> Ints:
    """Points a stratum: by size, but at least `LEAST` where those fit, never more than it has.

    They add up to `number`, which is at most the sum of `sizes`.
    """
    least = np.minimum(sizes, min(LEAST, number // len(sizes)))
    points = least.copy()
    while (left := number - points.sum()) > 0:
        room = np.where(points < sizes, sizes, 0)
        share = left * room / room.sum()
        more = np.minimum(np.floor(share).astype(np.int64), sizes - points)
        if not more.any():
            more[np.argmax(np.where(points < sizes, share, -1))] = 1
        points += more
    return points


def _at_ranks(raster: Categorical, stratum: Ints, ranks: list[Ints]) -> SamplePoints:
    passed = np.zeros(len(ranks), np.int64)
    top, rows, columns, values = 0, [], [], []
    for codes, _ in raster.rows():
        strata = stratum[codes]
        for index, wanted in enumerate(ranks):
            here = np.flatnonzero(strata.ravel() == index)
            inside = wanted[(wanted >= passed[index]) & (wanted < passed[index] + len(here))] - passed[index]
            at = here[inside]
            rows.append(at // codes.shape[1] + top)
            columns.append(at % codes.shape[1])
            values.append(raster.values[codes.ravel()[at]])
            passed[index] += len(here)
        top += len(codes)
    return SamplePoints(np.concatenate(rows), np.concatenate(columns), np.concatenate(values))


def sample_frame(points: SamplePoints, georef: Georef, legend: Legend) -> Any:
    """The points as a GeoDataFrame in the map's CRS: `id`, `mapped`, and an empty `reference` to be filled in."""
    import geopandas

    t = georef.transform
    x, y = points.column + 0.5, points.row + 0.5
    return geopandas.GeoDataFrame(
        {
            "id": np.arange(1, len(points.row) + 1),
            "mapped": [legend.name_of(int(v)) for v in points.value],
            "reference": np.full(len(points.row), None, dtype=object),
        },
        geometry=geopandas.points_from_xy(t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f),
        crs=georef.proj_crs,
    )


def counts_of(
    mapped: npt.NDArray[np.object_], reference: npt.NDArray[np.object_], names: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    """`counts[map, reference]` of points with a class on both sides, for `stratified_estimates`."""
    index = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), np.int64)
    for here, there in zip(mapped, reference, strict=True):
        if here in index and there in index:
            counts[index[here], index[there]] += 1
    return counts


def interval_text(value: float, half_width: float) -> str:
    """`12.3 ± 0.4`, with as many digits as the interval is worth."""
    digits = 2 if half_width <= 0 else max(0, min(6, 1 - math.floor(math.log10(half_width))))
    return f"{value:,.{digits}f} ± {half_width:,.{digits}f}"
