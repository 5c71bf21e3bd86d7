"""The finish pass: from a full spool to the files of a map. The same spool gives the same bytes."""

import json
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from geounet.mapping.workspace import SUMMARY, Workplace
from geounet.model.bundle import ModelBundle
from geounet.outputs.polygon_limit import at_most
from geounet.outputs.preview import write_preview
from geounet.outputs.run_record import Stopwatch
from geounet.outputs.stac_item import ITEM, stac_item
from geounet.outputs.thumbnail import Thumbnail, as_rgb
from tiles.chips.spool import Spool
from tiles.errors import OutputError
from tiles.georef import Georef
from tiles.polygons.polygonise import default_generalisation, polygonise
from tiles.rasters.write import class_areas, write_rasters
from tiles.scene.scene import Scene
from tiles.vectors.write import write_vectors

if TYPE_CHECKING:
    from geounet.mapping.pipeline import Options

_PACKAGES = ("geounet", "torch", "openvino", "rasterio", "numpy", "shapely", "pyogrio", "numba")


def write_map(
    place: Workplace,
    spool: Spool,
    scene: Scene,
    bundle: ModelBundle,
    options: "Options",
    about: dict[str, Any],
    watch: Stopwatch,
) -> dict[str, Any]:
    """Write every file of the map into the workplace's map folder and return the summary.

    Raises OutputError where the disk does not take them; the spool stays, so the same command goes on.
    """
    folder = place.fresh_map_folder()
    finish = _Finish(place, spool, scene, bundle, options, about, watch, folder)
    try:
        with ThreadPoolExecutor(1, "geounet-rasters") as beside:
            rasters = beside.submit(finish.rasters)
            try:
                finish.polygons()
            except BaseException:
                finish.stopped.set()  # leaving this block waits for the raster in work
                raise
            summary = rasters.result()
        _write_json(folder / "run.json", _run(spool, about, watch))
        _write_json(folder / ITEM, stac_item(scene, bundle, summary, folder))
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written: {error.strerror or error}; make room and give the same command to go on"
        ) from error
    return summary


@dataclass(frozen=True)
class _Finish:
    """The two halves of the finish pass: each keeps about one core busy, neither needs the other."""

    place: Workplace
    spool: Spool
    scene: Scene
    bundle: ModelBundle
    options: "Options"
    about: dict[str, Any]
    watch: Stopwatch
    folder: Path
    stopped: Event = field(default_factory=Event)

    def polygons(self) -> None:
        georef, legend = self.scene.georef, self.bundle.legend
        with self.watch.time("polygons"):
            min_area, simplify = generalisation(georef, self.options)
            made = polygonise(self.spool.strips(), georef, legend, min_area_m2=min_area, simplify_px=simplify)
            if self.options.max_polygons is not None:
                made = at_most(made, self.options.max_polygons)
            write_vectors(made, self.folder, self.options.formats, georef, legend)

    def rasters(self) -> dict[str, Any]:
        """Rasters, and what is counted from them: summary and preview."""
        georef, legend = self.scene.georef, self.bundle.legend
        with self.watch.time("rasters"):
            write_rasters(self.spool, georef, legend, self.folder, lambda: not self.stopped.is_set())
            areas = class_areas(self.spool, georef, legend)
        summary = _summary(self.spool, self.scene, self.bundle, self.about, areas)
        min_area, simplify = generalisation(georef, self.options)
        summary["polygons"] = {"min_area_m2": round(min_area, 3), "simplify_px": simplify}
        _write_json(self.folder / SUMMARY, summary)
        with self.watch.time("preview"):
            _write_preview(self.place, self.spool, self.bundle, summary, self.folder)
        return summary


def generalisation(georef: Georef, options: "Options") -> tuple[float, float]:
    """Mapping unit in square metres and tolerance in pixels: what was asked for, else what suits the map's scale."""
    usual_area, usual_tolerance = default_generalisation(georef)
    return (
        usual_area if options.min_area_m2 is None else options.min_area_m2,
        usual_tolerance if options.simplify_px is None else options.simplify_px,
    )


def _summary(
    spool: Spool, scene: Scene, bundle: ModelBundle, about: dict[str, Any], areas: npt.NDArray[np.float64]
) -> dict[str, Any]:
    mapped = float(areas[:-1].sum())
    georef, legend = scene.georef, bundle.legend
    return {
        "scene": Path(scene.path).name,
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


def _write_preview(place: Workplace, spool: Spool, bundle: ModelBundle, summary: dict[str, Any], folder: Path) -> None:
    picture = Thumbnail((spool.rows, spool.width), len(bundle.bands))
    picture.load(place.thumbnail)
    shares = {c["name"]: c["share"] for c in summary["classes"]}
    rgb = as_rgb(picture.pixels, bundle.bands)
    write_preview(folder / "preview.png", rgb, picture.valid, spool.thinned(picture.step), bundle.legend, shares)


def _run(spool: Spool, about: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """What may differ from run to run: times, machine, versions."""
    predicted = watch.seconds.get("predict", 0.0)
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": watch.seconds,
        "megapixels": round(spool.rows * spool.width / 1e6, 3),
        "predict_mpx_per_s": round(spool.rows * spool.width / 1e6 / predicted, 3) if predicted else None,
        "engine": {k: about["plan"][k] for k in ("engine", "device", "precision")},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
