"""GeoParquet 1.1 with a bounding-box column, rows in Hilbert order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

_ROW_GROUP = 50_000

_BBOX = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])


def write_geoparquet(source: "pa.ipc.RecordBatchFileReader", path: Path, crs: dict[str, Any]) -> None:
    """Writes Arrow batches with columns `fid` and `geometry` (WKB) as one GeoParquet file, ordered by `fid`.

    `crs` is PROJJSON. Each row group is gathered from the batches it needs, so memory stays at one row group and
    the batches the operating system keeps mapped. Specification: GeoParquet 1.1.0, "bbox" covering.
    """
    order, bounds = _survey(source)
    schema = pa.schema([*source.schema, pa.field("bbox", _BBOX)]).remove_metadata()
    schema = _plain_geometry(schema).with_metadata({"geo": json.dumps(_metadata(crs, bounds))})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, len(order), _ROW_GROUP):
            writer.write_table(_gather(source, order[first : first + _ROW_GROUP], schema))


def _plain_geometry(schema: pa.Schema) -> pa.Schema:
    return schema.set(schema.get_field_index("geometry"), pa.field("geometry", pa.binary()))


def _survey(source: "pa.ipc.RecordBatchFileReader") -> tuple[np.ndarray, list[float]]:
    """Positions (batch, row) of all rows by ascending fid, shape (n, 2), and the bounds of everything."""
    fids, places = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    bounds = [np.array([np.inf, np.inf, -np.inf, -np.inf])]
    for i in range(source.num_record_batches):
        batch = source.get_batch(i)
        fids.append(batch.column("fid").to_numpy())
        places.append(np.column_stack([np.full(len(batch), i), np.arange(len(batch))]))
        bounds.append(_total(_bounds(batch)))
    every = np.array(bounds)
    total = [*every[:, :2].min(0), *every[:, 2:].max(0)]
    order = np.concatenate(places)[np.argsort(np.concatenate(fids), kind="stable")]
    return order, [float(v) for v in total] if len(order) else []


def _bounds(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    return np.asarray(shapely.bounds(shapely.from_wkb(batch.column("geometry").to_numpy(zero_copy_only=False))))


def _total(bounds: np.ndarray) -> np.ndarray:
    return np.concatenate([bounds[:, :2].min(0), bounds[:, 2:].max(0)])


def _gather(source: "pa.ipc.RecordBatchFileReader", places: np.ndarray, schema: pa.Schema) -> pa.Table:
    used, which = np.unique(places[:, 0], return_inverse=True)
    tables = [source.get_batch(int(i)) for i in used]
    taken = [t.take(pa.array(places[which == k, 1])) for k, t in enumerate(tables)]
    together = pa.Table.from_batches(taken)
    # `taken` lies batch by batch; bring it back into the order asked for.
    rank = np.empty(len(places), np.int64)
    rank[np.argsort(which, kind="stable")] = np.arange(len(places))
    table = together.take(pa.array(rank))
    sides = _bounds(table)
    bbox = pa.StructArray.from_arrays([pa.array(sides[:, k]) for k in range(4)], fields=list(_BBOX))
    return pa.Table.from_arrays([*(c.combine_chunks() for c in table.columns), bbox], schema=schema)


def _metadata(crs: dict[str, Any], bounds: list[float]) -> dict[str, Any]:
    covering = {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}}
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": crs,
        "edges": "planar",
        "covering": covering,
    }
    if bounds:
        column["bbox"] = bounds
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
