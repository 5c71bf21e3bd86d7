"""What GDAL said of a GeoTIFF when its pixels were decoded, kept beside them: everything but the pixels."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp

from tiles.errors import SceneError

RECORD = "original.json"
PIXELS = "pixels.tif"
_VERSION = 1
_MOST_BYTES = 64_000_000


@dataclass(frozen=True)
class Level:
    """One overview of the original: how many times smaller, its shape and blocks (rows, columns), if it has a mask."""

    factor: int
    shape: tuple[int, int]
    block: tuple[int, int]
    masked: bool


@dataclass(frozen=True)
class Original:
    """The facts about the original by which a map is decided: with its pixels they make the same map.

    `block` is (rows, columns); `points` are (row, column, x, y, z); WKT and affine terms are rasterio's.
    """

    name: str
    shape: tuple[int, int]
    dtypes: tuple[str, ...]
    descriptions: tuple[str | None, ...]
    colours: tuple[str, ...]
    nodata: tuple[float | None, ...]
    masked: bool
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    block: tuple[int, int]
    interleaving: str | None
    compression: str | None
    levels: tuple[Level, ...]
    transform: tuple[float, ...]
    crs: str | None
    points: tuple[tuple[float, float, float, float, float | None], ...]
    points_crs: str | None
    by_camera: bool
    datetime: str | None
    white_is_zero: bool
    images: int
    bytes: int
    fingerprint: str

    def write(self, folder: Path) -> None:
        """Keep it in a folder of clean files. Raises OSError."""
        text = json.dumps({"version": _VERSION, **asdict(self)}, indent=1)
        (folder / RECORD).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Original":
        """Raises SceneError where the folder holds no clean files of this version."""
        path = folder / RECORD
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("version") != _VERSION:
                raise ValueError("another version wrote it")
            found["levels"] = tuple(_level(**level) for level in found["levels"])
            found["points"] = tuple(tuple(point) for point in found["points"])
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
            return cls(**fields)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SceneError(f"{folder} holds no decoded scene ({error}): upload the scene again") from error


def _level(factor: int, shape: list[int], block: list[int], masked: bool) -> Level:
    return Level(factor, (shape[0], shape[1]), (block[0], block[1]), masked)


def original_of(
    dataset: Any, *, name: str, levels: tuple[Level, ...], masked: bool, size: int, digest: str
) -> Original:
    """The facts of an open rasterio dataset; `size` is that of the file in bytes, `digest` its fingerprint."""
    points, points_crs = dataset.gcps
    return Original(
        name=name,
        shape=(dataset.height, dataset.width),
        dtypes=tuple(str(kind) for kind in dataset.dtypes),
        descriptions=tuple(dataset.descriptions),
        colours=tuple(ColorInterp(colour).name for colour in dataset.colorinterp),
        nodata=tuple(dataset.nodatavals),
        masked=masked,
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        block=(int(dataset.block_shapes[0][0]), int(dataset.block_shapes[0][1])),
        interleaving=dataset.interleaving.value if dataset.interleaving else None,
        compression=dataset.compression.value if dataset.compression else None,
        levels=levels,
        transform=tuple(dataset.transform)[:6],
        crs=dataset.crs.to_wkt() if dataset.crs else None,
        points=tuple((p.row, p.col, p.x, p.y, p.z) for p in points),
        points_crs=points_crs.to_wkt() if points_crs else None,
        by_camera=bool(dataset.rpcs),
        datetime=dataset.tags().get("TIFFTAG_DATETIME"),
        white_is_zero=str(dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE", "")).upper() == "YES",
        images=max(1, sum(item.startswith("GTIFF_DIR:") for item in dataset.subdatasets)),
        bytes=size,
        fingerprint=digest,
    )
