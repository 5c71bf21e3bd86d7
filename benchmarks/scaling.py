"""Memory and time as scenes grow taller and wider, on one core and two; each scene in a process of its own.

`python -m benchmarks.scaling --sizes 40000x40000 --threads 2` is the large one: 12 GB of disk, some minutes.
"""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, measure, mosaic_scene, report


def one(scene: str, model: str, out: str, engine: str, formats: str, max_memory: int | None) -> None:
    """Map one scene and print what it took, as JSON."""
    from geounet.mapping.pipeline import map_scene
    from geounet.model.bundle import ModelBundle
    from geounet.options import Options

    chosen: Any = tuple(f for f in formats.split(",") if f)
    engine_name: Any = engine
    options = Options(engine=engine_name, formats=chosen, max_memory=max_memory)

    def work() -> None:
        map_scene(scene, ModelBundle.load(model), Path(out), options, overwrite=True, restart=True)

    found = measure(work)
    run = json.loads((Path(out) / "run.json").read_text())
    plan = json.loads((Path(out) / "summary.json").read_text())["plan"]
    print(json.dumps({**found, "seconds": run["seconds"], "plan": plan}))


def main() -> None:
    """Run it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--sizes", default="2000x4096,5000x4096,10000x4096,20000x4096,40000x4096,10000x10000")
    parser.add_argument("--threads", default="2,1", help="cores that a run may use")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--formats", default="gpkg")
    parser.add_argument("--max-memory", type=int, default=None)
    parser.add_argument("--one", nargs=2, metavar=("SCENE", "OUT"))
    given = parser.parse_args()
    if given.one:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(given.threads.split(",")[0])])
        one(given.one[0], given.model, given.one[1], given.engine, given.formats, given.max_memory)
        return
    rows = []
    for size in given.sizes.split(","):
        height, width = (int(side) for side in size.split("x"))
        scene = mosaic_scene(given.data, given.work, height, width)
        for threads in given.threads.split(","):
            rows.append(
                {"rows x cols": size, "threads": threads, **_measured(scene, height * width / 1e6, threads, given)}
            )
            report("scaling", rows, given.work)


def _measured(scene: Path, pixels: float, threads: str, given: Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", str(scene), str(given.work / "scaling_map")]
    command += ["--model", given.model, "--engine", given.engine, "--formats", given.formats, "--threads", threads]
    if given.max_memory:
        command += ["--max-memory", str(given.max_memory)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    stages = found["seconds"]
    return {
        "chips": f"{found['plan']['chip_size']}/{found['plan']['overlap']}",
        "wall_s": found["wall_s"],
        "cpu_s": found["cpu_s"],
        "Mpx_per_s": pixels / found["wall_s"],
        "predict_s": stages.get("predict", 0.0),
        "rasters_s": stages.get("rasters", 0.0),
        "polygons_s": stages.get("polygons", 0.0),
        "peak_mb": found["peak_mb"],
    }


if __name__ == "__main__":
    main()
