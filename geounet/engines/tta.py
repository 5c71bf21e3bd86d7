"""Test-time augmentation: every chip is scored in several views - turned, mirrored, at other scales - and averaged.

It is an engine around engines, so it works with any of them, and what a user maps, `evaluate` scores. The mean is taken
of the probabilities after the calibration temperature.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from geounet.engines.engine import Engine, EngineSpec
from geounet.engines.views import Views, turned, turned_back
from geounet.model.stretch import Stretch
from tiles.chips.arrays import namespace
from tiles.chips.blend import Scores, Strip
from tiles.chips.cut import Chip


class AugmentedEngine:
    """The mean of the class probabilities of all views of a chip. `open_scaled` opens the engine for one scale."""

    def __init__(self, views: Views, open_scaled: Callable[[float], Engine]) -> None:
        self.views = views
        self.engines = [open_scaled(scale) for scale in views.scales]

    @property
    def spec(self) -> EngineSpec:
        """What runs where, in which precision."""
        return self.engines[0].spec

    def predict(self, chips: Iterable[Chip], stretch: Stretch) -> Iterator[Scores]:
        """See `Engine.predict`."""
        found = [
            iter(engine.predict(self._views_of(mine), stretch))
            for engine, mine in zip(self.engines, _handed_out(chips, len(self.engines)), strict=True)
        ]
        mean = None
        for first in found[0]:
            if first.probabilities is None:
                for others in found[1:]:
                    next(others)
                yield first
                continue
            if mean is None:
                mean = namespace(first.probabilities).zeros_like(first.probabilities)
            last = self._add_up(first, found, mean)
            mean *= 1.0 / (len(self.views.turns) * len(found))
            # The last view's validity: an engine's earlier answers may be overwritten by now.
            yield replace(first, probabilities=mean, valid=turned_back(last.valid, self.views.turns[-1]))

    def fetch(self, strips: Iterator[Strip]) -> Generator[Strip, None, None]:
        """See `Engine.fetch`."""
        return self.engines[0].fetch(strips)

    def _views_of(self, chips: Iterable[Chip]) -> Iterator[Chip]:
        """Every chip in all its turns; an empty one, which nobody scores, once."""
        for chip in chips:
            for turn in (0,) if chip.empty else self.views.turns:
                yield replace(chip, counts=turned(chip.counts, turn), valid=turned(chip.valid, turn))

    def _add_up(self, first: Scores, found: Sequence[Iterator[Scores]], total: Any) -> Scores:
        """Sum the probabilities of all views into `total`; returns the last view. `first` came out already."""
        score = first
        total[:] = turned_back(first.probabilities, self.views.turns[0])
        for scale, scores in enumerate(found):
            for turn in self.views.turns[0 if scale else 1 :]:
                score = next(scores)
                total += turned_back(score.probabilities, turn)
        return score


def _handed_out(chips: Iterable[Chip], takers: int) -> list[Iterator[Chip]]:
    """All chips for each of the takers; kept only until the last has taken them (`itertools.tee` keeps 57 and more)."""
    source, waiting = iter(chips), [deque[Chip]() for _ in range(takers)]

    def taken(mine: "deque[Chip]") -> Iterator[Chip]:
        while True:
            if not mine:
                try:
                    chip = next(source)
                except StopIteration:
                    return
                for queue in waiting:
                    queue.append(chip)
                del chip
            yield mine.popleft()

    return [taken(mine) for mine in waiting]
