"""Fetch a model from where it is: a path, `https://`, or an object store; an archive is unpacked, by name."""

import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from geounet.errors import BundleError
from geounet.model.bundle import sha256_of

_TIMEOUT = 60.0
_PIECE = 1 << 20
_STORES = ("s3", "gs", "gcs", "abfs", "abfss")
BUNDLE_FILES = (
    "model.json",
    "weights.safetensors",
    "adapter.safetensors",
    "model.onnx",
    "README.md",
    "config.json",
    "model.safetensors",
)
_ENDINGS = {".zip": "zip", ".tar": "tar", ".tgz": "tar", ".tar.gz": "tar"}


def fetch(source: str, into: Path, most_bytes: int, sha256: str | None = None) -> Path:
    """The file or folder behind `source`; what is not on this machine, and archives, are brought to `into`.

    Raises BundleError where it cannot be had, is larger than `most_bytes`, or has another digest than `sha256`.
    """
    scheme = urlsplit(source).scheme.lower() if "://" in source else ""
    if scheme == "http":
        raise BundleError(f"{source}: only https:// is fetched, so that nobody changes the model on the way")
    path = Path(source)
    if scheme:
        path = into / (PurePosixPath(urlsplit(source).path).name or "model.onnx")
        opener = _https if scheme == "https" else _store
        if scheme not in ("https", *_STORES):
            raise BundleError(f"{source}: models come from a path, https://, {', '.join(f'{s}://' for s in _STORES)}")
        with opener(source) as remote:
            _copy(remote, path, most_bytes, source)
    if not path.exists():
        raise BundleError(f"{source} does not exist: check the path")
    if sha256 is not None:
        _check_digest(path, sha256.lower().removeprefix("sha256:"), source)
    archive = next((kind for ending, kind in _ENDINGS.items() if path.name.lower().endswith(ending)), None)
    if archive is None or path.is_dir():
        return path
    return _unpacked(path, archive, into / "unpacked", most_bytes)


def _check_digest(path: Path, wanted: str, source: str) -> None:
    if path.is_dir():
        raise BundleError(f"{source} is a folder, which has no single digest: leave --sha256 out")
    found = sha256_of(path)
    if found != wanted:
        raise BundleError(f"{source} has the sha256 {found[:12]}..., not {wanted[:12]}...: it is another file")


@contextmanager
def _https(source: str) -> Iterator[IO[bytes]]:
    try:
        with urllib.request.urlopen(source, timeout=_TIMEOUT) as answer:
            if not answer.geturl().lower().startswith("https://"):
                raise BundleError(f"{source} leads away from https://: refused")
            yield answer
    except (urllib.error.URLError, TimeoutError, ValueError, ConnectionError) as error:
        raise BundleError(f"{source} cannot be fetched: {getattr(error, 'reason', error)}") from error


@contextmanager
def _store(source: str) -> Iterator[IO[bytes]]:
    import pyarrow
    from pyarrow import fs

    try:
        store, path = fs.FileSystem.from_uri(source)
        with store.open_input_stream(path) as stream:
            yield stream
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise BundleError(f"{source} cannot be fetched: {first[:200]}") from error


def _copy(remote: Any, path: Path, most_bytes: int, source: str) -> None:
    left = most_bytes
    with path.open("wb") as file:
        while piece := remote.read(_PIECE):
            left -= len(piece)
            if left < 0:
                raise BundleError(f"{source} is larger than {most_bytes / 1e6:,.0f} MB: refused")
            file.write(piece)


def _unpacked(archive: Path, kind: str, folder: Path, most_bytes: int) -> Path:
    """A bundle's files out of an archive, each by its plain name, wherever in the archive they lie; nothing else."""
    folder.mkdir(parents=True)
    try:
        if kind == "zip":
            with zipfile.ZipFile(archive) as zipped:
                names = [i.filename for i in zipped.infolist() if not i.is_dir()]
                _take(names, zipped.open, folder, most_bytes, archive)
        else:
            with tarfile.open(archive) as tarred:
                files = {m.name: m for m in tarred if m.isfile()}
                _take(list(files), lambda n: _extracted(tarred, files[n]), folder, most_bytes, archive)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BundleError(f"{archive} cannot be unpacked: {error}") from error
    return folder


def _extracted(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tarred.extractfile(member)
    assert file is not None  # it is a plain file
    return file


def _take(names: list[str], opened: Callable[[str], IO[bytes]], folder: Path, most_bytes: int, archive: Path) -> None:
    wanted = [name for name in names[:1000] if PurePosixPath(name).name in BUNDLE_FILES]
    if len({PurePosixPath(n).name for n in wanted}) != len(wanted) or not wanted:
        raise BundleError(f"{archive} holds no bundle, or several: pack the files of one")
    for name in wanted:
        with opened(name) as member:
            _copy(member, folder / PurePosixPath(name).name, most_bytes, f"{archive}: {PurePosixPath(name).name}")


def copy_bundle(source: Path, target: Path) -> None:
    """Copy a bundle's own files, and no others, into a new folder."""
    target.mkdir(parents=True)
    for name in BUNDLE_FILES:
        if (source / name).is_file() and not (source / name).is_symlink():
            shutil.copyfile(source / name, target / name)
