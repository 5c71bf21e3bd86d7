"""Every `auto` decided: chip size, overlap, blocks of columns, within the memory there is."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from geounet.engines.choose import check_tta, resolve
from geounet.engines.engine import EngineSpec
from geounet.engines.machine import cores, device_memory
from geounet.engines.views import views_of
from geounet.errors import EngineError, ResourceError
from geounet.mapping.cost import Cost, Pixels, cost_of, device_memory_needed, memory_needed
from geounet.mapping.plan import Plan
from geounet.model.bundle import ModelBundle
from geounet.options import Options
from tiles.chips.grid import ChipGrid
from tiles.scene.scene import Scene


def planned(scene: Scene, bundle: ModelBundle, options: Options) -> tuple[Plan, Cost]:
    """Every `auto` decided, and what the work will cost."""
    spec = resolve(options.engine, options.device, options.precision, onnx=bundle.card.onnx is not None)
    shape, classes = scene.georef.shape, len(bundle.legend)
    pixels = Pixels(len(bundle.bands), scene.dtype.itemsize, classes, scene.cache_bytes)
    plan = make_plan(
        shape,
        bundle,
        spec,
        pixels,
        cores(),
        upsample=scene.upsample,
        context=bundle.card.context_scale(scene.georef.gsd),
        chip_size=options.chip_size,
        overlap=options.overlap,
        max_memory=options.max_memory,
        tta=check_tta(options.tta),
        device_memory=device_memory(spec),
    )
    return plan, cost_of(plan, shape, pixels, cores(), 2 + (classes if options.probabilities else 0))


_MULTIPLE = 32
_USUAL_MEMORY = 1_400_000_000
_LARGEST_CHIP = {"cpu": 1024, "mps": 1024, "cuda": 2048}
_SMALLEST_CHIP = 256
_DEVICE_SHARE = 0.8
_COMPILE_PIXELS = 20e9
"""Network pixels from which on a GPU compiles: a minute or two of eager work, by the rate that estimates go by."""


def make_plan(
    shape: tuple[int, int],
    bundle: ModelBundle,
    spec: EngineSpec,
    pixels: Pixels,
    cores: int,
    *,
    upsample: float = 1.0,
    context: float = 1.0,
    chip_size: int | None = None,
    overlap: int | None = None,
    max_memory: int | None = None,
    tta: str = "none",
    device_memory: int | None = None,
) -> Plan:
    """Decide chip size, overlap and blocks of columns for a map of `shape` (rows, columns); what is given is taken.

    Memory is kept under `max_memory` bytes, by default 1.4 GB: first by mapping in blocks of columns, then with
    smaller chips. Chips no larger than the model's own overlap share half of themselves instead: a scene that small is
    one chip, and shares nothing. `device_memory`, in bytes, is what a GPU has to give: an `auto` chip size keeps to
    most of it. Raises GridError for a chip size and overlap that do not go together, ResourceError where no plan keeps
    to a `max_memory` that was asked for.
    """
    usual = bundle.card.overlap if overlap is None else overlap
    budget = max_memory or _USUAL_MEMORY
    smallest = None
    compiled = _pays_to_compile(spec, shape[0] * shape[1] * upsample**2 * views_of(tta, context).cost)

    def plan_of(size: int) -> Plan:
        free = overlap is None or (chip_size is None and size >= max(shape))
        shared = size // 2 if free and usual >= size else usual
        one = Plan(spec.engine, spec.device, spec.precision, size, shared, upsample, compiled=compiled)
        return replace(one, tta=tta, context=context)

    def fits(size: int) -> bool:
        needed = device_memory_needed(plan_of(size), shape, pixels) if device_memory is not None else 0
        return needed <= _DEVICE_SHARE * (device_memory or 0)

    if (only := _only_size(bundle, chip_size, upsample)) is not None:
        sizes = [only]
    else:
        sizes = _chip_sizes(shape, usual, _largest_chip(spec, upsample), chip_size, fits)
    for size in sizes:
        whole = plan_of(size)
        whole.grid(shape)  # refuses impossible pairs before any work
        for plan in _narrower(whole, shape):
            need = memory_needed(plan, shape, pixels, cores)
            if need <= budget:
                return plan
            if smallest is None or need < smallest[1]:
                smallest = (plan, need)
    assert smallest is not None  # there is always a size to try
    if max_memory is not None:
        raise ResourceError(
            f"--max-memory {max_memory / 1e9:.2f} GB is not enough: this scene needs {smallest[1] / 1e9:.2f} GB "
            f"with {spec}"
        )
    return smallest[0]


def _only_size(bundle: ModelBundle, asked: int | None, upsample: float) -> int | None:
    """The chip size of a network that takes one size only: so large that `upsample` makes that size of it."""
    fixed = bundle.card.onnx.size if bundle.card.onnx else None
    if fixed is None:
        return None
    if asked is not None and asked != fixed:
        raise EngineError(f"--chip-size {asked}: {bundle.name} takes chips of {fixed} pixels only; leave it out")
    return round(fixed / upsample)


def _chip_sizes(
    shape: tuple[int, int], overlap: int, largest: int, asked: int | None, fits: Callable[[int], bool]
) -> list[int]:
    """Chip sizes to try, the best first: those that the device `fits`."""
    if asked is not None:
        return [_MULTIPLE * math.ceil(asked / _MULTIPLE)]
    largest = _fitting_device(largest, overlap, fits)
    best = _cheapest_chip(shape, overlap, largest)
    sizes = [best, *(size for size in (512, 256) if overlap < size < best)]
    # Smaller chips go to the device in larger batches, which may not fit where a larger chip does.
    return [size for size in sizes if fits(size)] or [largest]


def _narrower(plan: Plan, shape: tuple[int, int]) -> Iterator[Plan]:
    """The plan as it is, then in two blocks of columns, in three, and so on."""
    chips = len(plan.grid(shape).cols.starts)
    yield plan
    for blocks in range(2, chips + 1):
        yield replace(plan, block_chips=math.ceil(chips / blocks))


def _pays_to_compile(spec: EngineSpec, scored: float) -> bool:
    """Compiling takes a minute or so, which only much work repays; other devices than CUDA gain little."""
    return spec.device.startswith("cuda") and scored >= _COMPILE_PIXELS


def _fitting_device(largest: int, overlap: int, fits: Callable[[int], bool]) -> int:
    """The largest chip size that most of a device's memory holds, never less than the smallest that makes sense."""
    smallest = _MULTIPLE * math.ceil(max(_SMALLEST_CHIP, 2 * overlap) / _MULTIPLE)
    sizes = range(largest, smallest, -_MULTIPLE)
    return next((size for size in sizes if fits(size)), min(smallest, largest))


def _largest_chip(spec: EngineSpec, upsample: float) -> int:
    largest = _LARGEST_CHIP.get(spec.device.split(":")[0], _LARGEST_CHIP["cpu"])
    return max(_MULTIPLE, int(largest / upsample) // _MULTIPLE * _MULTIPLE)


def _cheapest_chip(shape: tuple[int, int], overlap: int, largest: int) -> int:
    """The chip size between half of the largest and the largest that computes the fewest pixels; ties to the larger.

    A scene smaller than that is one chip, as large as the scene asks for.
    """
    if max(shape) <= largest:
        return _MULTIPLE * math.ceil(max(shape) / _MULTIPLE)
    smallest = _MULTIPLE * math.ceil(max(largest // 2, 2 * overlap) / _MULTIPLE)
    sizes = range(min(smallest, largest), largest + 1, _MULTIPLE)
    return min(reversed(sizes), key=lambda size: ChipGrid(shape, size, overlap).redundancy())
