"""A rectangle of a raster, in pixels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Rows `top..top+height` and columns `left..left+width` of a scene, half open."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """One past the last row."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """One past the last column."""
        return self.left + self.width
