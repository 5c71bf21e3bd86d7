"""The workers that `geounet serve` starts, watches and starts again."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

log = logging.getLogger("geounet.cli.serve")


class Crew:
    """Worker processes that are started again when they die, more and more slowly if they keep dying."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._running: set[subprocess.Popen[bytes]] = set()

    def start(self) -> None:
        """Start the workers and watch them."""
        command = [sys.executable, "-m", "geounet.cli.serve", "worker", "--follow", str(os.getpid())]
        for _ in range(self._size):
            thread = threading.Thread(target=self._keep, args=(command,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Have the workers give their jobs back, and wait for them."""
        self._stopping.set()
        for process in list(self._running):
            process.terminate()
        for thread in self._threads:
            thread.join(15)
        for process in list(self._running):
            process.kill()

    def _keep(self, command: Sequence[str]) -> None:
        pause = 0.5
        while not self._stopping.is_set():
            began = time.monotonic()
            process = subprocess.Popen(command)
            self._running.add(process)
            status = process.wait()
            self._running.discard(process)
            if self._stopping.is_set():
                return
            pause = 0.5 if time.monotonic() - began > 60 else min(pause * 2, 30)
            log.error("worker died, starting another", extra={"status": status, "in_seconds": pause})
            self._stopping.wait(pause)


def stop_without(parent: int) -> None:
    """Stop a worker whose service has died, even by kill -9."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
