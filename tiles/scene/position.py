"""Where a scene's file says it lies, and whether that is a place on the Earth."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from rasterio.errors import CRSError

from tiles.errors import SceneError
from tiles.georef import Georef
from tiles.scene.notice import Notice
from tiles.scene.source import is_remote, local_path

_EARTH_RADIUS = 6_378_137.0
_ASSUME = "give its CRS with --assume-crs EPSG:..."


@dataclass(frozen=True)
class Place:
    """The CRS of a file; `transform` is None where only ground control points place it."""

    crs: CRS
    transform: Affine | None
    notices: tuple[Notice, ...] = ()


def find_place(dataset: Any, path: str, assume_crs: str | None) -> Place:
    """How a dataset is placed. Raises SceneError where it is not, or not on the Earth, naming the way on."""
    points, points_crs = dataset.gcps
    by_points = bool(points) and dataset.transform == Affine.identity()
    crs = points_crs if by_points else dataset.crs
    if assume_crs is not None:
        return _assumed(dataset, path, crs, assume_crs, by_points)
    if not crs:
        raise SceneError(f"{path} {_why_no_crs(dataset)} {_beside(path) or _ASSUME}")
    if not by_points and dataset.transform == Affine.identity():
        raise SceneError(
            f"{path} names a CRS but not where its pixels lie in it (no transform): "
            "set it with `gdal_edit -a_ullr LEFT TOP RIGHT BOTTOM FILE`, or go on in pixel units with --assume-crs"
        )
    _check_body(path, crs)
    return Place(crs, None if by_points else dataset.transform)


def check_georef(georef: Georef, path: str) -> tuple[Notice, ...]:
    """Refuse a grid whose centre is nowhere, and warn of one whose corners are. Raises SceneError."""
    t = georef.transform
    if t.a * t.e - t.b * t.d == 0 or not all(math.isfinite(v) for v in t):
        raise SceneError(f"{path} has a transform that maps all pixels onto a line: set it with `gdal_edit -a_ullr`")
    rows, cols = georef.shape
    try:
        down, along = georef.metres_per_pixel()
        lon, lat = georef.lonlat([cols / 2, 0, cols, 0, cols], [rows / 2, 0, 0, rows, rows])
    except (ProjError, ValueError) as error:
        raise SceneError(f"{path}: its coordinates do not fit its CRS ({error}); {_ASSUME} if it is wrong") from error
    if not (math.isfinite(down) and math.isfinite(along) and down > 0 and along > 0 and abs(lat[0]) <= 90):
        raise SceneError(
            f"{path}: its centre is nowhere on the Earth in {crs_name(georef.crs)}; if the CRS is wrong, {_ASSUME}"
        )
    if not (np.isfinite(lon).all() and (np.abs(lat) <= 90 + 1e-9).all()):
        return (Notice("warning", "position", "some corners of the scene are nowhere on the Earth"),)
    return ()


def crs_name(crs: CRS) -> str:
    """A CRS in a few words: its authority code, else the name in its WKT."""
    code = crs.to_authority()
    if code:
        return ":".join(code)
    wkt = str(crs.to_wkt())
    return wkt.split('"')[1] if '"' in wkt else "an unnamed CRS"


def _assumed(dataset: Any, path: str, crs: CRS | None, assume_crs: str, by_points: bool) -> Place:
    try:
        wanted = CRS.from_user_input(assume_crs)
    except (CRSError, ValueError) as error:
        raise SceneError(f"--assume-crs '{assume_crs}' names no CRS: write it as EPSG:32617, or as WKT") from error
    _check_body(f"--assume-crs '{assume_crs}'", wanted)
    text = f"taken to be in {crs_name(wanted)}, as asked"
    differs = bool(crs) and crs != wanted
    if differs:
        text += f"; the file says {crs_name(crs)}"
    notices = [Notice("warning" if differs else "adjusted", "position", text)]
    if not by_points and dataset.transform == Affine.identity():
        notices.append(Notice("warning", "position", "the file has no transform: one pixel is taken as one CRS unit"))
    return Place(wanted, None if by_points else dataset.transform, tuple(notices))


def _why_no_crs(dataset: Any) -> str:
    if dataset.rpcs and not dataset.gcps[0]:
        return "is placed by a camera model (RPC) only: orthorectify it (`gdalwarp -rpc INPUT OUTPUT.tif`), or"
    return "has no coordinate reference system:"


def _beside(path: str) -> str:
    """What a `.prj` beside the file says, which GDAL does not read for a GeoTIFF; empty where there is none."""
    if is_remote(path):
        return ""
    note = local_path(path).with_suffix(".prj")
    try:
        text = note.read_text(encoding="utf-8", errors="replace").strip()
        crs = CRS.from_wkt(text, morph_from_esri_dialect=True)
    except (OSError, CRSError, ValueError):
        return ""
    code = crs.to_epsg(confidence_threshold=90)
    return f"{note.name} beside it says one; give --assume-crs " + (f"EPSG:{code}" if code else f'"$(cat {note.name})"')


def _check_body(path: str, crs: CRS) -> None:
    """Refuse local systems and other planets: no area or longitude could be told there."""
    georef = Georef(crs, Affine.identity(), (1, 1))
    try:
        ellipsoid = georef.proj_crs.ellipsoid
    except (ProjError, ValueError) as error:
        raise SceneError(f"{path}: its CRS cannot be understood ({error}): {_ASSUME}") from error
    if ellipsoid is None:
        raise SceneError(f"{path} is in a local system ({crs_name(crs)}) with no place on the Earth: {_ASSUME}")
    if abs(ellipsoid.semi_major_metre / _EARTH_RADIUS - 1) > 0.01:
        raise SceneError(
            f"{path} is in {crs_name(crs)}, on a body of radius {ellipsoid.semi_major_metre / 1000:,.0f} km, "
            f"not the Earth: if that is a mistake, {_ASSUME}"
        )
