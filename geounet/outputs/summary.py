"""`summary.json`: areas by class, the seam audit, and every choice that was made."""

from typing import Any

import numpy as np
import numpy.typing as npt

from geounet.model.bundle import ModelBundle
from tiles.chips.spool import Spool
from tiles.scene.scene import Scene


def summary_of(
    spool: Spool, scene: Scene, bundle: ModelBundle, about: dict[str, Any], areas: npt.NDArray[np.float64]
) -> dict[str, Any]:
    mapped = float(areas[:-1].sum())
    georef, legend = scene.georef, bundle.legend
    return {
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
        "stretch": about["stretch"],
        "preflight": about["preflight"],
        "plan": about["plan"],
        "request": about["request"],
    }


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
