"""Polygons -> GeoPackage, GeoJSON (RFC 7946), GeoJSON text sequence, FlatGeobuf, GeoParquet.

The batches are read once and kept on disk as Arrow; each format then streams from there, so memory stays at one
batch however many formats are asked for, and formats that want another order (GeoParquet) can have it.
"""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyogrio
import pyogrio.errors
import shapely

from tiles.errors import VectorError
from tiles.georef import Georef
from tiles.legend import Legend
from tiles.polygons.polygonise import PolygonBatch
from tiles.vectors.formats import FORMATS
from tiles.vectors.qgis_style import qml
from tiles.vectors.sqlite_file import settle
from tiles.vectors.wgs84 import ToWgs84

LAYER = "landcover"
"""Layer name in every file."""

# A GeoPackage holds its time of writing; without a fixed one no two runs are alike.
_FIXED_DATE = "2000-01-01T00:00:00.000Z"

_SCHEMA = pa.schema(
    [
        pa.field("fid", pa.int64()),
        pa.field("class_id", pa.int64()),
        pa.field("class_name", pa.string()),
        pa.field("area_m2", pa.float64()),
        pa.field("perimeter_m", pa.float64()),
        pa.field("confidence", pa.float64()),
        pa.field("pixel_count", pa.int64()),
        pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"}),
    ]
)


@dataclass(frozen=True)
class _Spool:
    """All polygons as an Arrow file, with what writers need to know about them."""

    path: Path
    georef: Georef
    legend: Legend

    @property
    def schema(self) -> pa.Schema:
        """Classes of a map are bytes; rasters of other makers may hold any integers."""
        small = all(0 <= c.value <= 255 for c in self.legend.classes)
        field = pa.field("class_id", pa.uint8() if small else pa.int64())
        return _SCHEMA.set(_SCHEMA.get_field_index("class_id"), field)

    def batches(self) -> Iterator[pa.RecordBatch]:
        # Read, not mapped: GDAL writes into the Arrow buffers it is handed and dies on read-only memory.
        with pa.OSFile(str(self.path)) as source:
            reader = pa.ipc.open_file(source)
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i)


def write_vectors(
    batches: Iterable[PolygonBatch],
    folder: Path,
    formats: Sequence[str],
    georef: Georef,
    legend: Legend,
    stem: str = "polygons",
) -> dict[str, Path]:
    """Writes polygons as `folder/stem.FORMAT` for each of `formats`; returns the paths by format.

    `batches` is consumed once. Formats: gpkg, geojson, geojsonl, fgb, parquet; GeoJSON is in WGS 84, the others in
    the CRS of `georef`. No batches give valid files without features. Existing files are replaced, each in one step.

    Raises VectorError for an unknown format, for polygons that a format cannot hold, and where writing fails.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise VectorError(f"unknown vector format {', '.join(unknown)}: choose from {', '.join(FORMATS)}")
    folder.mkdir(parents=True, exist_ok=True)
    targets = {name: folder / f"{stem}.{name}" for name in formats}
    write_vector_files(batches, list(targets.values()), georef, legend)
    return targets


def write_vector_files(
    batches: Iterable[PolygonBatch], targets: Sequence[Path], georef: Georef, legend: Legend
) -> None:
    """As `write_vectors`, to any files; each one's ending names its format, its folder must be there.

    A GeoPackage that is replaced takes its journals along; one that another program has open is refused at once.
    """
    for target in targets:
        if _format(target) not in FORMATS:
            raise VectorError(f"{target}: the ending must be one of .{', .'.join(FORMATS)}")
        if _format(target) == "gpkg":
            settle(target)
    if not targets:
        return
    with ExitStack() as stack:
        # In the target's folder, so that moving into place is one step.
        folders = [Path(stack.enter_context(_scratch_folder(target))) for target in targets]
        spool = _Spool(folders[0] / "polygons.arrow", georef, legend)
        _fill(spool, batches)
        for target, folder in zip(targets, folders, strict=True):
            unfinished = folder / target.name
            try:
                _WRITERS[_format(target)](spool, unfinished)
                if _format(target) == "gpkg":
                    settle(target)
                unfinished.replace(target)
            except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError, sqlite3.Error) as error:
                raise VectorError(f"cannot write {target}: {error}; is the disk full?") from error


def _format(target: Path) -> str:
    return target.suffix.lstrip(".").lower()


def _scratch_folder(target: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent)
    except OSError as error:
        raise VectorError(f"cannot write {target}: {error}") from error


def _fill(spool: _Spool, batches: Iterable[PolygonBatch]) -> None:
    schema = spool.schema
    with pa.OSFile(str(spool.path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            if len(batch):
                writer.write_batch(_record_batch(batch, schema))


def _record_batch(batch: PolygonBatch, schema: pa.Schema) -> pa.RecordBatch:
    confidence = np.round(batch.confidence, 4)
    columns = [
        pa.array(batch.fid, pa.int64()),
        pa.array(batch.class_id, schema.field("class_id").type),
        pa.array(batch.class_name, pa.string()),
        pa.array(np.round(batch.area_m2, 3), pa.float64()),
        pa.array(np.round(batch.perimeter_m, 3), pa.float64()),
        pa.array(confidence, pa.float64(), mask=np.isnan(confidence)),
        pa.array(batch.pixel_count, pa.int64()),
        pa.array(shapely.to_wkb(batch.geometries), pa.binary()),
    ]
    return pa.record_batch(columns, schema=schema)


def _with_geometries(batch: pa.RecordBatch, change: Callable[[np.ndarray], np.ndarray]) -> pa.RecordBatch:
    geometries = shapely.from_wkb(batch.column("geometry").to_numpy(zero_copy_only=False))
    changed = pa.array(shapely.to_wkb(change(geometries)), pa.binary())
    return batch.set_column(batch.schema.get_field_index("geometry"), _SCHEMA.field("geometry"), changed)


def _stream(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path, driver: str, crs: str, **options: object
) -> None:
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _FIXED_DATE})
    try:
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(schema, batches),
            path,
            layer=LAYER,
            driver=driver,
            geometry_name="geometry",
            crs=crs,
            **options,
        )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _write_gpkg(spool: _Spool, path: Path) -> None:
    options = {"SPATIAL_INDEX": "YES", "FID": "fid", "GEOMETRY_NAME": "geom"}
    _stream(
        spool.schema,
        spool.batches(),
        path,
        "GPKG",
        spool.georef.crs.to_wkt(),
        geometry_type="Polygon",
        layer_options=options,
        dataset_options={"VERSION": "1.3"},
    )
    _add_style(path, qml(spool.legend))


def _add_style(path: Path, style: str) -> None:
    """Adds the table that QGIS and GDAL read default styles from."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),"
            " f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30),"
            " styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),"
            " update_time DATETIME)"
        )
        db.execute(
            "INSERT INTO layer_styles VALUES (1, '', '', ?, 'geom', 'landcover', ?, '', 1, 'Land classes', '', '', ?)",
            (LAYER, style, _FIXED_DATE),
        )
        db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change)"
            " VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
            (_FIXED_DATE,),
        )


def _write_geojson(spool: _Spool, path: Path) -> None:
    options = {"RFC7946": "YES", "WRITE_NAME": "YES", "COORDINATE_PRECISION": "7", "ID_FIELD": "fid"}
    _stream_lonlat(spool, path, "GeoJSON", options)


def _write_geojsonl(spool: _Spool, path: Path) -> None:
    _stream_lonlat(spool, path, "GeoJSONSeq", {"RS": "NO", "COORDINATE_PRECISION": "7", "ID_FIELD": "fid"})


def _stream_lonlat(spool: _Spool, path: Path, driver: str, options: dict[str, str]) -> None:
    to_wgs84 = ToWgs84(spool.georef)
    batches = (_with_geometries(batch, to_wgs84.polygons) for batch in spool.batches())
    kind = "Unknown" if to_wgs84.crosses_antimeridian else "Polygon"
    _stream(spool.schema, batches, path, driver, "EPSG:4326", geometry_type=kind, layer_options=options)
    path.touch()  # without features GDAL leaves no text sequence at all; an empty file is a valid one


def _write_fgb(spool: _Spool, path: Path) -> None:
    _stream(
        spool.schema,
        spool.batches(),
        path,
        "FlatGeobuf",
        spool.georef.crs.to_wkt(),
        geometry_type="Polygon",
        layer_options={"SPATIAL_INDEX": "YES"},
    )


def _write_parquet(spool: _Spool, path: Path) -> None:
    from tiles.vectors.geoparquet import write_geoparquet  # geopandas takes a second and 50 MB to import

    # Mapped, and left to the garbage collector: batches point into the mapping and outlive any `with` block.
    write_geoparquet(
        pa.ipc.open_file(pa.memory_map(str(spool.path))), path, json.loads(spool.georef.proj_crs.to_json())
    )


_WRITERS: dict[str, Callable[[_Spool, Path], None]] = {
    "gpkg": _write_gpkg,
    "geojson": _write_geojson,
    "geojsonl": _write_geojsonl,
    "fgb": _write_fgb,
    "parquet": _write_parquet,
}
