"""What in a GeoTIFF makes GDAL open something else, found before GDAL sees the file.

GDAL keeps metadata that TIFF has no tag for as XML in tag 42112, sorted into domains. Some domains are instructions:
the item OVERVIEW_FILE of the domain OVERVIEWS names a dataset that is opened, with any driver, when overviews are
asked for; X_DATASET and Y_DATASET of GEOLOCATION are opened by a warp. A coordinate reference system may name a grid
file. No picture needs any of that. What decides here is strict on purpose: text that two parsers could read in two
ways is refused, not understood.
"""

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from tiles.errors import SceneError
from tiles.tiff.directories import Directory, TiffFile

REFERENCE_DOMAINS = frozenset(
    {"overviews", "geolocation", "xml:vrt", "subdatasets", "derived_subdatasets", "proxyoverviewrequest"}
)
"""Metadata domains (in lower case) whose items GDAL, or a program that reads them, opens as datasets."""
_GDAL_METADATA, _GEO_TEXTS = 42112, 34737
_MOST_METADATA = 8_000_000
_BYTES, _ASCII, _UNDEFINED = 1, 2, 7
_DECLARATION = re.compile(r"\s*<\?xml[^<>?]*\?>")
_GRID_FILE = re.compile(r"(grids\s*=|PARAMETERFILE\s*[\[(])[^\s,\])]*[/\\:]", re.IGNORECASE)
_COMPANIONS = (".ovr", ".msk", ".OVR", ".MSK")
_REMEDY = "write its pixels into a new file, or take the tag away with `tiffset -u 42112 FILE`"


class ReferenceFoundError(SceneError):
    """The file names another one that GDAL would open."""


def refuse_references(directory: Directory, name: str) -> None:
    """Raise ReferenceFoundError where a directory's texts make GDAL open another file; `name` is what to call it."""
    for tag in directory.tags:
        if tag.number == _GDAL_METADATA:
            if tag.kind not in (_BYTES, _ASCII, _UNDEFINED):
                raise ReferenceFoundError(f"{name}: its GDAL metadata (tag 42112) are no text: {_REMEDY}")
            if tag.count > _MOST_METADATA:
                raise ReferenceFoundError(f"{name}: its GDAL metadata (tag 42112) take {tag.count} bytes: {_REMEDY}")
            _refuse(reference_in_metadata(directory.file.data(tag)), name)
        elif tag.number == _GEO_TEXTS and _GRID_FILE.search(directory.file.data(tag).decode("latin-1")):
            _refuse("a grid file of its coordinate reference system", name)


def refuse_references_beside(path: Path, name: str, *, companions: bool = True) -> None:
    """The same for a local file and, with `companions`, for what GDAL opens beside it (`.ovr`, `.msk`, `.aux.xml`).

    A main file whose directories cannot be followed to their end is left for GDAL to judge. Raises
    ReferenceFoundError.
    """
    _refuse_in_file(path, name, strict=False)
    for companion in _companions(path) if companions else ():
        if companion.is_file():
            called = name + companion.name.removeprefix(path.name)
            if companion.name.endswith(".xml"):
                _refuse(reference_in_metadata(companion.read_bytes()[: _MOST_METADATA + 1]), called)
            else:
                _refuse_in_file(companion, called, strict=True)


def reference_in_metadata(data: bytes) -> str | None:
    """The domain, or the oddity, for which the XML text of GDAL metadata is to be refused; None for a harmless one."""
    text = _text(data.rstrip(b"\0"))
    if not text.strip():
        return None
    body = _DECLARATION.sub("", text, count=1)
    if len(data) > _MOST_METADATA or "\0" in body or "<!" in body or "<?" in body:
        return "GDAL metadata that are no plain XML"
    try:
        root = ET.fromstring(body)
    except (ET.ParseError, ValueError, RecursionError):
        return "GDAL metadata that are no plain XML"
    for domain in _domains(root):
        if domain in REFERENCE_DOMAINS:
            return f"the metadata domain {domain.upper()}"
    return None


def _domains(root: ET.Element) -> Iterable[str]:
    """Whatever could be read as the domain of an item, in lower case: attributes and elements of that name."""
    for element in root.iter():
        given = [value for key, value in element.attrib.items() if _plain(key) == "domain"]
        if _plain(element.tag) == "domain":
            given.append("".join(element.itertext()))
        yield from (_plain(value) for value in given)


def _plain(text: str) -> str:
    """Lower case, without a namespace and white space; entities undone as often as anybody might undo them."""
    for _ in range(8):
        undone = html.unescape(text)
        if undone == text:
            break
        text = undone
    return re.sub(r"^\{.*\}|[\s\0]+", "", text).lower()


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _companions(path: Path) -> list[Path]:
    """Names that GDAL looks for beside a GeoTIFF, and beside what it finds there."""
    first = [path.with_name(path.name + ending) for ending in _COMPANIONS]
    second = [file.with_name(file.name + ending) for file in first for ending in _COMPANIONS]
    rasters = [*first, *second]
    return [*rasters, *(file.with_name(file.name + ".aux.xml") for file in [path, *rasters])]


def _refuse_in_file(path: Path, name: str, strict: bool) -> None:
    try:
        with path.open("rb") as file:
            for directory in TiffFile(file, path.stat().st_size, 65_536).directories():
                refuse_references(directory, name)
    except ReferenceFoundError:
        raise
    except (SceneError, OSError) as error:
        if strict:
            raise ReferenceFoundError(f"{name} is no sound TIFF file ({error}): move it away") from error


def _refuse(found: str | None, name: str) -> None:
    if found is not None:
        raise ReferenceFoundError(f"{name} holds {found}, which makes GDAL open other files or addresses: {_REMEDY}")
