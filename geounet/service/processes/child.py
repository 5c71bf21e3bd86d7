"""Child processes: the one that makes maps, and the ones that read rasters."""

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from geounet.engines.machine import cache_folder
from geounet.service.processes.map_task import MapTask
from geounet.service.processes.sandbox.kernel import Fence, import_folders, runtime_paths
from geounet.service.processes.sandbox.limits import GDAL_SETTINGS, fenced_environment
from geounet.service.settings import ServiceSettings

mapper_log = logging.getLogger("geounet.service.processes.map_child")


class Child:
    """The mapping process of a worker, and what it says."""

    def __init__(self, mapper: str, settings: ServiceSettings) -> None:
        self.tasks = 0
        self.ended = False
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "geounet.service.processes.map_child", mapper, json.dumps(_mapping_fence(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_mapping_environment(settings)},
        )
        self._job: str | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self.identity = (self._process.pid, psutil.Process(self._process.pid).create_time())

    @property
    def _out(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _listen(self) -> None:
        """What libraries print, and the stack trace of a bug, become lines of the log that name the job."""
        assert self._process.stderr is not None
        with self._process.stderr as printed:
            for line in printed:
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    mapper_log.warning("%s", text, extra={"job": self._job})

    def send(self, task: MapTask, job: str) -> None:
        """Start a job; a process that has died meanwhile shows in `messages`."""
        self.tasks += 1
        self._job = job
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(task.to_record()).encode() + b"\n")
            self._process.stdin.flush()

    def messages(self, seconds: float) -> Iterator[dict[str, Any]]:
        """What the process says within `seconds`; returns early once it has said something or is gone."""
        if self.ended or not self._selector.select(seconds):
            return
        chunk = os.read(self._out.fileno(), 65536)
        self.ended = not chunk
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def how_it_ended(self) -> str:
        """For people: the signal or exit status of a process that ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        if code is None:
            return "it stopped answering"
        if code >= 0:
            return f"exit status {code}"
        name = signal.Signals(-code).name
        return f"signal {name}, often a lack of memory" if name == "SIGKILL" else f"signal {name}"

    def kill(self) -> None:
        """End the process now and wait for it to be gone."""
        self._process.kill()
        self._process.wait()
        self._listener.join(5)
        self._selector.close()
        self._out.close()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()


def _mapping_fence(settings: ServiceSettings) -> dict[str, Any]:
    """What a mapping process may reach: code, models, scenes; of the disk it writes its own work and the model cache.

    It may start programs, for networks are converted and compiled by them: they are behind the same fence.
    """
    data = settings.data.resolve()
    gpu = Path("/dev/nvidiactl").exists() and settings.device != "cpu"
    read = [*runtime_paths(), sys.prefix, sys.base_prefix, "/usr", "/opt", "/proc", "/sys", str(data / "scenes")]
    if settings.bundles is not None:
        read.append(str(settings.bundles.resolve()))
    write = [data / "work", data / "scratch", cache_folder()]
    for folder in write:
        folder.mkdir(parents=True, exist_ok=True)
    places = (*(str(folder) for folder in write), "/dev" if gpu else "/dev/null")
    return Fence(settings.sandbox, tuple(read), places, import_folders(), programs=True).as_record()


def _mapping_environment(settings: ServiceSettings) -> dict[str, str]:
    # The fences that cost no speed: no sidecar files, no network. Memory is not fenced, networks need address space.
    kept = ("GDAL_DISABLE_READDIR_ON_OPEN", "GDAL_PAM_ENABLED", "CPL_VSIL_CURL_ALLOWED_FILENAME", "GDAL_HTTP_TIMEOUT")
    cache = str(cache_folder())
    scratch = str(settings.data.resolve() / "scratch")
    own = dict.fromkeys(("GEOUNET_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"), cache)
    own |= dict.fromkeys(("TMPDIR", "SQLITE_TMPDIR", "HOME"), scratch)  # libraries leave things at home
    own["XDG_CACHE_HOME"] = cache  # where numba goes when it may not write beside the code
    return own | {name: GDAL_SETTINGS[name] for name in kept}


class ReaderChild:
    def __init__(self, memory: int, fence: Fence) -> None:
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
        self._send({"memory": memory, "fence": fence.as_record()})

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
