"""Whoever keeps sending wrong keys is answered ever more slowly; right keys are answered at once.

A key cannot be guessed. What is spared are the database and the log, and a guesser's illusions.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from geounet.service.errors import QuotaError

_CLIENTS = 10_000


@dataclass
class _Guesser:
    """One client's wrong keys: how many of late, since when, and how many of its requests are being held."""

    count: int = 0
    since: float = 0.0
    held: int = 0
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)


class WrongKeys:
    """Slows guessers down, each by itself. For one event loop."""

    def __init__(self, free: int = 10, window: float = 60.0, pause: float = 1.0, held: int = 16) -> None:
        """`free` wrong keys within `window` seconds cost nothing; then each takes `pause` seconds, one at a time.

        A client of whose requests `held` are being held is refused before its key is looked at.
        """
        self._free, self._window, self._pause, self._held = free, window, pause, held
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()

    def check(self, client: str) -> None:
        """Raise QuotaError for a client that sends more wrong keys than it waits for."""
        guesser = self._guessers.get(client)
        if guesser is not None and guesser.held >= self._held:
            raise QuotaError("too many wrong keys come from your address: wait a minute")

    async def slow(self, client: str) -> None:
        """Note a wrong key, and take the time that it costs."""
        now = time.monotonic()
        guesser = self._guessers.setdefault(client, _Guesser(since=now))
        self._guessers.move_to_end(client)
        if now - guesser.since > self._window:
            guesser.count, guesser.since = 0, now
        guesser.count += 1
        while len(self._guessers) > _CLIENTS:
            self._guessers.popitem(last=False)
        if guesser.count <= self._free:
            return
        guesser.held += 1
        try:
            async with guesser.gate:
                await asyncio.sleep(self._pause)
        finally:
            guesser.held -= 1
