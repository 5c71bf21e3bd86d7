"""What a map will cost: memory, disk, time. Constants were measured by `benchmarks/scaling.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING

from geounet.engines.machine import batch_size
from geounet.errors import ResourceError
from tiles.chips.cut import ROWS_AT_ONCE
from tiles.chips.grid import Block, ChipGrid
from tiles.scene.source import CACHE_BYTES

if TYPE_CHECKING:
    from geounet.mapping.plan import Plan

MEGA = 1_000_000

_PROCESS = {"openvino": 430 * MEGA, "torch": 1060 * MEGA, "onnxruntime": 430 * MEGA}
"""Interpreter, libraries and the loaded model."""
_FINISH = 320 * MEGA
"""What the finish pass adds to that: libraries for polygons, their rows in work, GDAL's cache. Depends on no size; a
map of nothing but specks takes more (docs/polygons.md)."""
_CHIP_BYTES = {
    "openvino": {"bf16": 215, "f32": 300},
    "torch": {"bf16": 330, "f32": 600, "fp16": 330},
    "onnxruntime": {"f32": 420},
}
"""Activations a network pixel of one chip in work, on the CPU; a GPU keeps them in its own memory."""
_RATES = {"openvino": {"bf16": 4.0, "f32": 1.4}, "torch": {"bf16": 1.7, "f32": 0.7}, "onnxruntime": {"f32": 1.1}}
"""Network megapixels a second and core: orders of magnitude, to say minutes or hours."""
_CUDA_RATE = 150.0
"""Network megapixels a second. A guess: no GPU was at hand."""
_DEVICE_BYTES = {"f32": 1200, "bf16": 700, "fp16": 700}
"""Activations a network pixel on a GPU: twice what a CPU takes, for libraries' scratch space. A guess as well."""
_FINISH_RATE = 15.0
"""Megapixels a second of the finish pass on a class map with real texture."""


@dataclass(frozen=True)
class Pixels:
    """What of a scene's nature costs memory: bands read, bytes a count, classes scored.

    `cache` tells the bytes that GDAL keeps of decoded blocks while strips of so many columns are read.
    """

    bands: int
    itemsize: int
    classes: int
    cache: Callable[[int], int] = lambda columns: CACHE_BYTES


@dataclass(frozen=True)
class Cost:
    """Bytes of memory and disk, seconds."""

    memory: int
    disk: int
    seconds: float


def memory_needed(plan: "Plan", shape: tuple[int, int], pixels: Pixels, streams: int) -> int:
    """Bytes of resident memory that a map of `shape` (rows, columns) takes at most."""
    width = max(_read_width(plan.grid(shape), block) for block in plan.blocks(shape))
    chip = plan.chip_size
    # The strip in work, the one being read, and what is read at once.
    strips = (2 * chip + 1.5 * ROWS_AT_ONCE) * width * (pixels.bands * pixels.itemsize + 1) + pixels.cache(width)
    open_rows = 2 * plan.overlap * width * (4 * pixels.classes + 1)
    finished = 2 * chip * width
    network_pass = _chips(plan, pixels, streams) + strips + open_rows + finished
    return int(_PROCESS[plan.engine] + max(network_pass, _FINISH))


def _chips(plan: "Plan", pixels: Pixels, streams: int) -> float:
    side = plan.chip_size * plan.upsample
    network = _CHIP_BYTES[plan.engine].get(plan.precision, 600)
    views = plan.views
    if plan.engine in ("openvino", "onnxruntime"):
        at_work = streams * sum(scale**2 for scale in views.scales)
    else:
        at_work = max(views.scales) ** 2
    if plan.device != "cpu":  # three buffers of raw counts, pinned; all else is on the device
        return 3 * batch_size(plan.device, round(side)) * plan.chip_size**2 * (pixels.bands * pixels.itemsize + 1)
    kept = 3 if len(views.turns) * len(views.scales) == 1 else 4
    return at_work * side * side * network + kept * plan.chip_size**2 * 4 * (pixels.classes + pixels.bands)


def device_memory_needed(plan: "Plan", shape: tuple[int, int], pixels: Pixels) -> int:
    """Bytes of a GPU's own memory that a map of `shape` (rows, columns) takes at most."""
    chip, scales = plan.chip_size, plan.views.scales
    sides = [round(chip * plan.upsample * scale) for scale in scales]
    network = max(batch_size(plan.device, side) * side**2 for side in sides) * _DEVICE_BYTES.get(plan.precision, 1200)
    counts = 3 * (pixels.bands * pixels.itemsize + 1) + 4 * pixels.bands
    chips = sum(batch_size(plan.device, side) for side in sides) * chip**2 * (counts + 4 * pixels.classes)
    blending = 4 * chip**2 * 4 * pixels.classes
    width = max(block.width for block in plan.blocks(shape))
    rows = width * (2 * plan.overlap * (4 * pixels.classes + 1) + 3 * chip * (2 + pixels.classes))
    return int(network + chips + blending + rows)


def _read_width(grid: ChipGrid, block: Block) -> int:
    return min(grid.cols.starts[block.last - 1] + grid.chip_size, grid.shape[1]) - grid.cols.starts[block.first]


def cost_of(plan: "Plan", shape: tuple[int, int], pixels: Pixels, cores: int, layers: int) -> Cost:
    """The whole cost; `layers` is the number of bytes a pixel that the spool keeps."""
    scene = shape[0] * shape[1]
    scored = scene * plan.grid(shape).redundancy() * plan.upsample**2 * plan.views.cost
    rate = _CUDA_RATE if plan.device.startswith("cuda") else cores * _RATES[plan.engine].get(plan.precision, 1.0)
    seconds = scored / rate / MEGA + scene / _FINISH_RATE / MEGA
    # The spool, the rasters made from it, raw overviews of one layer at a time, and the polygons.
    disk = scene * layers + scene * layers * 0.6 + 20 * MEGA
    return Cost(memory_needed(plan, shape, pixels, cores), int(disk), seconds)


def require_disk(cost: Cost, out: Path, already_there: int = 0) -> None:
    """Raise ResourceError where the disk that holds `out` has less room than the work takes."""
    free = disk_usage(out).free + already_there
    if free < cost.disk:
        raise ResourceError(
            f"{out}: the map takes about {_size(cost.disk)} of disk while it is made and {_size(free)} are free: "
            "make room or choose another -o"
        )


def _size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
