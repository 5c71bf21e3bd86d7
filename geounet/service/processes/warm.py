"""Processes that are started before they are needed, have loaded what they need, and do one thing each.

A process that has opened a stranger's file is never given another: what it might have become ends with it.
"""

import contextlib
import logging
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from geounet.service.processes.sandbox.limits import fenced_environment

log = logging.getLogger("geounet.service.processes.warm")


class WarmChildren:
    """Keeps `size` processes of a module ready; each reads one request from standard input. Any thread may call."""

    def __init__(self, module: str, size: int) -> None:
        self._module, self._size = module, size
        self._ready: deque[subprocess.Popen[str]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        # The processes die with the thread that started them, and request threads end when idle.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="warm")

    def ask(self, request: str, seconds: float) -> tuple[int, str]:
        """(exit status, what it printed) of a process that nobody else has used. Raises subprocess.TimeoutExpired."""
        process = self._take()
        try:
            printed, complaint = process.communicate(request, timeout=seconds)
        except BaseException:
            _end(process)
            raise
        finally:
            self._refill()
        if process.returncode:  # hostile input, or a fault of ours: the operator can tell by its last words
            log.warning("a fenced process failed", extra={"status": process.returncode, "said": complaint[-2000:]})
        return process.returncode, printed

    def close(self) -> None:
        """End the processes that wait."""
        with self._lock:
            self._closed = True
        self._starter.shutdown()
        while self._ready:
            _end(self._ready.popleft())

    def _take(self) -> "subprocess.Popen[str]":
        with self._lock:
            while self._ready:
                process = self._ready.popleft()
                if process.poll() is None:
                    return process
                _end(process)
        return self._starter.submit(self._start).result()

    def _refill(self) -> None:
        """Start what is missing, without waiting for it."""
        with self._lock:
            if not self._closed:
                self._starter.submit(self._fill)

    def _fill(self) -> None:
        while len(self._ready) < self._size and not self._closed:
            self._ready.append(self._start())

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=fenced_environment(),
        )


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    with contextlib.suppress(OSError, ValueError):
        process.communicate()
