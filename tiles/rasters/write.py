"""From a spool to class, confidence and probability rasters (cloud-optimised GeoTIFF)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import rasterio
import rasterio.shutil

from tiles.chips.spool import Spool
from tiles.errors import OutputError
from tiles.georef import Georef
from tiles.legend import NODATA, Legend
from tiles.rasters.overviews import RawRaster, write_overviews
from tiles.scene.source import GDAL_ERRORS

LEGEND_TAG = "LEGEND"
"""TIFF tag that holds the legend as JSON: rasterio cannot write category names, and GDAL keeps them in a sidecar."""

_BLOCK = 512
_CACHE_MB = 64
# Confidence and probabilities are smooth: differences of neighbours at the lowest level come to the size of the
# usual level in a third of its time. Classes repeat, which differences hide.
_SMOOTH = {"predictor": "YES", "level": 1}


def write_rasters(
    spool: Spool, georef: Georef, legend: Legend, folder: Path, wanted: Callable[[], bool] = lambda: True
) -> dict[str, Path]:
    """Write `classes.tif`, `confidence.tif` and, where the spool has them, `probabilities.tif` into `folder`.

    Before each, `wanted` is asked whether to go on. Any thread may call this; GDAL works without holding Python up.

    GDAL reads the spool's raw rows and our overviews of them in place through a small VRT that also carries colour
    table, names, nodata and legend, so there is neither a full-size array nor a temporary copy; the COG driver writes
    `classes.tif.aux.xml` with the class names by itself. Raises OutputError where the disk does not take them.
    """
    names = ["classes", "confidence"] + (["probabilities"] if spool.classes_count else [])
    return {name: _write_cog(spool, name, georef, legend, folder / f"{name}.tif") for name in names if wanted()}


def _write_cog(spool: Spool, layer: str, georef: Georef, legend: Legend, target: Path) -> Path:
    # The newest sidecar must be ours: GDAL merges into one that lies there from an interrupted run.
    target.with_name(target.name + ".aux.xml").unlink(missing_ok=True)
    raw = RawRaster(spool.path(layer), spool.rows, spool.width, spool.classes_count if layer == "probabilities" else 1)
    overviews: list[RawRaster] = []
    try:
        overviews = write_overviews(raw, "mode" if layer == "classes" else "mean", _BLOCK)
        for overview in overviews:
            _vrt_path(overview).write_text(_overview_vrt(overview), encoding="utf-8")
        _vrt_path(raw).write_text(_vrt(raw, overviews, layer, georef, legend), encoding="utf-8")
        # The class names go into a sidecar, also where a process that reads strangers' files has sidecars switched off.
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, GDAL_NUM_THREADS="ALL_CPUS", GDAL_PAM_ENABLED="YES"):
            rasterio.shutil.copy(
                _vrt_path(raw),
                target,
                driver="COG",
                compress="DEFLATE",
                blocksize=_BLOCK,
                bigtiff="IF_SAFER",
                **({} if layer == "classes" else _SMOOTH),
            )
    except (*GDAL_ERRORS, OSError) as error:
        raise OutputError(
            f"{target}: cannot be written: {error}; is the disk full? Make room and give the same command to go on"
        ) from error
    finally:
        for made in overviews:
            made.path.unlink(missing_ok=True)
        for described in (raw, *overviews):
            _vrt_path(described).unlink(missing_ok=True)
    return target


def _vrt_path(raw: RawRaster) -> Path:
    return raw.path.with_suffix(".vrt")


def _vrt(raw: RawRaster, overviews: Sequence[RawRaster], layer: str, georef: Georef, legend: Legend) -> str:
    if layer == "classes":
        about = [_about_classes(legend)]
    elif layer == "confidence":
        about = ["<Description>confidence</Description><UnitType>%</UnitType>"]
    else:
        about = [f"<Description>{escape(c.name)}</Description><UnitType>%</UnitType>" for c in legend.classes]
    transform = ", ".join(repr(v) for v in georef.transform.to_gdal())
    head = (
        f"<SRS>{escape(georef.crs.to_wkt())}</SRS><GeoTransform>{transform}</GeoTransform>"
        f'<Metadata><MDI key="AREA_OR_POINT">Area</MDI><MDI key="{LEGEND_TAG}">{escape(legend.to_json())}</MDI>'
        "</Metadata>"
    )
    return _dataset(raw, head, [_raw_band(raw, plane, more, overviews) for plane, more in enumerate(about)])


def _overview_vrt(raw: RawRaster) -> str:
    return _dataset(raw, "", [_raw_band(raw, plane) for plane in range(raw.planes)])


def _dataset(raw: RawRaster, head: str, bands: Sequence[str]) -> str:
    return f'<VRTDataset rasterXSize="{raw.width}" rasterYSize="{raw.rows}">{head}{"".join(bands)}</VRTDataset>'


def _about_classes(legend: Legend) -> str:
    table, names = legend.colormap(), {c.value: c.name for c in legend.classes}
    entries = "".join(
        '<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*table.get(value, (0, 0, 0, 255))) for value in range(256)
    )
    categories = "".join(
        f"<Category>{escape(names.get(value, ''))}</Category>" for value in range(int(legend.values.max()) + 1)
    )
    return (
        "<Description>class</Description><ColorInterp>Palette</ColorInterp>"
        f"<CategoryNames>{categories}</CategoryNames><ColorTable>{entries}</ColorTable>"
    )


def _raw_band(raw: RawRaster, plane: int, more: str = "", overviews: Sequence[RawRaster] = ()) -> str:
    smaller = "".join(
        f'<Overview><SourceFilename relativeToVRT="1">{_vrt_path(overview).name}</SourceFilename>'
        f"<SourceBand>{plane + 1}</SourceBand></Overview>"
        for overview in overviews
    )
    return (
        f'<VRTRasterBand dataType="Byte" band="{plane + 1}" subClass="VRTRawRasterBand">'
        f"<NoDataValue>{NODATA}</NoDataValue>{more}{smaller}"
        f'<SourceFilename relativeToVRT="1">{raw.path.name}</SourceFilename>'
        f"<ImageOffset>{plane * raw.width}</ImageOffset><PixelOffset>1</PixelOffset>"
        f"<LineOffset>{raw.planes * raw.width}</LineOffset></VRTRasterBand>"
    )


def read_legend(tags: dict[str, str]) -> Legend | None:
    """The legend that a class raster carries in its tags, None where there is none."""
    text = tags.get(LEGEND_TAG)
    return Legend.from_records(json.loads(text)) if text else None
