"""What `geounet stats` and `geounet sample` do: a map, zones and checked points in; tables out."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer

from geounet.errors import StatisticsError
from geounet.statistics.estimate import SampleEstimates, stratified_estimates
from geounet.statistics.maps import open_map
from geounet.statistics.sample import counts_of, draw_sample, sample_frame
from geounet.statistics.vector_files import read_layer
from geounet.statistics.zones import WHOLE, Zone, ZoneAreas, channels, records, zone_areas, zones_of
from tiles.durable import replacing
from tiles.errors import OutputError
from tiles.georef import Georef
from tiles.rasters.read import Categorical
from tiles.window import Window

_TABLES = (".csv", ".parquet", ".gpkg")
_POINTS = (".gpkg", ".geojson")
REFERENCE = "reference"


@dataclass(frozen=True)
class MapStatistics:
    """A row a zone and class (`zones.records` and the estimates), notes on zones, and the accuracy of the whole map."""

    rows: list[dict[str, Any]]
    notes: tuple[tuple[str, str], ...]
    accuracy: SampleEstimates | None
    zones: tuple[Zone, ...]
    crs: CRS

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "notes": [{"zone": zone, "text": text} for zone, text in self.notes],
            "accuracy": None if self.accuracy is None else asdict(self.accuracy),
        }


@dataclass(frozen=True)
class _Checked:
    """Points that somebody has looked at: where they lie in the raster, the class mapped there, and the true one."""

    pixels: npt.NDArray[np.float64]
    mapped: npt.NDArray[np.object_]
    reference: npt.NDArray[np.object_]

    def counts(self, names: tuple[str, ...], zone: Zone) -> npt.NDArray[np.int64]:
        """`counts[map, reference]` of the points inside a zone."""
        inside = np.ones(len(self.mapped), bool)
        if zone.pixels is not None:
            shapely.prepare(zone.pixels)
            inside = shapely.contains_xy(zone.pixels, self.pixels)
        return counts_of(self.mapped[inside], self.reference[inside], names)


def map_statistics(
    path: Path,
    zones: Path | None = None,
    attribute: str | None = None,
    reference: Path | None = None,
    *,
    out: Path | None = None,
    overwrite: bool = False,
) -> MapStatistics:
    """Areas by class and zone of a map; with checked points also estimates with intervals.

    Everything that is wrong with the files is told before the raster is read. Raises StatisticsError, SceneError,
    OutputError.
    """
    if out is not None:
        check_target(out, _TABLES, overwrite)
    with open_map(path) as raster:
        georef, legend = raster.georef, raster.legend
        chosen, crs = ([Zone(WHOLE)], georef.proj_crs) if zones is None else zones_of(zones, georef, attribute)
        checked = None if reference is None else _checked(reference, raster)
        whole = zone_areas(raster, Zone(WHOLE))
        found = [whole if zone.pixels is None else zone_areas(raster, zone) for zone in chosen]
    rows, notes = records(found, legend), _notes(found)
    accuracy = None
    if checked is not None:
        accuracy = _estimates(checked, legend.names, Zone(WHOLE), whole)
        if accuracy is None:
            notes.append((WHOLE, "no estimates: every mapped class needs at least two checked points"))
    estimated: list[tuple[float | None, float | None]] = []
    for zone, areas in zip(chosen, found, strict=True):
        here = None if checked is None else _estimates(checked, legend.names, zone, areas)
        if checked is not None and here is None and zone.pixels is not None:
            notes.append((zone.name, "no estimates: a class mapped here has fewer than two checked points"))
        estimated += _in_square_metres(here, areas, len(legend))
    for row, (value, half_width) in zip(rows, estimated, strict=True):
        row["estimated_m2"], row["half_width_m2"] = value, half_width
    return MapStatistics(rows, tuple(notes), accuracy, tuple(chosen), crs)


def _estimates(checked: _Checked, names: tuple[str, ...], zone: Zone, areas: ZoneAreas) -> SampleEstimates | None:
    if not areas.mapped:
        return None
    return stratified_estimates(names, checked.counts(names, zone), areas.classes)


def _in_square_metres(
    found: SampleEstimates | None, areas: ZoneAreas, classes: int
) -> list[tuple[float | None, float | None]]:
    if found is None:
        return [(None, None)] * classes
    mapped = areas.mapped
    return [(round(c.share.value * mapped, 3), round(c.share.half_width * mapped, 3)) for c in found.classes]


def _notes(found: Sequence[ZoneAreas]) -> list[tuple[str, str]]:
    notes = []
    for areas in found:
        total = areas.mapped + areas.nodata + areas.outside
        if not areas.mapped:
            notes.append((areas.zone, "nothing of it is mapped"))
        elif areas.outside + areas.nodata > 0.001 * total and areas.zone != WHOLE:
            notes.append((areas.zone, f"{(areas.outside + areas.nodata) / total:.1%} of it is not mapped"))
    return notes


def _checked(path: Path, raster: Categorical) -> _Checked:
    """Points with a `reference`, and the class mapped there; those outside of the map or on nodata are left out."""
    frame = read_layer(path, "points")
    if REFERENCE not in frame.columns:
        raise StatisticsError(f"{path} has no field '{REFERENCE}': `geounet sample` makes such a file")
    told = frame[REFERENCE].astype("object")
    filled = told.notna() & (told.astype(str).str.strip() != "")
    if not filled.any():
        raise StatisticsError(f"{path}: no point has its '{REFERENCE}' filled in yet: write the class that is there")
    points, names = frame.geometry[filled], told[filled].astype(str).str.strip().to_numpy(dtype=object)
    if not (points.geom_type == "Point").all():
        raise StatisticsError(f"{path} holds other things than points")
    unknown = sorted(set(names) - set(raster.legend.names))
    if unknown:
        known = ", ".join(raster.legend.names)
        raise StatisticsError(f"{path}: '{unknown[0]}' is no class of the map: write one of {known}")
    pixels = _pixels(
        np.asarray(shapely.get_coordinates(points.to_numpy())), CRS.from_user_input(frame.crs), raster.georef
    )
    mapped = _classes_at(raster, pixels)
    known_there = np.array([name is not None for name in mapped])
    if not known_there.any():
        raise StatisticsError(f"{path}: no point lies on a mapped pixel: check its CRS")
    return _Checked(pixels[known_there], mapped[known_there], names[known_there])


def _pixels(xy: npt.NDArray[np.float64], crs: CRS, georef: Georef) -> npt.NDArray[np.float64]:
    x, y = Transformer.from_crs(crs, georef.proj_crs, always_xy=True).transform(xy[:, 0], xy[:, 1])
    back = ~georef.transform
    return np.column_stack((back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f))


def _classes_at(raster: Categorical, pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    rows, columns = raster.georef.shape
    table, names = channels(raster), raster.legend.names
    found = np.full(len(pixels), None, dtype=object)
    for index, (x, y) in enumerate(pixels):
        if math.isfinite(x) and math.isfinite(y) and 0 <= x < columns and 0 <= y < rows:
            codes, _ = raster.read(Window(int(y), int(x), 1, 1))
            place = table[codes[0, 0]]
            found[index] = names[place] if place < len(names) else None
    return found


def write_sample(
    path: Path, out: Path, number: int, *, by_class: bool = True, seed: int = 0, overwrite: bool = False
) -> dict[str, int]:
    """Draw points of a map into a file, and say how many of each class."""
    check_target(out, _POINTS, overwrite)
    with open_map(path) as raster:
        points = draw_sample(raster, number, by_class=by_class, seed=seed)
        frame = sample_frame(points, raster.georef, raster.legend)
    _write_frame(frame.to_crs("OGC:CRS84") if out.suffix.lower() == ".geojson" else frame, out)
    return {str(name): int(n) for name, n in frame["mapped"].value_counts().items()}


def write_table(found: MapStatistics, out: Path) -> None:
    """The rows as a table by the file's ending: CSV and Parquet a row a zone and class, GeoPackage a feature a zone."""
    import pandas

    frame = pandas.DataFrame(found.rows)
    if out.suffix.lower() == ".gpkg":
        _write_frame(_by_zone(found, frame), out)
        return
    try:
        with replacing(out) as part:
            if out.suffix.lower() == ".csv":
                frame.to_csv(part, index=False)
            else:
                frame.to_parquet(part, index=False)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error


def _by_zone(found: MapStatistics, frame: Any) -> Any:
    import geopandas

    if found.zones[0].given is None:
        raise StatisticsError("a GeoPackage holds a feature a zone: give --zones, or write .csv or .parquet")
    wide = frame.pivot_table(index="zone", columns="class_name", values="area_m2", sort=False)
    wide.columns = [f"{name}_m2" for name in wide.columns]
    shapes = {zone.name: zone.given for zone in found.zones}
    wide = wide.reindex([zone.name for zone in found.zones]).reset_index()
    return geopandas.GeoDataFrame(wide, geometry=[shapes[name] for name in wide["zone"]], crs=found.crs)


def _write_frame(frame: Any, out: Path) -> None:
    import pyogrio

    driver = "GPKG" if out.suffix.lower() == ".gpkg" else "GeoJSON"
    part = out.with_name(f".{out.stem}.part{out.suffix}")
    try:
        part.unlink(missing_ok=True)
        pyogrio.write_dataframe(frame, part, layer=out.stem, driver=driver)
        part.replace(out)
    except (pyogrio.errors.DataSourceError, OSError) as error:
        raise OutputError(f"{out}: cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def check_target(out: Path, endings: Sequence[str], overwrite: bool) -> None:
    """Raise where a file cannot be written under this name."""
    if out.suffix.lower() not in endings:
        raise StatisticsError(f"{out}: the ending must be one of {', '.join(endings)}")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists: choose another name, or replace it with --overwrite")
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out}: there is no folder {out.absolute().parent}; make it first")
