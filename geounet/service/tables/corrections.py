"""Corrections of the service's maps: the table `corrections`, a row a revision.

A revision is what one request added. All revisions of a map that were not undone are in force together.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geounet.errors import CorrectionError
from geounet.service.database import Database
from geounet.service.errors import ConflictError, NotFoundError, UnfitCorrectionsError

MOST_FEATURES = 5_000
"""Corrections of one map, and of one request."""


@dataclass(frozen=True)
class Revision:
    """What one request added: how many corrections, how many of which class, when (seconds since 1970)."""

    number: int
    corrections: int
    classes: Mapping[str, int]
    created: float


class Corrections:
    """Corrections by map. The caller has made sure that the map may be seen."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, map_id: str, folder: Path, given: Mapping[str, Any]) -> Revision:
        """Keep a FeatureCollection of corrections of the map in `folder` as a new revision.

        Raises UnfitCorrectionsError where one cannot be used on that map, ConflictError where they are too many.
        """
        classes = checked(folder, given)
        features = [{**f, "properties": _kept(f["properties"])} for f in given["features"]]
        with self.database.write() as db:
            row = db.execute(
                "SELECT coalesce(max(revision), 0), coalesce(sum(count), 0) FROM corrections WHERE map = ?", (map_id,)
            ).fetchone()
            if row[1] + len(features) > MOST_FEATURES:
                raise ConflictError(f"a map may have {MOST_FEATURES} corrections and has {row[1]}: undo some first")
            made = Revision(row[0] + 1, len(features), classes, time.time())
            db.execute(
                "INSERT INTO corrections VALUES (?, ?, ?, ?, ?, ?)",
                (map_id, made.number, json.dumps(features), made.corrections, json.dumps(classes), made.created),
            )
        return made

    def revisions(self, map_id: str) -> list[Revision]:
        """The revisions in force, oldest first."""
        rows = self.database.all(
            "SELECT revision, count, classes, created FROM corrections WHERE map = ? ORDER BY revision", map_id
        )
        return [Revision(r["revision"], r["count"], json.loads(r["classes"]), r["created"]) for r in rows]

    def collection(self, map_id: str) -> dict[str, Any]:
        """All corrections in force as a FeatureCollection; each feature's properties name its revision."""
        rows = self.database.all("SELECT revision, features FROM corrections WHERE map = ? ORDER BY revision", map_id)
        features = [
            {**feature, "properties": {**feature["properties"], "revision": row["revision"]}}
            for row in rows
            for feature in json.loads(row["features"])
        ]
        return {"type": "FeatureCollection", "features": features}

    def undo(self, map_id: str, revision: int | None = None) -> None:
        """Remove a revision, the newest for None. Raises NotFoundError."""
        with self.database.write() as db:
            if revision is None:
                row = db.execute("SELECT max(revision) FROM corrections WHERE map = ?", (map_id,)).fetchone()
                revision = row[0]
            found = db.execute("DELETE FROM corrections WHERE map = ? AND revision = ?", (map_id, revision))
            if found.rowcount == 0:
                raise NotFoundError("the map has no such revision of corrections")

    def forget(self, db: sqlite3.Connection, map_id: str) -> None:
        """Remove everything about a map, inside the caller's transaction."""
        db.execute("DELETE FROM corrections WHERE map = ?", (map_id,))


def checked(folder: Path, given: Mapping[str, Any]) -> dict[str, int]:
    """How many corrections of which class. Raises UnfitCorrectionsError, in one line, where they do not fit the map."""
    from affine import Affine
    from rasterio.crs import CRS

    from geounet.correction.read import from_geojson
    from tiles.georef import Georef
    from tiles.legend import LandClass, Legend

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    grid = summary["grid"]
    georef = Georef(CRS.from_string(grid["crs"]), Affine(*grid["transform"]), (grid["rows"], grid["columns"]))
    legend = Legend(tuple(LandClass(c["value"], c["name"], (0, 0, 0)) for c in summary["classes"]))
    try:
        # A new class may come a few corrections at a time: how many it has counts when the map is corrected.
        found = from_geojson(given, georef, legend, least=1)
    except CorrectionError as error:
        raise UnfitCorrectionsError(str(error), "features") from error
    if not len(found):
        raise UnfitCorrectionsError("there are no corrections in the collection", "features")
    return found.counts()


def _kept(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Class and colour: who drew it and whatever else came along is not kept."""
    return {name: properties[name] for name in ("class", "color") if properties.get(name) is not None}
