"""The whole job on a big scene, against the bound that the network sets on this machine in the same minute.

The bound: the seconds that the network alone takes for all (redundant) pixels, plus the processor seconds of
everything else divided by the cores.
"""

import shutil
from pathlib import Path

import numpy as np

from benchmarks.common import arguments, measure, mosaic_scene, report
from geounet.bundle import ModelBundle
from geounet.engines import Float32, cores, open_engine
from geounet.pipeline import EngineShelf, Options, map_scene
from geounet.plan import Plan
from tiles.chips import Chip
from tiles.grid import ChipGrid


def forward_only(bundle: ModelBundle, plan: Plan, chips: int = 16) -> dict[str, float]:
    """Wall and processor seconds a megapixel of the engine alone, on chips that lie in memory as floats."""
    engine = open_engine(bundle, plan.spec, plan.chip_size, plan.upsample)
    size = plan.chip_size
    grid = ChipGrid((size, size * chips), size, 0)
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 256, (len(bundle.bands), size, size)).astype(np.float32)
    valid = np.ones((size, size), dtype=bool)
    ready = [Chip(r, c, grid.window(r, c), counts, valid) for r, c in grid.positions()]

    def prepare(values: Float32, _: object) -> Float32:
        return values

    def work() -> None:
        for _ in engine.predict(iter(ready), prepare):
            pass

    work()
    found = measure(work)
    return {key: found[key] / (chips * size * size / 1e6) for key in ("wall_s", "cpu_s")}


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
