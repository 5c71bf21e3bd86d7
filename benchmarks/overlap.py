"""How much the result depends on where the cuts fall: the seam audit as chip size and overlap grow.

Prints the table of docs/overlap.md: share of overlap pixels on which neighbouring chips disagree, agreement of the map
with one made from the largest chips and overlap, and mean IoU against labels.
"""

import numpy as np
import numpy.typing as npt
import rasterio

from benchmarks.common import arguments, report
from geounet.mapping.engine_shelf import EngineShelf
from geounet.mapping.pipeline import map_scene
from geounet.model.bundle import ModelBundle
from geounet.options import Options

_SIZES = ((256, (0, 32, 64, 128)), (512, (0, 32, 64, 128, 256)), (1024, (0, 32, 64, 128, 256, 512)))


def mean_iou(classes: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], values: dict[int, int]) -> float:
    """Mean IoU over the label values that occur; `values` maps a label value to a class value."""
    scores = []
    for label, value in values.items():
        is_label, is_class = labels == label, (classes == value) & (labels != 255)
        if is_label.any():
            scores.append((is_label & is_class).sum() / (is_label | is_class).sum())
    return float(np.mean(scores))


def main() -> None:
    """Run it."""
    parser = arguments(__doc__ or "")
    given = parser.parse_args()
    bundle = ModelBundle.load(given.model)
    scene = given.data / "scenes" / "naip_block0.tif"
    with rasterio.open(given.data / "scenes" / "naip_block0_labels.tif") as source:
        labels = source.read(1)
    by_name = {c.name: c.value for c in bundle.legend.classes}
    names = ("low_vegetation", "building", "road", "bare", "tree", "water")
    values = {index: by_name[name] for index, name in enumerate(names)}
    shelf, maps = EngineShelf(), {}
    for size, overlaps in _SIZES:
        for overlap in overlaps:
            options = Options(chip_size=size, overlap=overlap, formats=())
            out = given.work / "overlap_map"
            found = map_scene(scene, bundle, out, options, overwrite=True, restart=True, engines=shelf)
            with rasterio.open(out / "classes.tif") as source:
                maps[size, overlap] = (found.summary["seams"]["disagreement"], source.read(1))
    best = maps[_SIZES[-1][0], _SIZES[-1][1][-1]][1]
    valid = best != 255
    rows = [
        {
            "chip": size,
            "overlap": overlap,
            "disagree_%": 100 * disagreement if overlap else "-",
            "agree_%": 100 * float((classes == best)[valid].mean()),
            "miou": mean_iou(classes, np.where(valid, labels, 255), values),
        }
        for (size, overlap), (disagreement, classes) in maps.items()
    ]
    report("overlap", rows, given.work)


if __name__ == "__main__":
    main()
