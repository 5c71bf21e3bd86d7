"""The finish pass: from a full spool to the files of a map. The same spool gives the same bytes."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from geounet.model.bundle import ModelBundle
from geounet.options import Options
from geounet.outputs.decisions import Decisions
from geounet.outputs.files import ITEM, PREVIEW, RUN, SUMMARY
from geounet.outputs.polygon_limit import PolygonLimit, keep_polygons_few
from geounet.outputs.preview import write_preview
from geounet.outputs.run_record import Stopwatch, run_record
from geounet.outputs.stac_item import stac_item
from geounet.outputs.summary import Generalisation, summary_of
from geounet.outputs.thumbnail import Thumbnail, as_rgb
from tiles.chips.spool import Spool
from tiles.errors import OutputError
from tiles.georef import Georef
from tiles.polygons.polygonise import default_generalisation, polygonise
from tiles.rasters.areas import class_areas
from tiles.rasters.write import write_rasters
from tiles.scene.scene import Scene
from tiles.vectors.write import write_vectors


def write_map(
    folder: Path,
    thumbnail: Path,
    spool: Spool,
    scene: Scene,
    bundle: ModelBundle,
    options: Options,
    decided: Decisions,
    watch: Stopwatch,
    out: Path,
) -> dict[str, Any]:
    """Write every file of the map into the empty `folder` and return the summary.

    `thumbnail` is where the scene's small picture was kept (`Thumbnail.save`), `out` the map's place later. Raises
    OutputError where the disk does not take the files; the spool stays, so the same command goes on.
    """
    finish = _Finish(thumbnail, spool, scene, bundle, options, decided, watch, folder)
    try:
        with ThreadPoolExecutor(1, "geounet-rasters") as beside:
            rasters = beside.submit(finish.rasters)
            try:
                finish.polygons()
            except BaseException:
                finish.stopped.set()  # leaving this block waits for the raster in work
                raise
            summary = rasters.result()
        finish.keep_few(summary)
        _write_json(folder / RUN, run_record(spool, decided, watch, scene.path, bundle, out))
        _write_json(folder / ITEM, stac_item(scene, bundle, summary, folder))
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written: {error.strerror or error}; make room and give the same command to go on"
        ) from error
    return summary


@dataclass(frozen=True)
class _Finish:
    """The two halves of the finish pass: each keeps about one core busy, neither needs the other."""

    thumbnail: Path
    spool: Spool
    scene: Scene
    bundle: ModelBundle
    options: Options
    decided: Decisions
    watch: Stopwatch
    folder: Path
    stopped: Event = field(default_factory=Event)
    limit: PolygonLimit = field(init=False)

    def __post_init__(self) -> None:
        most = sys.maxsize if self.options.max_polygons is None else self.options.max_polygons
        object.__setattr__(self, "limit", PolygonLimit(most))

    def polygons(self) -> None:
        georef, legend = self.scene.georef, self.bundle.legend
        with self.watch.time("polygons"):
            min_area, simplify = generalisation(georef, self.options)
            made = polygonise(self.spool.strips(), georef, legend, min_area_m2=min_area, simplify_px=simplify)
            write_vectors(self.limit.watch(made), self.folder, self.options.formats, georef, legend)

    def keep_few(self, summary: dict[str, Any]) -> None:
        """Make the polygons again, fewer, where there are more than allowed; needs the rasters. The summary says so."""
        if not self.limit.exceeded:
            return
        with self.watch.time("polygons"):
            min_area, simplify = generalisation(self.scene.georef, self.options)
            raised = keep_polygons_few(self.folder, self.options.formats, self.limit.cap, min_area, simplify)
        summary["polygons_raised"] = {
            "cap": self.limit.cap,
            "asked_min_area_m2": summary["polygons"]["min_area_m2"],
            "min_area_m2": raised,
        }
        _write_json(self.folder / SUMMARY, summary)

    def rasters(self) -> dict[str, Any]:
        """Rasters, and what is counted from them: summary and preview."""
        georef, legend = self.scene.georef, self.bundle.legend
        with self.watch.time("rasters"):
            write_rasters(self.spool, georef, legend, self.folder, lambda: not self.stopped.is_set())
            areas = class_areas(self.spool, georef, legend)
        min_area, simplify = generalisation(georef, self.options)
        polygons = Generalisation(min_area_m2=round(min_area, 3), simplify_px=simplify)
        summary = summary_of(self.spool, self.scene, self.bundle, self.decided, areas, polygons).to_record()
        _write_json(self.folder / SUMMARY, summary)
        with self.watch.time("preview"):
            _write_preview(self.thumbnail, self.spool, self.bundle, summary, self.folder)
        return summary


def generalisation(georef: Georef, options: Options) -> tuple[float, float]:
    """Mapping unit in square metres and tolerance in pixels: what was asked for, else what suits the map's scale."""
    usual_area, usual_tolerance = default_generalisation(georef)
    return (
        usual_area if options.min_area_m2 is None else options.min_area_m2,
        usual_tolerance if options.simplify_px is None else options.simplify_px,
    )


def _write_preview(thumbnail: Path, spool: Spool, bundle: ModelBundle, summary: dict[str, Any], folder: Path) -> None:
    picture = Thumbnail((spool.rows, spool.width), len(bundle.bands))
    picture.load(thumbnail)
    shares = {c["name"]: c["share"] for c in summary["classes"]}
    rgb = as_rgb(picture.pixels, bundle.bands)
    write_preview(folder / PREVIEW, rgb, picture.valid, spool.thinned(picture.step), bundle.legend, shares)


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
