"""So many at a time, and among those who wait the clients take turns: one who asks for much keeps nobody else out."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from geounet.service.errors import BusyError


class Turns:
    """Lets `at_once` in; each client may have `waiting` more in line. For one event loop."""

    def __init__(self, at_once: int, waiting: int, seconds: float) -> None:
        """`seconds` is how long one waits at most."""
        self._free = at_once
        self._most, self._seconds = waiting, seconds
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """One client's turn. Raises BusyError where its line is too long, or does not move."""
        await self._wait(client)
        try:
            yield
        finally:
            self._free += 1
            self._next()

    async def _wait(self, client: str) -> None:
        line = self._lines.get(client)
        if line is not None and len(line) >= self._most:
            raise BusyError("you are asking for too much at once: wait for some of the answers")
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(mine)
        self._next()
        try:
            async with asyncio.timeout(self._seconds):
                await mine
        except BaseException as error:
            self._leave(client, mine)
            if isinstance(error, TimeoutError):
                raise BusyError("too much is being asked for at once: try again in a moment") from None
            raise

    def _leave(self, client: str, mine: "asyncio.Future[None]") -> None:
        """Out of the line; a turn that came just when its client gave up goes to the next."""
        if mine.done() and not mine.cancelled():
            self._free += 1
        line = self._lines.get(client)
        if line is not None and mine in line:
            line.remove(mine)
            if not line:
                del self._lines[client]
        self._next()

    def _next(self) -> None:
        while self._free and self._lines:
            client, line = self._lines.popitem(last=False)
            first = line.popleft()
            if line:
                self._lines[client] = line  # behind all others who wait
            if not first.done():
                self._free -= 1
                first.set_result(None)
