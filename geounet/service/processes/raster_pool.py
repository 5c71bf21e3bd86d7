"""Raster readers at the API's hand: a few fenced processes, replaced when they die or take too long."""

import contextlib
import logging
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from geounet.service.errors import BusyError, NotFoundError
from geounet.service.processes.child import ReaderChild
from geounet.service.processes.sandbox.kernel import Fence, runtime_paths
from geounet.service.settings import ServiceSettings

log = logging.getLogger("geounet.service.processes.raster_pool")

_SECONDS = 30.0


class Readers:
    """Asks `raster_child` processes, started when they are first needed. Any thread may call."""

    def __init__(self, settings: ServiceSettings, processes: int = 2) -> None:
        self._settings = settings
        self._free: queue.Queue[ReaderChild | None] = queue.Queue()
        self._all: set[ReaderChild] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._processes, self._warmed = processes, False
        data = settings.data.resolve()  # of the data folder, what is read; not the database
        self._fence = Fence(settings.sandbox, (*runtime_paths(), str(data / "scenes"), str(data / "maps")))
        # Readers die with the thread that started them (die_with_parent), and request threads end when idle.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="readers")
        for _ in range(processes):
            self._free.put(None)

    def ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """(JSON part, bytes) of the answer. Raises NotFoundError where there is nothing, BusyError otherwise."""
        try:
            reader = self._free.get(timeout=_SECONDS)
        except queue.Empty:
            raise BusyError("too many tiles are being asked for at once: try again in a moment") from None
        try:
            reader = reader or self._start()
            answer = reader.ask(request, _SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            told = {"want": request["want"], "raster": str(request.get("path") or request.get("paths"))}
            log.warning("a reader was killed: %s", error, extra=told)
            if reader is not None:
                self._end(reader)
                reader = None
            raise BusyError("this raster could not be read just now: try again, or at another zoom") from error
        finally:
            self._free.put(reader)
        if "missing" in answer[0]:
            raise NotFoundError(answer[0]["missing"])
        if "error" in answer[0]:
            told = {"error": answer[0]["error"], "want": request["want"]}
            log.warning("a raster cannot be read: %s", answer[0]["detail"], extra=told)
            raise NotFoundError("the raster cannot be read here")
        return answer

    def warm(self) -> None:
        """Have every process start that has not, without waiting: somebody is about to look at maps."""
        with self._lock:
            if self._warmed or self._closed:
                return
            self._warmed = True
        for _ in range(self._processes):
            threading.Thread(target=self._ready, daemon=True).start()

    def _ready(self) -> None:
        with contextlib.suppress(BusyError, NotFoundError, RuntimeError):
            self.ask({"want": "ready"})

    def close(self) -> None:
        """End every process."""
        self._closed = True
        for reader in list(self._all):
            self._end(reader)
        self._starter.shutdown()

    def _start(self) -> "ReaderChild":
        if self._closed:
            raise OSError("the service is shutting down")
        reader = self._starter.submit(ReaderChild, self._settings.inspect_memory, self._fence).result()
        with self._lock:
            self._all.add(reader)
        return reader

    def _end(self, reader: "ReaderChild") -> None:
        with self._lock:
            self._all.discard(reader)
        reader.kill()
