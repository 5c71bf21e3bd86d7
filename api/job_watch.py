"""Tells waiting requests that the database has changed, with one look for all of them."""

import asyncio
import contextlib

from geounet.service.database import Database

LOOK_SECONDS = 0.1


class JobWatch:
    """Looks at the database's change counter while somebody waits, and wakes all who do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = asyncio.Event()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def change(self, seconds: float) -> None:
        """Return after the next change, or after `seconds`."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    async def _look(self) -> None:
        before = self._database.version()
        while self._waiting:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._database.version()
            if now != before:
                before = now
                self._changed.set()
                self._changed = asyncio.Event()

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
