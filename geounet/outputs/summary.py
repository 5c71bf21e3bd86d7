"""`summary.json`, a published format (docs/map-folder.md): areas by class, the seam audit, every choice made."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from geounet.model.bundle import ModelBundle
from geounet.outputs.decisions import Decisions
from tiles.chips.spool import Spool
from tiles.scene.scene import Scene


class _Part(BaseModel):
    """What a later version adds is kept, not refused: a reader takes what it knows."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Grid(_Part):
    """The map's grid, which is the scene's: `transform` is a, b, c, d, e, f of the affine; `gsd_m` at the centre."""

    crs: str
    transform: tuple[float, ...]
    rows: int
    columns: int
    gsd_m: float


class ClassArea(_Part):
    """One class: area on the ellipsoid, and its share of the mapped area."""

    value: int
    name: str
    area_m2: float
    share: float


class Dispute(_Part):
    """Two classes that chips disagreed about, and the share of the overlap pixels on which they did."""

    between: tuple[str, str]
    share: float


class Seams(_Part):
    """The seam audit: pixels that two chips scored, the share on which their classes differ, and which they were."""

    overlap_pixels: int
    disagreement: float
    pairs: tuple[Dispute, ...]


class ModelUsed(_Part):
    """The bundle: name, version, and the digest of all that changes a prediction."""

    name: str
    version: int | str
    digest: str


class Generalisation(_Part):
    """How polygons were generalised: smallest area, tolerance in pixels."""

    min_area_m2: float
    simplify_px: float


class Summary(_Part):
    """`summary.json`, whole. Keys may come; those that are there keep their meaning within a version."""

    version: Literal[1] = 1
    scene: str
    grid: Grid
    classes: tuple[ClassArea, ...]
    mapped_area_m2: float
    nodata_share: float
    seams: Seams
    model: ModelUsed
    bands: tuple[str, ...]
    stretch: dict[str, Any]
    preflight: tuple[dict[str, Any], ...]
    """The lines of the pre-flight: topic, status, text, remedy."""
    plan: dict[str, Any]
    request: dict[str, Any]
    polygons: Generalisation | None = None
    polygons_raised: dict[str, Any] | None = None
    """Where there were more polygons than allowed: the cap, and the smallest areas asked for and taken."""

    def to_record(self) -> dict[str, Any]:
        """As it is written: plain JSON."""
        return {"version": self.version, **self.model_dump(mode="json", exclude_unset=True)}


def summary_of(
    spool: Spool,
    scene: Scene,
    bundle: ModelBundle,
    decided: Decisions,
    areas: npt.NDArray[np.float64],
    polygons: Generalisation,
) -> Summary:
    """The summary of a full spool; `areas` in square metres a class, in the legend's order, last that of nodata."""
    mapped = float(areas[:-1].sum())
    georef, legend = scene.georef, bundle.legend
    record = {
        "scene": scene.name,
        "grid": {
            "crs": georef.crs.to_string(),
            "transform": list(georef.transform)[:6],
            "rows": georef.shape[0],
            "columns": georef.shape[1],
            "gsd_m": round(georef.gsd, 4),
        },
        "classes": [
            {
                "value": c.value,
                "name": c.name,
                "area_m2": round(float(area), 2),
                "share": round(float(area) / mapped, 6) if mapped else 0.0,
            }
            for c, area in zip(legend.classes, areas[:-1], strict=True)
        ],
        "mapped_area_m2": round(mapped, 2),
        "nodata_share": round(float(areas[-1] / areas.sum()), 6),
        "seams": seam_record(spool, bundle),
        "model": {"name": bundle.name, "version": bundle.card.version, "digest": bundle.digest},
        "bands": list(bundle.bands),
        **decided.to_record(),
        "polygons": polygons,
    }
    return Summary.model_validate(record)


def seam_record(spool: Spool, bundle: ModelBundle) -> dict[str, Any]:
    """The seam audit for people: the share of overlap pixels on which chips disagreed, and between which classes."""
    pairs = np.array((spool.audit or {"pairs": []})["pairs"], dtype=np.int64)
    compared = int(pairs.sum())
    names = bundle.legend.names
    both = pairs + pairs.T if compared else np.zeros((len(names), len(names)), dtype=np.int64)
    disputes = [
        {"between": [names[a], names[b]], "share": round(int(both[a, b]) / compared, 6)}
        for a in range(len(names))
        for b in range(a + 1, len(names))
        if both[a, b]
    ]
    return {
        "overlap_pixels": compared,
        "disagreement": round(1.0 - float(np.trace(pairs)) / compared, 6) if compared else 0.0,
        "pairs": sorted(disputes, key=lambda d: (-d["share"], d["between"])),
    }
