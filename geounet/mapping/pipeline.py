"""The whole product on one screen: a scene becomes a land-cover map."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geounet.engines.choose import chosen_device
from geounet.engines.engine import Engine
from geounet.engines.machine import cores
from geounet.mapping.cost import require_disk
from geounet.mapping.engine_shelf import EngineShelf
from geounet.mapping.plan import Plan
from geounet.mapping.planner import planned
from geounet.mapping.progress import OnProgress, Progress, Reporter
from geounet.mapping.request import request_of
from geounet.mapping.workspace import Workplace
from geounet.model.bundle import ModelBundle
from geounet.options import Options
from geounet.outputs.check import Check
from geounet.outputs.decisions import Decisions
from geounet.outputs.land_cover_map import LandCoverMap
from geounet.outputs.run_record import Stopwatch
from tiles.chips.blend import blend
from tiles.chips.cut import cut
from tiles.chips.grid import Block
from tiles.chips.spool import Spool
from tiles.errors import SceneError
from tiles.scene.scene import Scene, open_scene

if TYPE_CHECKING:
    from geounet.outputs.thumbnail import Thumbnail


OnPreflight = Callable[[Sequence[Check]], None]


def map_scene(
    scene_path: str | Path,
    bundle: ModelBundle,
    out: str | Path,
    options: Options = Options(),
    *,
    overwrite: bool = False,
    restart: bool = False,
    on_progress: OnProgress | None = None,
    on_preflight: OnPreflight | None = None,
    engines: "EngineShelf | None" = None,
    beside: Callable[[Path], None] | None = None,
) -> LandCoverMap:
    """Make the land-cover map of one scene in the folder `out`.

    The work happens in `out.partial`; the finished folder appears in one rename. The same call goes on where an
    interrupted one stopped, and does nothing where the same map is finished. `beside` may put more files into the
    map's folder before it appears. Raises errors of `tiles.errors` and `geounet.errors`; a scene that cannot be read
    leaves nothing behind.
    """
    shelf, folder = engines or EngineShelf(), Path(out)
    with open_scene(
        scene_path,
        bundle.bands,
        bands=options.bands,
        assume_crs=options.assume_crs,
        nodata=options.nodata,
        gsd_range=bundle.card.gsd_m,
        force=options.force,
        decoders=_decoders(options),
        trust=options.trust,
    ) as scene:
        request = request_of(scene, bundle, options)
        with Workplace.claim(folder, overwrite=overwrite, restart=restart) as place:
            if (summary := place.finished(request)) is not None:
                return LandCoverMap(folder, summary, fresh=False)
            job = _Job.start(place, scene, bundle, options, request)
            if on_preflight is not None:
                on_preflight(job.decided.checks)
            with job.spool:
                try:
                    job.predict(shelf, on_progress)
                except SceneError:
                    place.discard()  # going on later would meet the same broken block
                    raise
                return LandCoverMap(folder, job.finish(on_progress, beside))


@dataclass
class _Job:
    """What one map is made of, once everything has been decided."""

    place: Workplace
    scene: Scene
    bundle: ModelBundle
    options: Options
    decided: Decisions
    plan: Plan
    spool: Spool
    watch: Stopwatch

    @classmethod
    def start(
        cls, place: Workplace, scene: Scene, bundle: ModelBundle, options: Options, request: dict[str, Any]
    ) -> "_Job":
        """Go on with the interrupted run of the same request, or decide everything and begin."""
        from geounet.mapping.preflight import preflight

        spool = place.resume(request)
        if spool is None:
            checked = preflight(scene, bundle, options)
            plan, cost = planned(scene, bundle, options)
            require_disk(cost, place.out.parent)
            checked = checked.at_cost(cost)
            decided = Decisions(request, plan.as_record(), checked.stretch, checked.rows)
            columns = [(block.left, block.right) for block in plan.blocks(scene.georef.shape)]
            kept = len(bundle.legend) if options.probabilities else 0
            spool = place.begin(scene.georef.shape, decided.to_record(), kept, columns)
        decided = Decisions.from_record(spool.header["about"])
        return cls(place, scene, bundle, options, decided, Plan(**decided.plan), spool, Stopwatch())

    def predict(self, shelf: "EngineShelf", on_progress: OnProgress | None) -> None:
        """The network pass: cut, score, blend, spool."""
        from geounet.outputs.thumbnail import Thumbnail

        if self.spool.complete:
            return
        shape = self.scene.georef.shape
        thumbnail = Thumbnail(shape, len(self.bundle.bands))
        thumbnail.load(self.place.thumbnail)
        if on_progress is not None and shelf.takes_long(self.bundle, self.plan):
            total = self.spool.rows * self.spool.width
            on_progress(Progress("prepare", self.spool.pixels, total, 0.0, None, self.plan))
        with self.watch.time("load model"):
            engine = shelf.get(self.bundle, self.plan)
        report = Reporter(self.spool, self.plan, on_progress)
        with self.watch.time("predict"):
            for block in self.plan.blocks(shape)[self.spool.block :]:
                self._predict_block(block, engine, thumbnail, report)

    def _predict_block(self, block: Block, engine: Engine, thumbnail: "Thumbnail", report: "Reporter") -> None:
        from geounet.model.reflectance import picture_of

        grid = self.plan.grid(self.scene.georef.shape)
        first = grid.rows.first_touching(self.spool.next_row)
        pairs = np.array((self.spool.audit or {"pairs": 0})["pairs"], dtype=np.int64)
        prepare = picture_of(self.decided.stretch, self.bundle.card.reflectance_one)
        chips = thumbnail.tap(cut(self.scene, grid, first, block), prepare)
        strips = blend(
            engine.predict(chips, self.decided.stretch),
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

    def finish(self, on_progress: OnProgress | None, beside: Callable[[Path], None] | None = None) -> dict[str, Any]:
        """The finish pass: rasters, polygons, summary; deterministic; one rename."""
        from geounet.outputs.finish import write_map

        if on_progress is not None:
            total = self.spool.rows * self.spool.width
            on_progress(Progress("write", total, total, 0.0, None, self.plan))
        folder = self.place.fresh_map_folder()
        summary = write_map(
            folder,
            self.place.thumbnail,
            self.spool,
            self.scene,
            self.bundle,
            self.options,
            self.decided,
            self.watch,
            self.place.out,
        )
        if beside is not None:
            beside(folder)
        self.place.publish()
        return summary


def _decoders(options: Options) -> int:
    """Threads that decode a scene: one keeps up with a network on the cores; a GPU leaves the cores to them."""
    return 1 if chosen_device(options.engine, options.device) == "cpu" else cores()
