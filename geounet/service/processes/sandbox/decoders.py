"""What opens pixels in a fenced process: loaded before the fence goes up, and no more of it than is needed."""

import ctypes
import re
import sys
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

KEPT_DRIVERS = ("GTiff", "MEM", "VRT")
"""GDAL drivers of a process that reads decoded scenes; one that opens a stranger's file has no VRT."""


def load_decoders(kept: Collection[str] | None = KEPT_DRIVERS) -> None:
    """Import what reads scenes, and take every GDAL driver but `kept` away; None keeps all.

    numba looks for a place for its cache when it is imported, which a fence would refuse; behind the fence it reads
    its cache, and what may not be added to it is not.
    """
    import pyproj  # noqa: F401
    import rasterio
    from numba.core import caching

    import tiles.scene.scene  # noqa: F401

    save = caching.Cache.save_overload

    def save_if_allowed(kept: caching.Cache, *args: object) -> None:
        with suppress(OSError):
            save(kept, *args)  # type: ignore[no-untyped-call]

    caching.Cache.save_overload = save_if_allowed  # type: ignore[method-assign]
    if kept is not None:
        with rasterio.Env():
            keep_drivers(kept)


def keep_drivers(kept: Collection[str]) -> list[str]:
    """Deregister every GDAL driver that is not `kept`, in every copy of GDAL in this process; the names that remain.

    GDAL_SKIP does the same only for drivers that somebody has listed; this leaves those that somebody has listed.
    """
    remaining: list[str] = []
    for gdal in _loaded_gdal():
        for index in reversed(range(gdal.GDALGetDriverCount())):
            driver = gdal.GDALGetDriver(index)
            name = gdal.GDALGetDescription(driver).decode()
            if name in kept:
                remaining.append(name)
            else:
                gdal.GDALDeregisterDriver(driver)
    return sorted(remaining)


def register_vrt() -> None:
    """Bring the VRT driver back where `keep_drivers` took it away."""
    for gdal in _loaded_gdal():
        gdal.GDALRegister_VRT()


@cache
def _loaded_gdal() -> tuple[Any, ...]:
    """The GDAL libraries that this process has loaded; remembered, for a fence hides where they are."""
    if sys.platform != "linux":
        return ()
    maps = Path("/proc/self/maps").read_text()
    found = []
    for path in sorted(set(re.findall(r"/\S*/libgdal[^/\s]*\.so[^/\s]*", maps))):
        gdal = ctypes.CDLL(path)
        gdal.GDALGetDriver.restype = ctypes.c_void_p
        gdal.GDALGetDescription.argtypes = [ctypes.c_void_p]
        gdal.GDALGetDescription.restype = ctypes.c_char_p
        gdal.GDALDeregisterDriver.argtypes = [ctypes.c_void_p]
        found.append(gdal)
    return tuple(found)
