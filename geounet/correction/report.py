"""What corrections changed: areas, agreement before and after, and which corrections the new map still contradicts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio

from geounet.correction.adapt import Checked
from geounet.correction.fit import Fitted
from geounet.correction.pixels import CorrectedPixels
from geounet.correction.read import Corrections
from geounet.outputs.land_cover_map import LandCoverMap
from tiles.legend import Legend


@dataclass(frozen=True)
class ClassChange:
    """One class: area in square metres before and after (None: there was none, or nothing was mapped), corrections,
    and the share of them that the map agreed with before, and an adapter that did not see them agrees with.
    """

    name: str
    area_before_m2: float | None
    area_after_m2: float | None
    corrections: int
    agreed_before: float | None
    agreed_after: float | None


@dataclass(frozen=True)
class Contradiction:
    """A correction (its number, from 1, in `corrections.gpkg`) that the new map disagrees with."""

    number: int
    wanted: str
    mapped: str


@dataclass(frozen=True)
class Told:
    """The whole report; `correction.json` holds it."""

    corrections: int
    classes: tuple[ClassChange, ...]
    agreed_before: float | None
    agreed_after: float | None
    strength: float | None
    temperature: float | None
    contradicted: tuple[Contradiction, ...]

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Told":
        """Inverse of `write`."""
        record = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            **{
                **record,
                "classes": tuple(ClassChange(**row) for row in record["classes"]),
                "contradicted": tuple(Contradiction(**row) for row in record["contradicted"]),
            }
        )


def table(
    before: Mapping[str, Any],
    after: LandCoverMap | None,
    corrections: Corrections,
    checked: Checked | None,
    against: Sequence[Contradiction],
    fitted: Fitted | None,
    legend: Legend,
) -> Told:
    """The report of one correction; `before` is the old map's summary, `legend` the new map's."""
    old = {row["name"]: row["area_m2"] for row in before["classes"]}
    new = {row["name"]: row["area_m2"] for row in after.summary["classes"]} if after else {}
    counts = corrections.counts()
    names = list(dict.fromkeys([*old, *legend.names, *new]))
    agreed = [None if share is None else round(share, 4) for share in (checked.accuracy if checked else (None, None))]
    return Told(
        len(corrections),
        tuple(
            ClassChange(name, old.get(name), new.get(name), counts.get(name, 0), *_agreed(checked, legend, name))
            for name in names
        ),
        agreed[0],
        agreed[1],
        fitted.strength if fitted else None,
        round(fitted.temperature, 4) if fitted else None,
        tuple(against),
    )


def _agreed(checked: Checked | None, legend: Legend, name: str) -> tuple[float | None, float | None]:
    if checked is None or name not in legend.names:
        return None, None
    index = legend.names.index(name)
    total = checked.total[index]
    if not total:
        return None, None
    return round(float(checked.before[index] / total), 4), round(float(checked.after[index] / total), 4)


def contradicted(
    classes: Path, pixels: CorrectedPixels, wanted: npt.NDArray[np.int64], legend: Legend
) -> list[Contradiction]:
    """Corrections on most of whose pixels the class raster says something else than `wanted` (n,), the index in
    `legend` of each correction's class.
    """
    with rasterio.open(classes, driver="GTiff") as dataset:
        found = _values(dataset, pixels)
    out = []
    for number, index in enumerate(wanted):
        values, counts = np.unique(found[pixels.correction == number], return_counts=True)
        mapped = int(values[counts.argmax()])
        if mapped != legend.values[index]:
            out.append(Contradiction(number + 1, legend.names[index], legend.name_of(mapped)))
    return out


def _values(dataset: Any, pixels: CorrectedPixels) -> Any:
    """Class values at pixels, read a block of rows at a time."""
    out = np.empty(len(pixels), dtype=np.int64)
    band = pixels.rows // 512
    for number in np.unique(band):
        chosen = band == number
        rows, cols = pixels.rows[chosen], pixels.cols[chosen]
        top, left = int(rows.min()), int(cols.min())
        window = ((top, int(rows.max()) + 1), (left, int(cols.max()) + 1))
        out[chosen] = dataset.read(1, window=window)[rows - top, cols - left]
    return out
