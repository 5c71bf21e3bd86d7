"""Rasters for tests: made by code, kind by kind; none is committed."""

import os
import struct
import warnings
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

GeoTiff = Callable[..., Path]
_GDAL_NODATA = 42113
NORTH_UP = Affine(0.6, 0.0, 300_000.0, 0.0, -0.6, 4_300_000.0)
"""0.6 m pixels, in UTM zone 17 over Ohio where the CRS is EPSG:32617."""


def write_geotiff(
    path: Path,
    values: npt.NDArray[Any],
    *,
    crs: Any = "EPSG:32617",
    transform: Affine | None = NORTH_UP,
    colours: Sequence[str] = (),
    names: Sequence[str] = (),
    nodata: float | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
    gcps: Sequence[GroundControlPoint] = (),
    scales: Sequence[float] = (),
    offsets: Sequence[float] = (),
    overviews: Sequence[int] = (),
    **creation: Any,
) -> Path:
    """Write (bands, rows, columns) as a GeoTIFF and give its path."""
    bands, rows, cols = values.shape
    placed = {} if gcps or transform is None else {"transform": transform}
    profile = {
        "driver": "GTiff",
        "count": bands,
        "height": rows,
        "width": cols,
        "dtype": values.dtype,
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **profile, crs=None if gcps else crs, **placed, **creation) as file:
        if gcps:
            file.gcps = (list(gcps), crs or CRS())
        if colours:
            file.colorinterp = [ColorInterp[name] for name in colours]
        for number, name in enumerate(names, start=1):
            file.set_band_description(number, name)
        if scales:
            file.scales = scales
        if offsets:
            file.offsets = offsets
        file.write(values)
        if mask is not None:
            file.write_mask(mask)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews(list(overviews))
    return path


@pytest.fixture(scope="session")
def geotiff(tmp_path_factory: pytest.TempPathFactory) -> GeoTiff:
    """`write_geotiff` into a new folder for every file; usable in hypothesis tests."""
    numbers = count()

    def write(values: npt.NDArray[Any], name: str = "scene.tif", **options: Any) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return write_geotiff(tmp_path_factory.mktemp(f"raster{next(numbers)}") / name, values, **options)

    return write


@pytest.fixture(scope="session")
def declare_nodata() -> Callable[[Path, str], None]:
    """Give a GeoTIFF that has a nodata value another one, word for word, which rasterio would not write."""

    def declare(path: Path, text: str) -> None:
        raw = path.read_bytes()
        (directory,) = struct.unpack_from("<I", raw, 4)
        (entries,) = struct.unpack_from("<H", raw, directory)
        out = bytearray(raw + text.encode() + b"\0" * 8)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            if struct.unpack_from("<H", raw, at) == (_GDAL_NODATA,):
                struct.pack_into("<HHII", out, at, _GDAL_NODATA, 2, max(len(text) + 1, 5), len(raw))
        path.write_bytes(bytes(out))

    return declare


COMMITTED = Path(__file__).parent / "data"
"""Real imagery that every machine has; see its README."""


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """A file of real imagery by its path below the data folder: a committed one, else one too large for that."""

    def find(name: str) -> Path:
        if (COMMITTED / name).exists():
            return COMMITTED / name
        folder = _data_folder()
        if folder is None:
            pytest.skip(f"{name} is too large to be committed and the data folder is absent: set GEOUNET_DATA")
        return folder / name

    return find


def _data_folder() -> Path | None:
    folder = Path(os.environ.get("GEOUNET_DATA", Path(__file__).parents[2] / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The data that is no part of the project; tests that need it skip where it is absent."""
    folder = _data_folder()
    if folder is None:
        pytest.skip("the data folder is absent: set GEOUNET_DATA")
    return folder
