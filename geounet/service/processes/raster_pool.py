"""Raster readers at the API's hand: a few fenced processes, replaced when they die or take too long."""

import contextlib
import json
import logging
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from geounet.service.errors import BusyError, NotFoundError
from geounet.service.processes.sandbox import fenced_environment
from geounet.service.settings import ServiceSettings

log = logging.getLogger("geounet.service.processes.raster_pool")

_SECONDS = 30.0


class Readers:
    """Asks `geounet.service.processes.raster_child` processes, started when they are first needed. Any thread may call."""

    def __init__(self, settings: ServiceSettings, processes: int = 2) -> None:
        self._settings = settings
        self._free: queue.Queue[_Reader | None] = queue.Queue()
        self._all: set[_Reader] = set()
        self._lock = threading.Lock()
        self._closed = False
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

    def close(self) -> None:
        """End every process."""
        self._closed = True
        for reader in list(self._all):
            self._end(reader)
        self._starter.shutdown()

    def _start(self) -> "_Reader":
        if self._closed:
            raise OSError("the service is shutting down")
        reader = self._starter.submit(_Reader, self._settings.inspect_memory).result()
        with self._lock:
            self._all.add(reader)
        return reader

    def _end(self, reader: "_Reader") -> None:
        with self._lock:
            self._all.discard(reader)
        reader.kill()


class _Reader:
    def __init__(self, memory: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "geounet.service.processes.raster_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=fenced_environment(),
        )
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._send({"memory": memory})

    def ask(self, request: Mapping[str, Any], seconds: float) -> tuple[dict[str, Any], bytes]:
        ends = time.monotonic() + seconds
        self._send(request)
        buffer = b""
        while b"\n" not in buffer:
            buffer += self._receive(ends)
        line, _, body = buffer.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        while len(body) < told["bytes"]:
            body += self._receive(ends)
        return told, body

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dict(message)).encode() + b"\n")

    def _receive(self, ends: float) -> bytes:
        if not self._selector.select(max(ends - time.monotonic(), 0)):
            raise TimeoutError("the reader takes too long")
        assert self._process.stdout is not None
        chunk = self._process.stdout.read(1 << 20)
        if not chunk:
            raise OSError("the reader died")
        return chunk
