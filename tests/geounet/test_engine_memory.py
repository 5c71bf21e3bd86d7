"""However full and empty chips come mixed, an engine keeps a few of them and no more."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from geounet.engines.choose import open_engine
from geounet.engines.engine import Engine, EngineSpec
from geounet.engines.machine import cores
from geounet.engines.torch_device import DeviceEngine
from geounet.model.bundle import ModelBundle
from geounet.model.stretch import Stretch
from tiles.chips.cut import Chip
from tiles.window import Window

SIDE = 64
MOST = 16
"""Chips of a batch on a GPU, the largest number that any engine takes at once."""


def opened(engine: str, tta: str) -> Callable[[ModelBundle], Engine]:
    return lambda bundle: open_engine(bundle, EngineSpec(engine, "cpu", "f32"), SIDE, tta=tta)


ENGINES: dict[str, Callable[[ModelBundle], Engine]] = {
    "openvino": opened("openvino", "none"),
    "torch": opened("torch", "none"),
    "torch, views": opened("torch", "scales"),
    "a device": lambda bundle: DeviceEngine(bundle, EngineSpec("torch", "cpu", "f32"), SIDE),
}
MIXTURES: dict[str, Sequence[bool]] = {
    "one full chip, then none": [True] + [False] * 200,
    "a full one now and then": [i % 40 == 7 for i in range(120)],
    "nothing at all": [False] * 100,
    "all full": [True] * 25,
}


class Alive:
    """Counts how many of the arrays that it was shown are still held by anybody."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def watch(self, array: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(array, self._gone)

    def _gone(self) -> None:
        self.now -= 1


def chips(mixture: Sequence[bool], alive: Alive) -> Iterator[Chip]:
    for col, full in enumerate(mixture):
        counts = np.full((3, SIDE, SIDE), 90, np.uint8)
        alive.watch(counts)
        yield Chip(0, col, Window(0, col * SIDE, SIDE, SIDE), counts, np.full((SIDE, SIDE), full))
        del counts


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("engine", ENGINES)
def test_chips_do_not_pile_up(bundle: ModelBundle, one_thread: None, engine: str, mixture: str) -> None:
    alive = Alive()
    scored = ENGINES[engine](bundle).predict(chips(MIXTURES[mixture], alive), Stretch("none"))
    found = [score.probabilities is not None for score in scored]
    assert found == list(MIXTURES[mixture])
    assert alive.most <= cores() + 6 + (MOST if engine == "a device" else 0)
