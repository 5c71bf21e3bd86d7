"""Clean files in the place of the GeoTIFF that they were decoded from."""

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Compression, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning

from tiles.clean.original import PIXELS, Original
from tiles.errors import SceneError

_UNREADABLE = (rasterio.errors.RasterioError, ValueError, OSError)


def level_file(number: int) -> str:
    """Name of the file of an overview of the original, counted from 0, the finest."""
    return f"level-{number}.tif"


class CleanDataset:
    """What `tiles.scene` asks of a rasterio dataset: facts from the original's record, pixels from the clean files.

    So a scene that was decoded once gives the very map that its file would give: blocks, overviews and validity are
    those of the original wherever they decide anything. With `overview_level`, one of the original's overviews.
    """

    def __init__(self, folder: Path, overview_level: int | None = None, **options: Any) -> None:
        """Open. Enter `gdal_environment` around this and every read. Raises SceneError."""
        self._original = original = Original.read(folder)
        self._level = overview_level
        self._owned = ExitStack()
        self._folder = folder
        name = PIXELS if overview_level is None else level_file(overview_level)
        self._file = self._open(name, options)
        level = None if overview_level is None else original.levels[overview_level]
        self.name = str(folder / name)
        self.height, self.width = original.shape if level is None else level.shape
        self.shape = self.height, self.width
        self.count = len(original.dtypes)
        self.indexes = tuple(range(1, self.count + 1))
        self.dtypes = original.dtypes
        self.descriptions = original.descriptions
        self.colorinterp = tuple(ColorInterp[name] for name in original.colours)
        self.nodatavals = original.nodata
        self.nodata = original.nodata[0]
        self.scales, self.offsets = original.scales, original.offsets
        self.block_shapes = [original.block if level is None else level.block] * self.count
        self.interleaving = None if original.interleaving is None else Interleaving(original.interleaving)
        self.compression = None if original.compression is None else Compression(original.compression)
        self.crs = None if original.crs is None else CRS.from_wkt(original.crs)
        a, b, c, d, e, f = original.transform
        across, down = original.shape[1] / self.width, original.shape[0] / self.height
        self.transform = Affine(a * across, b * down, c, d * across, e * down, f)
        points = [GroundControlPoint(row, col, x, y, z) for row, col, x, y, z in original.points]
        self.gcps = points, None if original.points_crs is None else CRS.from_wkt(original.points_crs)
        self.rpcs = True if original.by_camera else None
        self.subdatasets = [f"GTIFF_DIR:{n + 1}" for n in range(original.images)] if original.images > 1 else []
        self.fingerprint = original.fingerprint
        self.original_name = original.name
        self.size_bytes = original.bytes
        self.nodata_text = original.nodata_text
        masked = original.masked if level is None else level.masked
        self.mask_flag_enums = [[MaskFlags.per_dataset] if masked else [MaskFlags.all_valid]] * self.count

    def read(self, indexes: Any = None, *, window: Any = None, out_shape: Any = None, **options: Any) -> Any:
        """Pixels, as rasterio's `read`; a whole image in the size of one of the original's overviews is that one."""
        source = self._file
        if out_shape is not None and self._level is None:
            wanted = tuple(out_shape)[-2:]
            number = next((n for n, lv in enumerate(self._original.levels) if lv.shape == wanted != self.shape), None)
            if number is not None:
                source, window = self._open(level_file(number), {}), None
        return source.read(indexes, window=window, out_shape=out_shape, **options)

    def read_masks(self, indexes: Any = None, *, window: Any = None, out_shape: Any = None) -> Any:
        """Masks, as rasterio's `read_masks`."""
        return self._file.read_masks(indexes, window=window, out_shape=out_shape)

    def dataset_mask(self, *, window: Any = None) -> Any:
        """The mask of all bands, as rasterio's `dataset_mask`."""
        return self._file.dataset_mask(window=window)

    def overviews(self, _: int) -> list[int]:
        """Factors of the original's overviews."""
        return [] if self._level is not None else [level.factor for level in self._original.levels]

    def tags(self, ns: str | None = None) -> dict[str, str]:
        """The two tags of the original that anybody reads: its time, and whether white is 0."""
        if ns == "IMAGE_STRUCTURE":
            return {"MINISWHITE": "YES"} if self._original.white_is_zero else {}
        return {} if self._original.datetime is None else {"TIFFTAG_DATETIME": self._original.datetime}

    def get_tag_item(self, *item: str, **options: Any) -> Any:
        """An item about the clean file: where its blocks lie."""
        return self._file.get_tag_item(*item, **options)

    def close(self) -> None:
        """Close every file."""
        self._owned.close()

    def __enter__(self) -> "CleanDataset":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, name: str, options: Any) -> Any:
        path = self._folder / name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                return self._owned.enter_context(rasterio.open(path, driver="GTiff", **options))
        except _UNREADABLE as error:
            raise SceneError(f"{path} cannot be opened ({error}): upload the scene again") from error
