"""The whole job on a big scene, against the bound that the network sets on this machine in the same minute.

The bound: the seconds that the network alone takes for all (redundant) pixels, plus the processor seconds of
everything else divided by the cores. `forward_over_predict` is the rate of the network pass - read, copy, score, blend,
write - over that of the network alone, on data that lies where it runs: what a GPU run aims at 0.9 of.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, measure, mosaic_scene, report
from geounet.engines.choose import open_engine
from geounet.engines.engine import Engine, Float32
from geounet.engines.machine import cores
from geounet.mapping.engine_shelf import EngineShelf
from geounet.mapping.pipeline import map_scene
from geounet.mapping.plan import Plan
from geounet.model.bundle import ModelBundle
from geounet.model.stretch import Stretch
from geounet.options import Options
from tiles.chips.cut import Chip
from tiles.chips.grid import ChipGrid


class _AsIs(Stretch):
    """For counts that are on 0-255, as floats, already."""

    def apply(self, counts: Any, valid: Any) -> Float32:
        return np.asarray(counts, dtype=np.float32)


def forward_only(bundle: ModelBundle, plan: Plan, chips: int = 16) -> dict[str, float]:
    """Wall and processor seconds a megapixel of the engine alone, on chips that lie in its memory as floats."""
    engine = open_engine(
        bundle, plan.spec, plan.chip_size, plan.upsample, plan.tta, plan.context, compiled=plan.compiled
    )
    if plan.device == "cpu":
        work = _on_cpu(engine, bundle, plan, chips)
    else:
        work, chips = _on_device(engine, bundle, plan, chips)
    for _ in range(1 if plan.device == "cpu" else 3):  # compilers and allocators settle
        work()
    found = measure(work)
    return {key: found[key] / (chips * plan.chip_size**2 / 1e6) for key in ("wall_s", "cpu_s")}


def _on_cpu(engine: Engine, bundle: ModelBundle, plan: Plan, chips: int) -> Callable[[], None]:
    size = plan.chip_size
    grid = ChipGrid((size, size * chips), size, 0)
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 256, (len(bundle.bands), size, size)).astype(np.float32)
    valid = np.ones((size, size), dtype=bool)
    ready = [Chip(r, c, grid.window(r, c), counts, valid) for r, c in grid.positions()]

    def work() -> None:
        for _ in engine.predict(iter(ready), _AsIs("none")):
            pass

    return work


def _on_device(engine: Engine, bundle: ModelBundle, plan: Plan, chips: int) -> tuple[Callable[[], None], int]:
    """The same on a GPU: at least as many chips, in whole batches; and how many."""
    import torch

    from geounet.engines.torch_device import DeviceEngine

    if not isinstance(engine, DeviceEngine):
        raise SystemExit("give --device without test-time augmentation")
    shape = (engine.batch_size, len(bundle.bands), plan.chip_size, plan.chip_size)
    counts = torch.rand(shape, device=engine.device) * 255

    rounds = -(-chips // engine.batch_size)

    def work() -> None:
        for _ in range(rounds):
            engine.score(counts)
        getattr(torch, engine.device.type).synchronize()

    return work, rounds * engine.batch_size


def main() -> None:
    """Run it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--formats", default="gpkg")
    given = parser.parse_args()
    scene = mosaic_scene(given.data, given.work, given.size, given.size)
    bundle = ModelBundle.load(given.model)
    options = Options(
        formats=tuple(f for f in given.formats.split(",") if f),
        engine=given.engine,
        device=given.device,
        precision=given.precision,
    )
    shelf, out = EngineShelf(), Path(given.work) / "end_to_end_map"
    warm = mosaic_scene(given.data, given.work, 1500, 1500)  # compiles kernels, converts the model
    map_scene(warm, bundle, Path(given.work) / "warm", options, overwrite=True, restart=True, engines=shelf)
    shutil.rmtree(out, ignore_errors=True)
    found = {}

    def work() -> None:
        found["map"] = map_scene(scene, bundle, out, options, restart=True, engines=shelf)

    total = measure(work)
    plan = Plan(**found["map"].summary["plan"])
    alone = forward_only(bundle, plan)
    pixels = given.size**2 / 1e6
    scored = pixels * plan.grid((given.size, given.size)).redundancy()
    network = alone["wall_s"] * scored
    predict = json.loads((out / "run.json").read_text())["seconds"]["predict"]
    rest_cpu = max(total["cpu_s"] - alone["cpu_s"] * scored, 0.0)
    bound = network + rest_cpu / cores()
    report(
        "end_to_end",
        [
            {
                "plan": f"{plan.spec}, {plan.chip_size}/{plan.overlap}",
                "Mpx": pixels,
                "wall_s": total["wall_s"],
                "Mpx_per_s": pixels / total["wall_s"],
                "network_s": network,
                "network_share": network / total["wall_s"],
                "predict_s": predict,
                "forward_over_predict": network / predict,
                "rest_cpu_s": rest_cpu,
                "bound_s": bound,
                "bound_over_wall": bound / total["wall_s"],
                "peak_mb": total["peak_mb"],
            }
        ],
        given.work,
    )


if __name__ == "__main__":
    main()
