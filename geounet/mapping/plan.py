"""The choices for one map: everything that `auto` stands for, decided once, recorded, kept by a resumed run."""

from dataclasses import asdict, dataclass
from typing import Any

from geounet.engines.engine import EngineSpec
from geounet.engines.views import Views, views_of
from tiles.chips.grid import Block, ChipGrid


@dataclass(frozen=True)
class Plan:
    """What runs, on what, in chips of which size; sizes in pixels of the map's grid.

    `block_chips` is the number of chips across a block of columns; 0 maps the whole width at once. `tta` is one of
    `geounet.options.TTA`, `context` the scale of a second, coarser view, 1 without one. `compiled` runs the
    network through `torch.compile`.
    """

    engine: str
    device: str
    precision: str
    chip_size: int
    overlap: int
    upsample: float
    block_chips: int = 0
    tta: str = "none"
    context: float = 1.0
    compiled: bool = False

    @property
    def spec(self) -> EngineSpec:
        """The engine's part of the plan."""
        return EngineSpec(self.engine, self.device, self.precision)

    @property
    def views(self) -> Views:
        """The views of each chip that are averaged."""
        return views_of(self.tta, self.context)

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
