"""Mapbox Vector Tiles 2.1: polygons on a tile's integer grid as protobuf bytes, whole arrays at a time.

The libraries that do this walk vertex by vertex in Python, or write whole tile sets to disk; a tile of thousands of
polygons needs neither. https://github.com/mapbox/vector-tile-spec/tree/master/2.1
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

EXTENT = 4096
"""Units of a tile's grid."""

Geometries = npt.NDArray[np.object_]
_POLYGON = 3
_MOVE_TO, _LINE_TO, _CLOSE_PATH = 1, 2, 7


@dataclass(frozen=True)
class TileFeatures:
    """Polygons of one tile layer: whole-number coordinates from the tile's upper left corner, y down.

    `ids` may be None; every column of `properties` has one value a feature: int, float or str.
    """

    geometries: Geometries
    properties: Mapping[str, Sequence[int | float | str]]
    ids: Sequence[int] | None = None


def encode_tile(name: str, features: TileFeatures, extent: int = EXTENT) -> bytes:
    """A tile of one layer; b"" where nothing is left to draw. Polygons and multipolygons only."""
    keys = list(features.properties)
    values: dict[tuple[type, int | float | str], int] = {}
    body = bytearray()
    for index, geometry in enumerate(features.geometries):
        commands = _commands(geometry)
        if not commands:
            continue
        tags = bytearray()
        for number, key in enumerate(keys):
            value = features.properties[key][index]
            tags += _varint(number) + _varint(values.setdefault((type(value), value), len(values)))
        feature = b"" if features.ids is None else _number(1, features.ids[index])
        feature += _block(2, bytes(tags)) + _number(3, _POLYGON) + _block(4, commands)
        body += _block(2, feature)
    if not body:
        return b""
    head = _block(1, name.encode())
    words = b"".join(_block(3, key.encode()) for key in keys)
    words += b"".join(_block(4, _value(value)) for _, value in values)
    return _block(3, head + bytes(body) + words + _number(5, extent) + _number(15, 2))


def _commands(geometry: shapely.Geometry) -> bytes:
    """Commands and zigzag parameters of a polygon; outer rings clockwise as drawn (y down), holes the other way."""
    rings: list[npt.NDArray[np.int64]] = []
    for polygon in shapely.get_parts(geometry):
        for number, ring in enumerate(shapely.get_rings(polygon)):
            points = _ring(ring, outer=number == 0)
            if points is None and number == 0:
                break  # what is too small to draw has no holes either
            if points is not None:
                rings.append(points)
    if not rings:
        return b""
    cursor = np.zeros(2, np.int64)
    out = bytearray()
    for points in rings:
        steps = np.diff(points, axis=0, prepend=cursor[None])
        cursor = points[-1]
        words = ((steps << 1) ^ (steps >> 63)).ravel().astype(np.uint64)
        line = (len(points) - 1) << 3 | _LINE_TO
        out += _varint(1 << 3 | _MOVE_TO) + _varints(words[:2]) + _varint(line) + _varints(words[2:])
        out += _varint(1 << 3 | _CLOSE_PATH)
    return bytes(out)


def _ring(ring: shapely.Geometry, *, outer: bool) -> npt.NDArray[np.int64] | None:
    """Vertices without the repeated last one, turned as the standard wants; None for a ring without an area."""
    points = np.rint(shapely.get_coordinates(ring)).astype(np.int64)[:-1]
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    if len(points) < 3:
        return None
    x, y = points.T
    area = int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())  # twice; positive: clockwise as drawn
    if area == 0:
        return None
    return np.asarray(points if (area > 0) == outer else points[::-1])


def _varints(values: npt.NDArray[np.uint64]) -> bytes:
    """Each value in base 128, the low bits first."""
    if values.size and int(values.max()) < 128:
        return bytes(values.astype(np.uint8).tobytes())
    width = max(-(-int(values.max()).bit_length() // 7), 1) if values.size else 1
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    digits = ((values[:, None] >> shifts) & np.uint64(127)).astype(np.uint8)
    used = np.maximum((values[:, None] >> shifts != 0).sum(axis=1), 1)
    place = np.arange(width)
    digits[place < used[:, None] - 1] |= 128
    return bytes(digits[place < used[:, None]].tobytes())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _block(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _value(value: int | float | str) -> bytes:
    if isinstance(value, str):
        return _block(1, value.encode())
    if isinstance(value, float):
        return _varint(3 << 3 | 1) + struct.pack("<d", value)
    return _number(5, value) if value >= 0 else _varint(6 << 3) + _varint(-2 * value - 1)
