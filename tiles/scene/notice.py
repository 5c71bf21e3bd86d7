"""What was decided about a scene on the way in, in words for people."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "adjusted", "warning"]


@dataclass(frozen=True)
class Notice:
    """One decision: `ok` (as expected), `adjusted` (something was changed, and how), `warning` (look at it)."""

    level: Level
    topic: str
    text: str
