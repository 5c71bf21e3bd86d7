"""Limits of a process that touches what strangers sent: memory, processor time, no files written, no sidecars."""

import contextlib
import ctypes
import os
import resource
import signal
import sys

GDAL_SETTINGS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_NUM_THREADS": "1",
    "GDAL_CACHEMAX": "64",
    "GDAL_MAX_DATASET_POOL_SIZE": "16",
    "VRT_VIRTUAL_OVERVIEWS": "NO",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "/refused-by-geounet",
    "CPL_VSIL_ZIP_ALLOWED_EXTENSIONS": ".refused-by-geounet",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_DRIVER_PATH": "disable",
    "PROJ_NETWORK": "OFF",
    "PROJ_USER_WRITABLE_DIRECTORY": "/nowhere",
    "GDAL_HTTP_TIMEOUT": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
"""GDAL's environment for uploads: no neighbouring files, no `.aux.xml` read or written, no plug-ins, no network."""


def fenced_environment() -> dict[str, str]:
    """This process's environment with `GDAL_SETTINGS` on top and nothing secret in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GS_", "AZURE_"))}
    return {**kept, **GDAL_SETTINGS}


def fence(memory: int | None = None, cpu_seconds: float | None = None, file_bytes: int | None = None) -> None:
    """Limit the calling process for good; None leaves a limit as it is. Memory counts address space, in bytes."""
    if memory is not None:
        _lower(resource.RLIMIT_AS, memory)
    if cpu_seconds is not None:
        _lower(resource.RLIMIT_CPU, int(cpu_seconds) + 1)
    if file_bytes is not None:
        _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_CORE, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, even by kill -9 (Linux; elsewhere the pipe tells)."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def _lower(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (value, value))
