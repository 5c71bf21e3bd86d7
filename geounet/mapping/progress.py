"""How far a map is."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from geounet.mapping.plan import Plan
from tiles.chips.spool import Spool


@dataclass(frozen=True)
class Progress:
    """How far a map is: the stage's name, pixels done of all, megapixels a second, seconds left.

    Stages: `prepare` (the model, where that takes long), `predict`, `write`.
    """

    stage: str
    done: int
    total: int
    rate: float
    seconds_left: float | None
    plan: Plan | None = None


OnProgress = Callable[[Progress], None]


class Reporter:
    """Turns what the spool holds into progress: rate since this run began, time left."""

    def __init__(self, spool: Spool, plan: Plan, on_progress: OnProgress | None) -> None:
        self.spool, self.plan, self.on_progress = spool, plan, on_progress
        self.began, self.first = monotonic(), spool.pixels

    def now(self) -> None:
        """Tell how far it is."""
        if self.on_progress is None:
            return
        done, total = self.spool.pixels, self.spool.rows * self.spool.width
        rate = (done - self.first) / max(monotonic() - self.began, 1e-6)
        left = (total - done) / rate if rate else None
        self.on_progress(Progress("predict", done, total, rate / 1e6, left, self.plan))
