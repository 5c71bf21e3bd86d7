"""The whole product on one screen: a scene becomes a land-cover map."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from geounet import __version__
from geounet.engines import Engine, check_tta, chosen_device, cores, device_memory, open_engine, resolve
from geounet.mapping.cost import Cost, Pixels, cost_of, require_disk
from geounet.mapping.plan import Plan, make_plan
from geounet.mapping.workspace import Workplace
from geounet.model.bundle import ModelBundle
from geounet.outputs.run_record import Stopwatch
from tiles.chips.blend import blend
from tiles.chips.cut import cut
from tiles.chips.grid import Block
from tiles.chips.spool import Spool
from tiles.errors import SceneError
from tiles.scene.scene import Scene, open_scene

if TYPE_CHECKING:
    from geounet.model.stretch import Stretch
    from geounet.outputs.thumbnail import Thumbnail


@dataclass(frozen=True)
class Options:
    """Everything a user may choose about one map; the defaults are the recommended map.

    `min_area_m2` and `simplify_px` of None generalise polygons for the map's own scale (docs/polygons.md); 0 and 0
    give polygons that are exactly the class raster. The rasters are never generalised. Beyond `max_polygons` the pass
    over the polygons stops: the caller has to make them again, fewer (`geounet.outputs.polygon_limit`).
    """

    bands: Mapping[str, int] | None = None
    assume_crs: str | None = None
    stretch: str | None = None
    force: bool = False
    min_area_m2: float | None = None
    simplify_px: float | None = None
    formats: tuple[str, ...] = ("gpkg", "geojson")
    probabilities: bool = False
    chip_size: int | None = None
    overlap: int | None = None
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    max_memory: int | None = None
    tta: str = "none"
    max_polygons: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a map is: the stage's name, pixels done of all, megapixels a second, seconds left."""

    stage: str
    done: int
    total: int
    rate: float
    seconds_left: float | None
    plan: Plan | None = None


@dataclass(frozen=True)
class LandCoverMap:
    """A finished map: its folder and its `summary.json`; `fresh` is False where it was there already."""

    folder: Path
    summary: dict[str, Any]
    fresh: bool = True


OnProgress = Callable[[Progress], None]
OnPreflight = Callable[[list[dict[str, Any]]], None]


def map_scene(
    scene_path: str | Path,
    bundle: ModelBundle,
    out: Path,
    options: Options,
    *,
    overwrite: bool = False,
    restart: bool = False,
    on_progress: OnProgress | None = None,
    on_preflight: OnPreflight | None = None,
    engines: "EngineShelf | None" = None,
) -> LandCoverMap:
    """Make the land-cover map of one scene in the folder `out`.

    The work happens in `out.partial`; the finished folder appears in one rename. The same call goes on where an
    interrupted one stopped, and does nothing where the same map is finished. Raises errors of `tiles.errors` and
    `geounet.errors`; a scene that cannot be read leaves nothing behind.
    """
    shelf = engines or EngineShelf()
    with open_scene(
        scene_path,
        bundle.bands,
        bands=options.bands,
        assume_crs=options.assume_crs,
        gsd_range=bundle.card.gsd_m,
        force=options.force,
        decoders=_decoders(options),
    ) as scene:
        request = request_of(scene, bundle, options)
        with Workplace.claim(out, overwrite=overwrite, restart=restart) as place:
            if (summary := place.finished(request)) is not None:
                return LandCoverMap(out, summary, fresh=False)
            job = _Job.start(place, scene, bundle, options, request)
            if on_preflight is not None:
                on_preflight(job.about["preflight"])
            with job.spool:
                try:
                    job.predict(shelf, on_progress)
                except SceneError:
                    place.discard()  # going on later would meet the same broken block
                    raise
                return LandCoverMap(out, job.finish(on_progress))


@dataclass
class _Job:
    """What one map is made of, once everything has been decided."""

    place: Workplace
    scene: Scene
    bundle: ModelBundle
    options: Options
    plan: Plan
    stretch: "Stretch"
    spool: Spool
    about: dict[str, Any]
    watch: Stopwatch

    @classmethod
    def start(
        cls, place: Workplace, scene: Scene, bundle: ModelBundle, options: Options, request: dict[str, Any]
    ) -> "_Job":
        """Go on with the interrupted run of the same request, or decide everything and begin."""
        from geounet.mapping.preflight import Estimate, preflight
        from geounet.model.stretch import Stretch

        spool = place.resume(request)
        if spool is None:
            plan, cost = planned(scene, bundle, options)
            require_disk(cost, place.out.parent)
            estimate = Estimate(cost.seconds, cost.memory, cost.disk)
            checked = preflight(scene, bundle, options, estimate)
            about = {
                "request": request,
                "plan": plan.as_record(),
                "stretch": checked.stretch.as_record(),
                "preflight": checked.as_record(),
            }
            columns = [(block.left, block.right) for block in plan.blocks(scene.georef.shape)]
            kept = len(bundle.legend) if options.probabilities else 0
            spool = place.begin(scene.georef.shape, about, kept, columns)
        about = spool.header["about"]
        return cls(
            place,
            scene,
            bundle,
            options,
            Plan(**about["plan"]),
            Stretch.from_record(about["stretch"]),
            spool,
            about,
            Stopwatch(),
        )

    def predict(self, shelf: "EngineShelf", on_progress: OnProgress | None) -> None:
        """The network pass: cut, score, blend, spool."""
        from geounet.outputs.thumbnail import Thumbnail

        if self.spool.complete:
            return
        shape = self.scene.georef.shape
        thumbnail = Thumbnail(shape, len(self.bundle.bands))
        thumbnail.load(self.place.thumbnail)
        with self.watch.time("load model"):
            engine = shelf.get(self.bundle, self.plan)
        report = _Reporter(self.spool, self.plan, on_progress)
        with self.watch.time("predict"):
            for block in self.plan.blocks(shape)[self.spool.block :]:
                self._predict_block(block, engine, thumbnail, report)

    def _predict_block(self, block: Block, engine: Engine, thumbnail: "Thumbnail", report: "_Reporter") -> None:
        grid = self.plan.grid(self.scene.georef.shape)
        first = grid.rows.first_touching(self.spool.next_row)
        pairs = np.array((self.spool.audit or {"pairs": 0})["pairs"], dtype=np.int64)
        chips = thumbnail.tap(cut(self.scene, grid, first, block), self.stretch.apply)
        strips = blend(
            engine.predict(chips, self.stretch),
            grid,
            self.bundle.legend,
            first_row=first,
            block=block,
            probabilities=self.options.probabilities,
        )
        with closing(engine.fetch(strips)) as finished:
            for strip in finished:
                if strip.top < self.spool.next_row:  # made again only to go on below it; it is counted already
                    continue
                pairs = pairs + strip.pairs
                thumbnail.save(self.place.thumbnail)
                self.spool.append(strip, {"pairs": pairs.tolist()})
                report.now()

    def finish(self, on_progress: OnProgress | None) -> dict[str, Any]:
        """The finish pass: rasters, polygons, summary; deterministic; one rename."""
        from geounet.outputs.finish import write_map

        if on_progress is not None:
            total = self.spool.rows * self.spool.width
            on_progress(Progress("write", total, total, 0.0, None, self.plan))
        summary = write_map(self.place, self.spool, self.scene, self.bundle, self.options, self.about, self.watch)
        self.place.publish()
        return summary


class _Reporter:
    """Turns what the spool holds into progress: rate since this run began, time left."""

    def __init__(self, spool: Spool, plan: Plan, on_progress: OnProgress | None) -> None:
        self.spool, self.plan, self.on_progress = spool, plan, on_progress
        self.began, self.first = monotonic(), spool.pixels

    def now(self) -> None:
        """Tell how far it is."""
        if self.on_progress is None:
            return
        done, total = self.spool.pixels, self.spool.rows * self.spool.width
        rate = (done - self.first) / max(monotonic() - self.began, 1e-6)
        left = (total - done) / rate if rate else None
        self.on_progress(Progress("predict", done, total, rate / 1e6, left, self.plan))


class EngineShelf:
    """Keeps the last engine warm, so that many scenes pay for loading and compiling once."""

    def __init__(self) -> None:
        self._key: tuple[str, Plan] | None = None
        self._engine: Engine | None = None

    def get(self, bundle: ModelBundle, plan: Plan) -> Engine:
        """The engine for `plan`, from the shelf where it fits."""
        key = (bundle.digest, replace(plan, overlap=0, block_chips=0))  # an engine knows chips, not how they lie
        if self._engine is None or self._key != key:
            self._engine = None
            self._engine = open_engine(
                bundle, plan.spec, plan.chip_size, plan.upsample, plan.tta, compiled=plan.compiled
            )
            self._key = key
        return self._engine


def _decoders(options: Options) -> int:
    """Threads that decode a scene: one keeps up with a network on the cores; a GPU leaves the cores to them."""
    return 1 if chosen_device(options.engine, options.device) == "cpu" else cores()


def planned(scene: Scene, bundle: ModelBundle, options: Options) -> tuple[Plan, Cost]:
    """Every `auto` decided, and what the work will cost."""
    spec = resolve(options.engine, options.device, options.precision)
    shape, classes = scene.georef.shape, len(bundle.legend)
    pixels = Pixels(len(bundle.bands), scene.dtype.itemsize, classes, scene.cache_bytes)
    plan = make_plan(
        shape,
        bundle,
        spec,
        pixels,
        cores(),
        upsample=scene.upsample,
        chip_size=options.chip_size,
        overlap=options.overlap,
        max_memory=options.max_memory,
        tta=check_tta(options.tta),
        device_memory=device_memory(spec),
    )
    return plan, cost_of(plan, shape, pixels, cores(), 2 + (classes if options.probabilities else 0))


def request_of(scene: Scene, bundle: ModelBundle, options: Options) -> dict[str, Any]:
    """What a map is asked to be: two maps with equal requests are the same map."""
    asked = {k: v for k, v in asdict(options).items() if k not in ("formats", "max_memory", "max_polygons")}
    record = {
        "geounet": __version__,
        "scene": scene.fingerprint(),
        "bundle": bundle.digest,
        "options": {**asked, "bands": dict(options.bands or {}), "formats": sorted(options.formats)},
    }
    text = json.dumps(record, sort_keys=True)
    return {**record, "digest": hashlib.sha256(text.encode()).hexdigest()}
