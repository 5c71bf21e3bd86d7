"""Integer arithmetic of chips: nothing here knows pixels, files or coordinates."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from tiles.errors import GridError
from tiles.window import Window


@dataclass(frozen=True)
class Axis:
    """Chips along one side of a scene.

    Chips start every `chip - overlap` pixels; the last is slid inwards to end at the scene's end. A slid chip
    overlaps its neighbour by more than `overlap`; of that, only the last `overlap` pixels are used, so that
    what blending has to keep is bounded by the overlap. A side shorter than a chip has one chip that sticks out;
    what sticks out is padding.
    """

    length: int
    chip: int
    overlap: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.chip < 1:
            raise GridError(f"a side of {self.length} px cannot be cut into chips of {self.chip} px")
        if not 0 <= self.overlap < self.chip:
            raise GridError(f"overlap must lie in 0..{self.chip - 1} for chips of {self.chip} px, not {self.overlap}")

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of every chip, ascending."""
        if self.length <= self.chip:
            return (0,)
        last = self.length - self.chip
        return (*range(0, last, self.chip - self.overlap), last)

    def used(self, index: int) -> tuple[int, int]:
        """Half-open range of scene pixels that chip `index` contributes to."""
        start = self.starts[index]
        end = min(start + self.chip, self.length)
        if index == 0:
            return start, end
        return max(start, self.starts[index - 1] + self.chip - self.overlap), end

    def settled(self, index: int) -> tuple[int, int]:
        """Half-open range of scene pixels that no chip after `index` touches and that were open before it."""
        first = self.used(index)[0]
        last = self.used(index + 1)[0] if index + 1 < len(self.starts) else self.length
        return first, last

    def first_touching(self, pixel: int) -> int:
        """Index of the first chip that contributes to `pixel` or to anything after it."""
        return next(i for i in range(len(self.starts)) if self.used(i)[1] > pixel)


@dataclass(frozen=True)
class Block:
    """A block of columns that is mapped from top to bottom before the next one begins.

    Columns `left..right` are finished by it; chips `first..last` (half open) are scored for it. Blocks share chips at
    their borders, so that each pixel gets the same scores whatever the blocks are.
    """

    left: int
    right: int
    first: int
    last: int

    @property
    def width(self) -> int:
        """Columns finished by this block."""
        return self.right - self.left


@dataclass(frozen=True)
class ChipGrid:
    """Overlapping square chips over a scene of `shape` (rows, columns), in row-major order."""

    shape: tuple[int, int]
    chip_size: int
    overlap: int

    def __post_init__(self) -> None:
        _ = (self.rows, self.cols)  # refuses impossible sizes at once

    @cached_property
    def rows(self) -> Axis:
        """Chips from top to bottom."""
        return Axis(self.shape[0], self.chip_size, self.overlap)

    @cached_property
    def cols(self) -> Axis:
        """Chips from left to right."""
        return Axis(self.shape[1], self.chip_size, self.overlap)

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.cols.starts)

    def window(self, row: int, col: int) -> Window:
        """The full chip at grid position (row, col), padding included."""
        return Window(self.rows.starts[row], self.cols.starts[col], self.chip_size, self.chip_size)

    def positions(self, first_row: int = 0) -> Iterator[tuple[int, int]]:
        """Grid positions (row, col) in row-major order, from chip row `first_row` on."""
        for row in range(first_row, len(self.rows.starts)):
            for col in range(len(self.cols.starts)):
                yield row, col

    @cached_property
    def whole(self) -> Block:
        """All columns as one block."""
        return Block(0, self.shape[1], 0, len(self.cols.starts))

    def blocks(self, chip_cols: int) -> tuple[Block, ...]:
        """Blocks that each finish the columns of `chip_cols` chips, from left to right."""
        edges = [*range(0, len(self.cols.starts), max(1, chip_cols)), len(self.cols.starts)]
        out = []
        for first, last in pairwise(edges):
            left, right = self.cols.settled(first)[0], self.cols.settled(last - 1)[1]
            out.append(Block(left, right, self.cols.first_touching(left), last))
        return tuple(out)

    def redundancy(self) -> float:
        """Pixels that the network computes per pixel of the scene."""
        return len(self) * self.chip_size**2 / (self.shape[0] * self.shape[1])
