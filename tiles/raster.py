"""From a spool to class, confidence and probability rasters (cloud-optimised GeoTIFF)."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil

from tiles.errors import OutputError
from tiles.georef import Georef
from tiles.legend import NODATA, Legend
from tiles.source import GDAL_ERRORS
from tiles.spool import Spool

LEGEND_TAG = "LEGEND"
"""TIFF tag that holds the legend as JSON: rasterio cannot write category names, and GDAL keeps them in a sidecar."""

_CACHE_MB = 64


def write_rasters(spool: Spool, georef: Georef, legend: Legend, folder: Path) -> dict[str, Path]:
    """Write `classes.tif`, `confidence.tif` and, where the spool has them, `probabilities.tif` into `folder`.

    GDAL reads the spool's raw rows in place through a small VRT that also carries colour table, names, nodata and
    legend, so there is neither a full-size array nor a temporary copy; the COG driver writes
    `classes.tif.aux.xml` with the class names by itself. Raises OutputError where the disk does not take them.
    """
    names = ["classes", "confidence"] + (["probabilities"] if spool.classes_count else [])
    return {name: _write_cog(spool, name, georef, legend, folder / f"{name}.tif") for name in names}


def _write_cog(spool: Spool, layer: str, georef: Georef, legend: Legend, target: Path) -> Path:
    vrt = spool.folder / f"{layer}.vrt"
    # The newest sidecar must be ours: GDAL merges into one that lies there from an interrupted run.
    target.with_name(target.name + ".aux.xml").unlink(missing_ok=True)
    try:
        vrt.write_text(_vrt(spool, layer, georef, legend), encoding="utf-8")
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, GDAL_NUM_THREADS="ALL_CPUS"):
            rasterio.shutil.copy(
                vrt,
                target,
                driver="COG",
                compress="DEFLATE",
                blocksize=512,
                bigtiff="IF_SAFER",
                overview_resampling="MODE" if layer == "classes" else "AVERAGE",
            )
    except (*GDAL_ERRORS, OSError) as error:
        raise OutputError(
            f"{target}: cannot be written: {error}; is the disk full? Make room and give the same command to go on"
        ) from error
    finally:
        vrt.unlink(missing_ok=True)
    return target


def _vrt(spool: Spool, layer: str, georef: Georef, legend: Legend) -> str:
    bands = {
        "classes": _class_band(spool, legend),
        "confidence": _raw_band(spool, layer, 1, 0, 1, "<Description>confidence</Description><UnitType>%</UnitType>"),
        "probabilities": _probability_bands(spool, legend),
    }[layer]
    transform = ", ".join(repr(v) for v in georef.transform.to_gdal())
    return (
        f'<VRTDataset rasterXSize="{spool.width}" rasterYSize="{spool.rows}">'
        f"<SRS>{escape(georef.crs.to_wkt())}</SRS><GeoTransform>{transform}</GeoTransform>"
        f'<Metadata><MDI key="AREA_OR_POINT">Area</MDI><MDI key="{LEGEND_TAG}">{escape(legend.to_json())}</MDI>'
        f"</Metadata>{bands}</VRTDataset>"
    )


def _class_band(spool: Spool, legend: Legend) -> str:
    table, names = legend.colormap(), {c.value: c.name for c in legend.classes}
    entries = "".join(
        '<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*table.get(value, (0, 0, 0, 255))) for value in range(256)
    )
    categories = "".join(
        f"<Category>{escape(names.get(value, ''))}</Category>" for value in range(int(legend.values.max()) + 1)
    )
    more = (
        "<Description>class</Description><ColorInterp>Palette</ColorInterp>"
        f"<CategoryNames>{categories}</CategoryNames><ColorTable>{entries}</ColorTable>"
    )
    return _raw_band(spool, "classes", 1, 0, 1, more)


def _probability_bands(spool: Spool, legend: Legend) -> str:
    return "".join(
        _raw_band(
            spool,
            "probabilities",
            index + 1,
            index * spool.width,
            spool.classes_count,
            f"<Description>{escape(land_class.name)}</Description><UnitType>%</UnitType>",
        )
        for index, land_class in enumerate(legend.classes)
    )


def _raw_band(spool: Spool, layer: str, band: int, offset: int, lines: int, more: str) -> str:
    return (
        f'<VRTRasterBand dataType="Byte" band="{band}" subClass="VRTRawRasterBand">'
        f"<NoDataValue>{NODATA}</NoDataValue>{more}"
        f'<SourceFilename relativeToVRT="1">{spool.path(layer).name}</SourceFilename>'
        f"<ImageOffset>{offset}</ImageOffset><PixelOffset>1</PixelOffset>"
        f"<LineOffset>{lines * spool.width}</LineOffset></VRTRasterBand>"
    )


def read_legend(tags: dict[str, str]) -> Legend | None:
    """The legend that a class raster carries in its tags, None where there is none."""
    text = tags.get(LEGEND_TAG)
    return Legend.from_records(json.loads(text)) if text else None


def class_areas(
    spool: Spool, georef: Georef, legend: Legend, block: int = 64
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Square metres on the ellipsoid a class, then of nodata: float64 (classes + 1,).

    Pixels are counted in blocks of `block` x `block` and weighted with the area of the pixel at the block's centre.
    For pixels of up to 10 m the error stays below a millionth.
    """
    rows, width = georef.shape
    lefts = np.arange(0, width, block)
    centres = np.minimum(lefts + block, width) / 2 + lefts / 2
    channel = np.full(256, len(legend), dtype=np.intp)
    channel[legend.values] = np.arange(len(legend))
    areas = np.zeros(len(legend) + 1)
    column = np.arange(width) // block * (len(legend) + 1)
    for top, (classes, _) in zip(range(0, rows, block), spool.strips(block), strict=True):
        height = classes.shape[0]
        keys = channel[classes] + column
        counts = np.bincount(keys.ravel(), minlength=len(lefts) * (len(legend) + 1)).reshape(len(lefts), -1)
        middle = np.full(len(lefts), top + height / 2)
        areas += georef.pixel_area_m2(centres, middle) @ counts
    return areas
