"""The choices for one map: everything that `auto` stands for, decided once, recorded, kept by a resumed run."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from geounet.bundle import ModelBundle
from geounet.engines import EngineSpec
from tiles.grid import Block, ChipGrid

_MULTIPLE = 32
_LARGEST_CHIP = {"cpu": 1024, "mps": 1024, "cuda": 2048}


@dataclass(frozen=True)
class Plan:
    """What runs, on what, in chips of which size; sizes in pixels of the map's grid.

    `block_chips` is the number of chips across a block of columns; 0 maps the whole width at once.
    """

    engine: str
    device: str
    precision: str
    chip_size: int
    overlap: int
    upsample: float
    block_chips: int = 0

    @property
    def spec(self) -> EngineSpec:
        """The engine's part of the plan."""
        return EngineSpec(self.engine, self.device, self.precision)

    def grid(self, shape: tuple[int, int]) -> ChipGrid:
        """The chips over a map of `shape` (rows, columns)."""
        return ChipGrid(shape, self.chip_size, self.overlap)

    def blocks(self, shape: tuple[int, int]) -> tuple[Block, ...]:
        """The blocks of columns that are mapped one after another: one, unless memory is short."""
        grid = self.grid(shape)
        return grid.blocks(self.block_chips) if self.block_chips else (grid.whole,)

    def as_record(self) -> dict[str, Any]:
        """For the journal and `summary.json`."""
        return asdict(self)


def make_plan(
    shape: tuple[int, int],
    bundle: ModelBundle,
    spec: EngineSpec,
    upsample: float = 1.0,
    chip_size: int | None = None,
    overlap: int | None = None,
) -> Plan:
    """Decide chip size and overlap for a map of `shape` (rows, columns); what is given is taken.

    Raises GridError for a chip size and overlap that do not go together.
    """
    overlap = bundle.card.overlap if overlap is None else overlap
    if chip_size is None:
        chip_size = _cheapest_chip(shape, overlap, _largest_chip(spec, upsample))
    chip_size = _MULTIPLE * math.ceil(chip_size / _MULTIPLE)
    if max(shape) <= chip_size:
        overlap = min(overlap, chip_size - 1)
    plan = Plan(spec.engine, spec.device, spec.precision, chip_size, overlap, upsample)
    plan.grid(shape)  # refuses impossible pairs before any work
    return plan


def _largest_chip(spec: EngineSpec, upsample: float) -> int:
    largest = _LARGEST_CHIP[spec.device.split(":")[0]]
    return max(_MULTIPLE, int(largest / upsample) // _MULTIPLE * _MULTIPLE)


def _cheapest_chip(shape: tuple[int, int], overlap: int, largest: int) -> int:
    """The chip size between half of the largest and the largest that computes the fewest pixels; ties to the larger.

    A scene smaller than that is one chip, as large as the scene asks for.
    """
    if max(shape) <= largest:
        return _MULTIPLE * math.ceil(max(shape) / _MULTIPLE)
    smallest = max(largest // 2, 2 * overlap)
    sizes = range(min(smallest, largest), largest + 1, _MULTIPLE)
    return min(reversed(sizes), key=lambda size: ChipGrid(shape, size, overlap).redundancy())
