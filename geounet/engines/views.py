"""The views of a chip that test-time augmentation averages."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tiles.chips.arrays import namespace

_FLIPS = (0, 4, 2, 6)
_SCALES = (1.0, 0.8, 1.25)


@dataclass(frozen=True)
class Views:
    """The views of a chip: every one of `turns` (see `turned`) at every one of `scales` of the network's input."""

    turns: tuple[int, ...] = (0,)
    scales: tuple[float, ...] = (1.0,)

    @property
    def cost(self) -> float:
        """Pixels that the network computes for one pixel of a chip."""
        return len(self.turns) * sum(scale**2 for scale in self.scales)


VIEWS: Mapping[str, Views] = {
    "none": Views(),
    "flips": Views(_FLIPS),
    "d4": Views(tuple(range(8))),
    "scales": Views(scales=_SCALES),
    "all": Views(tuple(range(8)), _SCALES),
}
"""By name: as it is; 4 turns and mirror images that keep rows rows; all 8; 3 scales; all 8 at 3 scales."""


def views_of(tta: str, context: float = 1.0) -> Views:
    """The views of `VIEWS[tta]` and, with a `context` other than 1, all its turns once more at that scale."""
    views = VIEWS[tta]
    return views if context == 1.0 else replace(views, scales=(*views.scales, context))


def turned(image: Any, turn: int) -> Any:
    """An image (..., rows, columns) turned left by `turn % 4` quarters and then, from 4 on, mirrored left to right."""
    xp = namespace(image)
    out = xp.rot90(image, turn % 4, (-2, -1))
    return xp.flip(out, (-1,)) if turn >= 4 else out


def turned_back(image: Any, turn: int) -> Any:
    """Inverse of `turned`."""
    xp = namespace(image)
    return xp.rot90(xp.flip(image, (-1,)) if turn >= 4 else image, -(turn % 4), (-2, -1))
