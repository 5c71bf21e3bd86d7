"""Lay a scene that only ground control points place onto a north-up grid."""

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import GCPTransformer
from rasterio.vrt import WarpedVRT

from tiles.errors import SceneError
from tiles.scene.source import GDAL_ERRORS, first_line
from tiles.scene.validity import Validity

_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}
_MOST_GROWTH = 16


class WarpedScene:
    """A warped view: bands `1..n` are the chosen bands in their order, band `n + 1` is the alpha mask."""

    def __init__(self, dataset: Any, path: str, crs: CRS, numbers: tuple[int, ...], validity: Validity) -> None:
        kind = np.dtype(dataset.dtypes[numbers[0] - 1]).kind
        nodata = validity.nodata[numbers[0] - 1] if validity.nodata else next(iter(validity.chosen), None)
        if nodata is None and kind == "f":
            nodata = float("nan")
        try:
            self._plain = rasterio.open(_chosen_bands(dataset, crs, numbers, validity))
            self.dataset = WarpedVRT(
                self._plain, crs=crs, src_nodata=nodata, add_alpha=True, resampling=Resampling.bilinear
            )
        except GDAL_ERRORS as error:
            raise SceneError(
                f"{path}: its ground control points do not give a map ({first_line(error)}): "
                "warp it with `gdalwarp` and look at the result"
            ) from error
        self.numbers = tuple(range(1, len(numbers) + 1))
        self.validity = Validity("alpha", len(numbers) + 1, text=validity.text, chosen=validity.chosen)
        if self.dataset.width * self.dataset.height > _MOST_GROWTH * dataset.width * dataset.height + 10_000:
            raise SceneError(
                f"{path}: its ground control points stretch {dataset.width} x {dataset.height} pixels over "
                f"{self.dataset.width} x {self.dataset.height}: they cannot be right"
            )

    def misfit(self, points: Sequence[GroundControlPoint]) -> float:
        """Pixels of the map by which the fitted polynomial misses its control points, in the middle."""
        with GCPTransformer(list(points)) as fitted:
            xs, ys = fitted.xy([p.row for p in points], [p.col for p in points], offset="ul")
        t = self.dataset.transform
        across = (np.asarray(xs) - [p.x for p in points]) / t.a
        down = (np.asarray(ys) - [p.y for p in points]) / t.e
        return float(np.median(np.hypot(across, down)))

    def close(self) -> None:
        """Close the view; the file under it stays open."""
        self.dataset.close()
        self._plain.close()


def _chosen_bands(dataset: Any, crs: CRS, numbers: tuple[int, ...], validity: Validity) -> str:
    """A VRT of the chosen bands with their control points; validity is a mask or a nodata value, never a tag."""
    points, _ = dataset.gcps
    listed = "".join(
        f'<GCP Id="{i}" Pixel="{p.col!r}" Line="{p.row!r}" X="{p.x!r}" Y="{p.y!r}" Z="{p.z or 0.0!r}"/>'
        for i, p in enumerate(points)
    )
    bands = "".join(
        f'<VRTRasterBand dataType="{_GDAL_TYPES[dataset.dtypes[number - 1]]}" band="{place}"><ColorInterp>Undefined'
        f"</ColorInterp>{_nodata(validity, number)}{_source(dataset, str(number))}</VRTRasterBand>"
        for place, number in enumerate(numbers, start=1)
    )
    return (
        f'<VRTDataset rasterXSize="{dataset.width}" rasterYSize="{dataset.height}">'
        f'<GCPList Projection="{escape(crs.to_wkt(), {chr(34): "&quot;"})}">{listed}</GCPList>'
        f"{bands}{_mask(dataset, validity)}</VRTDataset>"
    )


def _nodata(validity: Validity, number: int) -> str:
    value = validity.nodata[number - 1] if validity.nodata else next(iter(validity.chosen), None)
    return "" if value is None else f"<NoDataValue>{value!r}</NoDataValue>"


def _mask(dataset: Any, validity: Validity) -> str:
    if validity.kind not in ("mask", "alpha"):
        return ""
    band = "mask,1" if validity.kind == "mask" else str(validity.alpha)
    return f'<MaskBand><VRTRasterBand dataType="Byte">{_source(dataset, band)}</VRTRasterBand></MaskBand>'


def _source(dataset: Any, band: str) -> str:
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="0">{escape(dataset.name)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource>"
    )
