"""Ours and others against a forward pass with the whole scene for context, and against labels.

The scene is a mosaic of all validation tiles of NAIP (`split.csv`), small enough for one forward pass of torch in
float32. Prints the share of pixels that get the class of that pass, and the mean IoU against the labels.
`pip install monai pytorch-toolbelt` first; what is missing is left out.
"""

import csv
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from benchmarks.common import arguments, report
from benchmarks.peers import NEEDS, RUNS, Classes
from geounet.model.bundle import ModelBundle
from geounet.model.scorer import Scorer

LABELS = ("low_vegetation", "building", "road", "bare", "tree", "water")
"""What NAIP's label values 0 to 5 mean."""


def val_mosaic(data: Path, path: Path) -> npt.NDArray[np.uint8]:
    """Write the validation tiles side by side as a GeoTIFF; returns their labels (rows, columns)."""
    with (data / "naip" / "split.csv").open(encoding="utf-8") as table:
        names = sorted(row["file"] for row in csv.DictReader(table) if row["split"] == "val")
    across = next(n for n in range(math.isqrt(len(names)), 0, -1) if len(names) % n == 0)
    images = [_read(data / "naip" / "images" / name, [1, 2, 3]) for name in names]
    labels = [_read(data / "naip" / "labels" / name, [1]) for name in names]
    picture, truth = (_side_by_side(tiles, across) for tiles in (images, labels))
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:26917", "photometric": "RGB"}
    place = {"width": picture.shape[2], "height": picture.shape[1], "transform": Affine(0.6, 0, 3e5, 0, -0.6, 4.5e6)}
    with rasterio.open(path, "w", **profile, **place) as target:
        target.write(picture)
    named: npt.NDArray[np.uint8] = truth[0]
    return named


def _read(path: Path, bands: list[int]) -> npt.NDArray[np.uint8]:
    with rasterio.open(path) as source:
        pixels: npt.NDArray[np.uint8] = source.read(bands)
    return pixels


def _side_by_side(tiles: list[npt.NDArray[np.uint8]], across: int) -> npt.NDArray[np.uint8]:
    rows = [np.concatenate(tiles[i : i + across], axis=2) for i in range(0, len(tiles), across)]
    return np.concatenate(rows, axis=1)


def whole(scene: Path, bundle: ModelBundle) -> Classes:
    """The class of every pixel (rows, columns) from one forward pass over all of the scene."""
    import torch

    counts = torch.from_numpy(_read(scene, [1, 2, 3]).astype(np.float32))[None]
    with torch.inference_mode():
        scored = Scorer(bundle, 32 * (max(counts.shape) // 32)).eval()(counts)
    return np.asarray(scored[0].argmax(0).numpy(), dtype=np.uint8)


def mean_iou(classes: Classes, truth: npt.NDArray[np.uint8]) -> float:
    """Mean IoU of channels against channels (rows, columns)."""
    pairs = [(classes == c, truth == c) for c in range(len(LABELS))]
    return float(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs]))


def main() -> None:
    """Run it."""
    given = arguments(__doc__ or "").parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    bundle, scene = ModelBundle.load(given.model), given.work / "val_mosaic.tif"
    labels = val_mosaic(given.data, scene)
    truth = np.array([bundle.legend.names.index(name) for name in LABELS], dtype=np.uint8)[labels]
    context = whole(scene, bundle)
    rows = [{"what": "one forward pass", "agree_%": 100.0, "miou_%": 100 * mean_iou(context, truth)}]
    for name, run in RUNS.items():
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            print(f"{name} is not installed, left out")
            continue
        classes = run(str(scene), given.model, given.work / "agreement")
        agree = 100 * float((classes == context).mean())
        rows.append({"what": name, "agree_%": agree, "miou_%": 100 * mean_iou(classes, truth)})
    report("agreement", rows, given.work)


if __name__ == "__main__":
    main()
