"""What a map folder holds: every file's name, what it is, its media type. The one list of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLASSES = "classes.tif"
CONFIDENCE = "confidence.tif"
PROBABILITIES = "probabilities.tif"
POLYGONS = "polygons.gpkg"
PREVIEW = "preview.png"
SUMMARY = "summary.json"
RUN = "run.json"
ITEM = "item.json"
CORRECTIONS = "corrections.gpkg"
CORRECTION = "correction.json"
MODEL = "model"
"""The folder of the adapter that a corrected map was made with."""

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
GEOJSON = "application/geo+json"


@dataclass(frozen=True)
class MapFile:
    """One file: `what` in a few words, its media type, its roles as an asset of a STAC Item (none: not one)."""

    name: str
    what: str
    media_type: str
    roles: tuple[str, ...] = ()


MAP_FILES = (
    MapFile(CLASSES, "Land classes", COG, ("data", "classification")),
    MapFile(CONFIDENCE, "Probability of the chosen class", COG, ("data", "quality")),
    MapFile(PROBABILITIES, "Probability of each class", COG, ("data",)),
    MapFile("classes.tif.aux.xml", "Class names for GDAL and QGIS", "application/xml"),
    MapFile(POLYGONS, "Polygons, GeoPackage", "application/geopackage+sqlite3", ("data",)),
    MapFile("polygons.geojson", "Polygons, GeoJSON", GEOJSON, ("data",)),
    MapFile("polygons.geojsonl", "Polygons, GeoJSON text sequence", "application/geo+json-seq", ("data",)),
    MapFile("polygons.fgb", "Polygons, FlatGeobuf", "application/vnd.flatgeobuf", ("data",)),
    MapFile("polygons.parquet", "Polygons, GeoParquet", "application/vnd.apache.parquet", ("data",)),
    MapFile(CORRECTIONS, "Corrections that the map was made with", "application/geopackage+sqlite3"),
    MapFile(CORRECTION, "What the corrections changed", "application/json", ("metadata",)),
    MapFile(PREVIEW, "The scene beside its map", "image/png", ("overview",)),
    MapFile(SUMMARY, "Areas by class, and how the map was made", "application/json", ("metadata",)),
    MapFile(RUN, "Times and versions of the run", "application/json", ("metadata",)),
    MapFile(ITEM, "The map as a STAC Item", GEOJSON),
)
"""In the order in which they are told of."""

_COMPANIONS = (".aux.xml", "-wal", "-shm", "-journal")
"""What GDAL and SQLite leave beside a file that was only looked at: statistics and journals."""


def not_ours(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """Names in a map's folder that the run of its `summary` did not write, sorted; folders among them."""
    asked = summary["request"].get("options", {})
    written = {file.name for file in MAP_FILES if not file.name.startswith("polygons.")} - {PROBABILITIES}
    written |= {f"polygons.{name}" for name in asked.get("formats", ())}
    written |= {PROBABILITIES} if asked.get("probabilities") else set()
    beside = {name + ending for name in written for ending in _COMPANIONS}
    return sorted(p.name for p in folder.iterdir() if p.is_dir() or p.name not in written | beside)


POLYGON_FILES = tuple(file.name for file in MAP_FILES if file.name.startswith("polygons."))
"""In the order of preference where one of them is to be read."""

BY_NAME = {file.name: file for file in MAP_FILES}
