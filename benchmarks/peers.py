"""Ours against others on the same scene with the same weights, each in a process of its own, in the same run.

MONAI's `sliding_window_inference` (Gaussian, overlap 0.25), pytorch-toolbelt's `TileMerger`, and the loop that
everybody writes: all with torch eager in float32, chips of 512 px, from a GeoTIFF to a class array. Ours does the
whole job: rasters, confidence, areas, preview. `pip install monai pytorch-toolbelt` first; what is missing is left out.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio

from benchmarks.common import arguments, measure, mosaic_scene, report

CHIP, OVERLAP = 512, 0.25
Classes = npt.NDArray[np.uint8]


def _scorer(model: str) -> Any:
    import torch

    from geounet.model.bundle import ModelBundle
    from geounet.model.scorer import Scorer

    torch.set_grad_enabled(False)
    return Scorer(ModelBundle.load(model), CHIP).eval()


def _pixels(scene: str) -> Any:
    import torch

    with rasterio.open(scene) as source:
        return torch.from_numpy(source.read([1, 2, 3]).astype(np.float32))[None]


def monai(scene: str, model: str, out: Path) -> Classes:
    """MONAI's sliding window."""
    from monai.inferers import sliding_window_inference

    found = sliding_window_inference(
        _pixels(scene), (CHIP, CHIP), 1, _scorer(model), overlap=OVERLAP, mode="gaussian", progress=False
    )
    return np.asarray(found[0].argmax(0).numpy(), dtype=np.uint8)


def toolbelt(scene: str, model: str, out: Path) -> Classes:
    """pytorch-toolbelt's slicer and merger."""
    import torch
    from pytorch_toolbelt.inference.tiles import ImageSlicer, TileMerger

    image = _pixels(scene)[0].permute(1, 2, 0).numpy()
    slicer = ImageSlicer(image.shape, (CHIP, CHIP), (CHIP * 3 // 4, CHIP * 3 // 4), weight="pyramid")
    scorer, merger = _scorer(model), None
    for patch, crop in zip(slicer.split(image), slicer.crops, strict=True):
        scored = scorer(torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))[None])
        if merger is None:
            merger = TileMerger(slicer.target_shape, scored.shape[1], slicer.weight, device="cpu")
        merger.integrate_batch(scored, [crop])
    assert merger is not None
    merged = merger.merge().permute(1, 2, 0).numpy()
    return np.asarray(slicer.crop_to_orignal_size(merged).argmax(2), dtype=np.uint8)


def plain_loop(scene: str, model: str, out: Path) -> Classes:
    """Read a chip, score it, add it to a full-size float array, divide, argmax."""
    import torch

    scorer, step = _scorer(model), int(CHIP * (1 - OVERLAP))
    with rasterio.open(scene) as source:
        rows, cols = source.shape
        total, weight = None, np.zeros((rows, cols), dtype=np.float32)
        for top in sorted({*range(0, rows - CHIP, step), rows - CHIP}):
            for left in sorted({*range(0, cols - CHIP, step), cols - CHIP}):
                window = rasterio.windows.Window(left, top, CHIP, CHIP)
                chip = torch.from_numpy(source.read([1, 2, 3], window=window).astype(np.float32))[None]
                scored = scorer(chip)[0].numpy()
                if total is None:
                    total = np.zeros((scored.shape[0], rows, cols), dtype=np.float32)
                total[:, top : top + CHIP, left : left + CHIP] += scored
                weight[top : top + CHIP, left : left + CHIP] += 1
    assert total is not None
    return np.asarray((total / weight).argmax(0), dtype=np.uint8)


def _ours(precision: str, engine: str) -> Callable[[str, str, Path], Classes]:
    def run(scene: str, model: str, out: Path) -> Classes:
        from geounet.mapping.pipeline import map_scene
        from geounet.model.bundle import ModelBundle
        from geounet.options import Options

        bundle = ModelBundle.load(model)
        how: dict[str, Any] = {"engine": engine, "precision": precision}
        options = Options(formats=(), device="cpu", **how)
        folder = out.with_suffix(".map")
        shutil.rmtree(folder, ignore_errors=True)
        map_scene(scene, bundle, folder, options, restart=True)
        with rasterio.open(folder / "classes.tif") as source:
            values = source.read(1)
        channel = np.zeros(256, dtype=np.uint8)
        channel[bundle.legend.values] = np.arange(len(bundle.legend))
        named: Classes = channel[values]
        return named

    return run


RUNS: dict[str, Callable[[str, str, Path], Classes]] = {
    "geounet, auto": _ours("auto", "auto"),
    "geounet, openvino f32": _ours("f32", "openvino"),
    "geounet, torch f32": _ours("f32", "torch"),
    "MONAI": monai,
    "pytorch-toolbelt": toolbelt,
    "plain loop": plain_loop,
}
NEEDS = {"MONAI": "monai", "pytorch-toolbelt": "pytorch_toolbelt"}


def main() -> None:
    """Run it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS), help="leave the others out")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "SCENE", "OUT"))
    given = parser.parse_args()
    if given.one:
        name, scene, out = given.one
        kept: dict[str, Classes] = {}

        def work() -> None:
            kept["map"] = RUNS[name](scene, given.model, Path(out))

        found = measure(work)
        np.save(out, kept["map"])
        print(json.dumps(found))
        return
    scene_path = mosaic_scene(given.data, given.work, given.size, given.size)
    warm = mosaic_scene(given.data, given.work, 1500, 1500)
    rows: list[dict[str, Any]] = []
    maps: dict[str, Classes] = {}
    for name in given.only:
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            print(f"{name} is not installed, left out")
            continue
        out = given.work / f"peer_{len(rows)}.npy"
        command = [sys.executable, "-m", "benchmarks.peers", "--model", given.model, "--one", name]
        if name.startswith("geounet"):  # kernels and the converted model are made once a machine
            subprocess.run([*command, str(warm), str(out)], check=True, capture_output=True)
        done = subprocess.run([*command, str(scene_path), str(out)], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        maps[name] = np.load(out)
        rate = given.size**2 / 1e6 / found["wall_s"]
        rows.append({"what": name, "wall_s": found["wall_s"], "Mpx_per_s": rate, "peak_mb": found["peak_mb"]})
    agreed_with = "geounet, openvino f32" if "geounet, openvino f32" in maps else given.only[0]
    reference = maps[agreed_with]
    slowest = next((r for r in rows if r["what"] == "MONAI"), rows[-1])
    for row in rows:
        row["speed_over_monai"] = slowest["wall_s"] / row["wall_s"]
        row["memory_over_monai"] = row["peak_mb"] / slowest["peak_mb"]
        row[f"agree_with {agreed_with}, %"] = 100 * float((maps[row["what"]] == reference).mean())
    report("peers", rows, given.work)


if __name__ == "__main__":
    main()
