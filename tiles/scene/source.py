"""Open GeoTIFF files safely: one clear line for whatever is wrong with one.

Only GDAL's GTiff driver is ever asked. A local file may have its companions (`.ovr`, `.msk`, `.aux.xml`) beside it;
they are looked for by name, the folder is not listed. A remote file is read in place, without companions.
A file whose metadata would make GDAL open other files or addresses is refused, unless the user trusts it.
"""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from tiles.clean.dataset import CleanDataset
from tiles.clean.original import RECORD
from tiles.errors import SceneError
from tiles.tiff.references import REFERENCE_DOMAINS, ReferenceFoundError, refuse_references_beside

CACHE_BYTES = 64_000_000
"""GDAL's block cache. Left alone it takes 5 % of the machine's memory and fills up as a scene is read."""
CACHE_CEILING = 320_000_000

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises where GDAL fails; some calls let GDAL's own errors through."""

_MAGIC = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\0\0\0\x0cjP": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\x89HDF": "an HDF5 or netCDF file",
    b"CDF": "a netCDF file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"<VRT": "a VRT, which only points at other files",
    b"%PDF": "a PDF document",
    b"GIF8": "a GIF image",
    b"SQLite": "a GeoPackage or SQLite file",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}
_OWN_DOMAINS = {"subdatasets", "derived_subdatasets"}
"""Domains that GDAL itself fills in for every file with several images."""
_REMOTE = re.compile(r"^([a-z][a-z0-9+.-]+://|/vsi)", re.IGNORECASE)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address (`https://...`, `/vsi...`) rather than a file of this machine."""
    text = os.fspath(path)
    return bool(_REMOTE.match(text)) and not text.lower().startswith("file://")


def gdal_environment(path: str | os.PathLike[str], cache_bytes: int = CACHE_BYTES) -> Any:
    """The GDAL settings under which a scene is opened and read; enter it in the thread that does."""
    options: dict[str, Any] = {"GDAL_CACHEMAX": cache_bytes, "GDAL_NUM_THREADS": "1"}
    if is_remote(path):
        options |= {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "GDAL_HTTP_CONNECTTIMEOUT": "10",
            "GDAL_HTTP_TIMEOUT": "60",
            "GDAL_HTTP_MAX_RETRY": "3",
            "GDAL_HTTP_RETRY_DELAY": "1",
            "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        }
    elif not _without_companions():
        # TRUE, unlike EMPTY_DIR, still looks for the companions of the file by name.
        options |= {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
    return rasterio.Env(**options)


def _without_companions() -> bool:
    """Whether this process was started to read files alone, as the service's processes are."""
    return os.environ.get("GDAL_DISABLE_READDIR_ON_OPEN") == "EMPTY_DIR"


def is_clean(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder of clean files (`tiles.ingest`)."""
    return not is_remote(path) and (local_path(path) / RECORD).is_file()


def local_path(path: str | os.PathLike[str]) -> Path:
    """The file of this machine that a path or `file://` address names, absolute."""
    text = os.fspath(path)
    return Path(text[7:] if text.lower().startswith("file://") else text).absolute()


def open_dataset(path: str | os.PathLike[str], *, trust: bool = False, **options: Any) -> Any:
    """A rasterio dataset in reading mode; of a folder that `tiles.ingest` wrote, what passes for one.

    Enter `gdal_environment` around this call and every later read.

    Raises SceneError, in one line, for a missing, unreadable, empty, foreign or damaged file; ReferenceFoundError
    for one that refers to others, unless `trust`.
    """
    target = os.fspath(path)
    if is_clean(path):
        return CleanDataset(local_path(path), **options)
    if not is_remote(path):
        file = local_path(path)
        _check_file(file, target)
        if not trust:
            refuse_references_beside(file, target, companions=not _without_companions())
        target = str(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(target, driver="GTiff", **options)
    except (*GDAL_ERRORS, ValueError, OSError) as error:
        hint = "check the address" if is_remote(path) else "the file is damaged or cut short: copy or download it again"
        raise SceneError(f"{os.fspath(path)} cannot be opened as a GeoTIFF ({first_line(error)}): {hint}") from error
    if not trust:
        _refuse_references(dataset, os.fspath(path))
    return dataset


def check_complete(dataset: Any, path: str) -> None:
    """Refuse a file that ends before its pixels do, before any work starts.

    Looks at the offsets of up to 1,024 blocks and the last one; a damaged block in the middle shows when it is read.
    Raises SceneError.
    """
    if is_remote(path) or is_clean(path):
        return
    size = local_path(path).stat().st_size
    height, width = dataset.block_shapes[0]
    down, across = -(-dataset.height // height), -(-dataset.width // width)
    step = max(1, down * across // 1024)
    for number in [*range(0, down * across, step), down * across - 1]:
        row, col = divmod(number, across)
        extent = block_extent(dataset, 1, row, col)
        if extent is not None and sum(extent) > size:
            raise SceneError(
                f"{path} is cut short: rows {row * height}-{min((row + 1) * height, dataset.height) - 1} should end "
                f"at byte {sum(extent):,}, the file has {size:,}: copy or download it again"
            )


def block_extent(dataset: Any, band: int, row: int, col: int) -> tuple[int, int] | None:
    """(offset, length) in bytes of one block in the file; None where the file holds none (sparse)."""
    offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
    length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
    return None if not offset or not length else (int(offset), int(length))


def first_line(error: BaseException) -> str:
    """The most telling line of a GDAL error: its cause's, without the file's name in front."""
    cause = error.__cause__ or error
    text = str(getattr(cause, "errmsg", "") or cause).strip().splitlines()
    line = (text or [type(error).__name__])[0]
    return re.sub(r"^.*?, band \d+: ", "", line).rstrip(".:")


def _refuse_references(dataset: Any, shown: str) -> None:
    """Refuse by what GDAL itself has read, of a remote file and of companions too.

    GDAL follows such references when overviews or a warp are asked for, not yet when it opens. Raises
    ReferenceFoundError.
    """
    spaces = {name for band in (0, *dataset.indexes) for name in dataset.tag_namespaces(band)}
    found = sorted(name for name in spaces if name.lower() in REFERENCE_DOMAINS - _OWN_DOMAINS)
    if found:
        dataset.close()
        raise ReferenceFoundError(
            f"{shown} holds the metadata domain {found[0]}, which makes GDAL open other files or addresses: give "
            "--trust if you know who made it, or write its pixels into a new file"
        )


def _check_file(file: Path, shown: str) -> None:
    try:
        str(file).encode("utf-8")
    except UnicodeEncodeError:
        raise SceneError(f"{shown}: GDAL cannot open it under this name, which is not UTF-8 text: rename it") from None
    try:
        if file.is_dir():
            raise SceneError(f"{shown} is a folder: name the GeoTIFF inside it")
        with file.open("rb") as stream:
            head = stream.read(64)
    except FileNotFoundError:
        raise SceneError(f"{shown} does not exist: check the path") from None
    except PermissionError:
        raise SceneError(f"{shown} may not be read: change its permissions or run as its owner") from None
    except (OSError, ValueError) as error:
        raise SceneError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not head:
        raise SceneError(f"{shown} is empty (0 bytes): copy or download it again")
    if head[:4] in _MAGIC:
        return
    kind = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
    what = f"is {kind}, not a GeoTIFF" if kind else "is not a GeoTIFF (wrong first bytes)"
    raise SceneError(f"{shown} {what}: convert it with `gdal_translate -of COG INPUT OUTPUT.tif`")
