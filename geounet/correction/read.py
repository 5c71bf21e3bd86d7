"""Corrections as a person hands them in: points, lines and polygons with a class, in any CRS."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
import shapely.geometry
from pyproj import CRS, Transformer

from geounet.errors import CorrectionError
from tiles.georef import Georef
from tiles.legend import LandClass, Legend

LEAST_OF_A_NEW_CLASS = 5
"""Corrections from which a class that the legend does not have becomes one."""
MOST = 100_000
_POINTS, _LINES, _POLYGONS = (0, 4), (1, 5), (3, 6)
_NEW_COLOURS = (
    (230, 159, 0), (204, 121, 167), (0, 158, 115), (148, 103, 189), (240, 228, 66), (86, 180, 233), (140, 86, 75),
    (255, 127, 80),
)  # fmt: skip


@dataclass(frozen=True)
class Corrections:
    """Corrections on the grid of one map.

    `shapes` (n,) are shapely geometries in pixel coordinates (x: column, y: row, the corner of a pixel is whole);
    `target` (n,) is the index of each one's class in `legend`; `source` names what they were read from.
    """

    source: str
    shapes: npt.NDArray[Any]
    target: npt.NDArray[np.int64]
    legend: Legend

    def __len__(self) -> int:
        return len(self.shapes)

    def counts(self) -> dict[str, int]:
        """How many of each class, in the legend's order, those without any left out."""
        found = np.bincount(self.target, minlength=len(self.legend))
        return {c.name: int(n) for c, n in zip(self.legend.classes, found, strict=True) if n}


def read_corrections(path: Path, georef: Georef, legend: Legend, attribute: str = "class") -> Corrections:
    """Read GeoJSON, GeoPackage, FlatGeobuf or any other vector file of corrections of a map on `georef`.

    `attribute` holds each one's class, by name or by value. A class that `legend` does not have becomes a new one
    where at least five corrections name it. Raises CorrectionError, in one line, where they cannot be used.
    """
    try:
        told = pyogrio.read_info(path)
        if told["features"] > MOST:
            raise CorrectionError(f"{path} holds {told['features']} corrections, {MOST} are the most: thin them out")
        meta, _, geometry, fields = pyogrio.raw.read(path)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise CorrectionError(f"{path} cannot be read as corrections: {_line(error)}") from error
    names = [str(name) for name in meta["fields"]]
    if attribute not in names:
        raise CorrectionError(
            f"{path}: the corrections have no attribute '{attribute}' (they have: {', '.join(names) or 'none'}); "
            "name the one that holds the class with --attribute"
        )
    values = list(fields[names.index(attribute)])
    colours = list(fields[names.index("color")]) if "color" in names else []
    shapes = shapely.from_wkb(geometry, on_invalid="ignore")
    return on_grid(str(path), shapes, values, meta["crs"], georef, legend, colours)


def on_grid(
    source: str,
    shapes: npt.NDArray[Any],
    values: Sequence[Any],
    crs: str | None,
    georef: Georef,
    legend: Legend,
    colours: Sequence[Any] = (),
    least: int = LEAST_OF_A_NEW_CLASS,
) -> Corrections:
    """Geometries with classes as corrections on a map's grid; see `read_corrections`.

    `crs` is any text that pyproj knows; `least` is how many corrections make a new class.
    """
    if len(shapes) == 0:
        return Corrections(source, np.array([], dtype=object), np.array([], dtype=np.int64), legend)
    if crs is None:
        raise CorrectionError(f"{source}: the corrections have no CRS: save them with one, or as GeoJSON")
    shapes = _usable(source, shapes)
    legend, target = _classes(source, values, legend, colours, least)
    return Corrections(source, _in_pixels(source, shapes, crs, georef), target, legend)


def _usable(source: str, shapes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    flat = shapely.force_2d(shapes)
    for number, shape in enumerate(flat):
        if shape is None or shapely.is_empty(shape):
            raise CorrectionError(f"{source}: correction {number + 1} has no geometry: remove it or draw it again")
        if shapely.get_type_id(shape) not in (*_POINTS, *_LINES, *_POLYGONS):
            kind = shapely.get_type_id(shape)
            raise CorrectionError(f"{source}: correction {number + 1} is no point, line or polygon (type {kind})")
        if not np.isfinite(shapely.get_coordinates(shape)).all():
            raise CorrectionError(f"{source}: correction {number + 1} has coordinates that are not finite")
    return np.asarray(flat)


def _in_pixels(source: str, shapes: npt.NDArray[Any], crs: str, georef: Georef) -> npt.NDArray[Any]:
    way = Transformer.from_crs(CRS.from_user_input(crs), georef.proj_crs, always_xy=True)
    back = ~georef.transform

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = way.transform(points[:, 0], points[:, 1])
        return np.stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f], axis=1)

    placed = np.asarray(shapely.transform(shapes, to_pixels))
    outside = _outside(placed, georef)
    if outside.any():
        first = int(outside.argmax())
        turned = np.asarray(shapely.transform(shapes, lambda points: to_pixels(points[:, ::-1])))
        if outside.all() and not _outside(turned, georef).any():
            raise CorrectionError(
                f"{source}: the corrections lie outside the map, but inside with x and y exchanged: "
                "write longitude before latitude, east before north"
            )
        at = shapely.get_coordinates(shapes[first])[0]
        raise CorrectionError(
            f"{source}: {int(outside.sum())} of {len(shapes)} corrections lie outside the map, the first is number "
            f"{first + 1} at {at[0]:.7g}, {at[1]:.7g}: remove them, or check their CRS ({_short(crs)})"
        )
    return placed


def _outside(shapes: npt.NDArray[Any], georef: Georef) -> npt.NDArray[np.bool_]:
    rows, cols = georef.shape
    left, top, right, bottom = shapely.bounds(shapes).T
    with np.errstate(invalid="ignore"):
        inside = (left >= 0) & (top >= 0) & (right <= cols) & (bottom <= rows)
    return np.asarray(~inside)


def _classes(
    source: str, values: Sequence[Any], legend: Legend, colours: Sequence[Any], least: int
) -> tuple[Legend, npt.NDArray[np.int64]]:
    """Each correction's class, and the legend with the new ones at its end."""
    known: dict[str, int] = {name: index for index, name in enumerate(legend.names)}
    for index, land in enumerate(legend.classes):
        known.setdefault(str(land.value), index)
    names = [_name(source, number, value) for number, value in enumerate(values)]
    unknown = {name: names.count(name) for name in dict.fromkeys(names) if name not in known}
    for name, count in unknown.items():
        _check_new(source, name, count, legend, least)
    extended = legend
    for name in unknown:
        colour = _colour(colours[names.index(name)]) if len(colours) else None
        extended = _with(extended, name, colour)
        known[name] = len(extended) - 1
    return extended, np.array([known[name] for name in names], dtype=np.int64)


def _name(source: str, number: int, value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        raise CorrectionError(f"{source}: correction {number + 1} names no class: give it one or remove it")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _check_new(source: str, name: str, count: int, legend: Legend, least: int) -> None:
    known = ", ".join(legend.names)
    if not name or name.lstrip("-").replace(".", "").isdigit() or len(name) > 64 or not name.isprintable():
        raise CorrectionError(f"{source}: there is no class '{name[:70]}': choose from {known}, or give a new name")
    plain = {_plain(n): n for n in legend.names}
    if close := difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.75):
        raise CorrectionError(f"{source}: there is no class '{name}': did you mean '{plain[close[0]]}'?")
    if count < least:
        raise CorrectionError(
            f"{source}: '{name}' would be a new class and has {count} corrections, it needs at least "
            f"{least}; the known ones are {known}"
        )


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ")


def _colour(value: Any) -> tuple[int, int, int] | None:
    text = str(value).lstrip("#") if value is not None else ""
    if len(text) != 6:
        return None
    try:
        return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)
    except ValueError:
        return None


def _with(legend: Legend, name: str, colour: tuple[int, int, int] | None) -> Legend:
    used = {c.value for c in legend.classes}
    free = next(value for value in range(max(used) + 1, 512) if value not in used)
    if free > 254:
        raise CorrectionError(f"there is no room for the class '{name}': a legend has values up to 254")
    taken = {c.color for c in legend.classes}
    colour = colour or next((c for c in _NEW_COLOURS if c not in taken), (255, 0, 255))
    return Legend((*legend.classes, LandClass(free, name, colour)))


def from_geojson(
    given: Mapping[str, Any],
    georef: Georef,
    legend: Legend,
    attribute: str = "class",
    least: int = LEAST_OF_A_NEW_CLASS,
) -> Corrections:
    """Corrections of a GeoJSON FeatureCollection in longitude and latitude; see `read_corrections`."""
    features = given.get("features")
    if given.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise CorrectionError("corrections are a GeoJSON FeatureCollection")
    try:
        shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
        told = [feature["properties"] for feature in features]
        values = [properties[attribute] for properties in told]
        colours = [properties.get("color") for properties in told]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, shapely.errors.ShapelyError) as error:
        raise CorrectionError(
            f"a correction is a Feature with a geometry and properties.{attribute}: {type(error).__name__}: {error}"
        ) from error
    packed = np.empty(len(shapes), dtype=object)
    packed[:] = shapes
    return on_grid("corrections", packed, values, "EPSG:4326", georef, legend, colours, least)


def merged(legend: Legend, merge: Mapping[str, str], drop: Sequence[str]) -> tuple[Legend, list[tuple[int, ...]]]:
    """The legend after classes were merged (`from: into`) and dropped, and which old ones each class comes from.

    Raises CorrectionError where a name is not in the legend, or fewer than two classes would be left.
    """
    for name in (*merge, *merge.values(), *drop):
        if name not in legend.names:
            raise CorrectionError(f"there is no class '{name}' to merge or drop: choose from {', '.join(legend.names)}")
    if gone := [name for name in merge.values() if name in merge or name in drop]:
        raise CorrectionError(f"'{gone[0]}' cannot both take a class in and go: name the class that stays")
    index = {name: i for i, name in enumerate(legend.names)}
    kept = [c for c in legend.classes if c.name not in merge and c.name not in drop]
    if len(kept) < 2:
        raise CorrectionError("fewer than two classes would be left: keep two or more")
    starts = [tuple(sorted([index[c.name], *(index[k] for k, v in merge.items() if v == c.name)])) for c in kept]
    return Legend(tuple(kept)), starts


def _short(crs: str) -> str:
    return crs if len(crs) <= 40 else crs[:40] + "..."


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
