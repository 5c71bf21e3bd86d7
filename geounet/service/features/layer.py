"""Polygons of a finished map, page by page, by SQL on its GeoPackage.

Pages are keyed by the feature's id, never by an offset: the thousandth page costs what the first does. A box is looked
up in the R-tree; polygons that its border may cut are tested exactly. What a filter matches is kept as an array of
ids in a bounded cache, so that following pages and the count are one look away.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer

from geounet.errors import GeounetError
from geounet.service.errors import NotFoundError
from geounet.service.features.crs_uri import CRS84
from geounet.service.features.geometry import Carrier, read_geometries
from geounet.service.features.search_box import BoxPart, SearchBox, Side
from geounet.service.features.transformers import Bounds, Geometries
from tiles.longitudes import turned_extent

Ids = npt.NDArray[np.int64]

TEXTS_FILE = "features.sqlite3"
"""Beside the GeoPackage of a map that the service made; `geounet.service.features.texts`."""
TABLE = "landcover"
RTREE = "rtree_landcover_geom"
BATCH = 1000
"""Features that are in memory at once while a page is sent."""


_PROPERTIES = ("class_id", "class_name", "area_m2", "perimeter_m", "confidence", "pixel_count")
_PAIRS = ", ".join(f"'{name}', {name}" for name in _PROPERTIES)
# SQLite writes the properties as JSON: one string a feature comes over instead of six values.
_COLUMNS = f"fid, geom, json_object({_PAIRS})"
_BY_IDS = "FROM json_each(?) j CROSS JOIN {} ON fid = j.value"
"""Rows by ids given as a JSON array, in its order: SQLite never swaps the sides of a CROSS JOIN."""


@dataclass(frozen=True)
class Filter:
    """Which features: touching a box, of these classes, of at least this area. None and () mean all."""

    box: SearchBox | None = None
    classes: tuple[int, ...] = ()
    min_area: float | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self.box is None and not self.classes and self.min_area is None


@dataclass(frozen=True)
class Page:
    """The ids of one page in order, how many features match in all, and whether more follow."""

    ids: Ids
    matched: int
    more: bool


@dataclass(frozen=True)
class Shapes:
    """Polygons in their layer's CRS, and their properties, one of each a polygon."""

    geometries: Geometries
    ids: tuple[int, ...]
    class_id: tuple[int, ...]
    class_name: tuple[str, ...]
    area_m2: tuple[float, ...]
    confidence: tuple[float | None, ...]


Matches = Callable[["FeatureLayer", Filter], Ids]


class FeatureLayer:
    """The layer `landcover` of one map's GeoPackage; any number of threads may read it."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the map's. Raises GeounetError where its GeoPackage is not what it should be."""
        self.folder = folder
        self.path = folder / "polygons.gpkg"
        self.has_texts = (folder / TEXTS_FILE).is_file()
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._lonlat: list[float] | None = None
        try:
            self._describe()
        except (sqlite3.Error, TypeError) as error:
            raise GeounetError(f"{self.path} cannot be read: {error}; make the map again") from error

    def _describe(self) -> None:
        with self._connection() as db:
            contents = db.execute(
                "SELECT c.min_x, c.min_y, c.max_x, c.max_y, s.definition, s.organization, s.organization_coordsys_id"
                " FROM gpkg_contents c JOIN gpkg_spatial_ref_sys s ON s.srs_id = c.srs_id WHERE c.table_name = ?",
                (TABLE,),
            ).fetchone()
            self.count = int(db.execute(f"SELECT count(*) FROM {RTREE}").fetchone()[0])
        self.extent: Bounds | None = None if contents[0] is None else contents[:4]
        known = str(contents[5]).upper() == "EPSG"
        self.crs = CRS.from_epsg(contents[6]) if known else CRS.from_user_input(contents[4])

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The map's `summary.json`."""
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return found

    def carrier(self, uri: str) -> Carrier:
        """What brings this layer's geometries into the CRS of a URI. Make one a request: it keeps to its thread."""
        return Carrier(self.crs, self.summary["grid"], uri)

    def lonlat_bounds(self) -> list[float] | None:
        """[west, south, east, north] in degrees, west > east across the antimeridian; None without polygons."""
        if self.extent is None:
            return None
        if self._lonlat is None:
            to_lonlat = Transformer.from_crs(self.crs, "OGC:CRS84", always_xy=True)
            west, south, east, north = to_lonlat.transform_bounds(*self.extent)
            west, east = turned_extent(west, east)
            self._lonlat = [round(float(v), 7) for v in (west, south, east, north)]
        return self._lonlat

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._idle.pop() if self._idle else None
        if db is None:
            # Finished maps never change: without locks and checks for change, reading is all there is.
            uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
            db = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
            if self.has_texts:
                texts = (self.folder / TEXTS_FILE).resolve().as_uri()
                db.execute("ATTACH ? AS texts", (f"{texts}?mode=ro&immutable=1",))
        try:
            yield db
        finally:
            with self._lock:
                self._idle.append(db)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    # -- which features -------------------------------------------------------------------------------------------

    def page(self, wanted: Filter, after: int | None, limit: int, matches: Matches | None = None) -> Page:
        """The first `limit` features behind the id `after` that match, in the order of their ids.

        `matches` finds the ids where somebody remembers them, as `MatchCache.get` does.
        """
        if wanted.everything:
            return self._next_of_all(after, limit)
        matched = self.matches(wanted) if matches is None else matches(self, wanted)
        start = 0 if after is None else int(np.searchsorted(matched, after, side="right"))
        return Page(matched[start : start + limit], len(matched), start + limit < len(matched))

    def _next_of_all(self, after: int | None, limit: int) -> Page:
        rows = f"SELECT fid FROM {TABLE} WHERE fid > ? ORDER BY fid LIMIT ?"
        ids = self._ids(f"SELECT group_concat(fid) FROM ({rows})", (-1 if after is None else after, limit + 1))
        return Page(ids[:limit], self.count, len(ids) > limit)

    def matches(self, wanted: Filter) -> Ids:
        """The ids of every feature that matches, ascending."""
        if wanted.box is None:
            sql, values = _conditions(f"SELECT group_concat(t.fid) FROM {TABLE} t WHERE 1", wanted)
            return self._ids(sql, values)
        found = [np.empty(0, np.int64)]
        for part in wanted.box.parts:
            sure, near = self._touching(part, wanted)
            found += [sure, self._really(near, part.polygon)]
        ids = np.concatenate(found)
        return np.sort(ids) if len(wanted.box.parts) == 1 else np.unique(ids)  # unique is the slower

    def _touching(self, part: BoxPart, wanted: Filter) -> tuple[Ids, Ids]:
        """Ids of the features that surely touch the box, and of those whose envelope does; both ascending."""
        x0, y0, x1, y1 = part.outer
        table = f" JOIN {TABLE} t ON t.fid = r.id" if wanted.classes or wanted.min_area is not None else ""
        sure, bound = _inside(part.sides)
        sql, more = _conditions(
            f"SELECT group_concat(CASE WHEN {sure} THEN r.id ELSE -1 - r.id END) FROM {RTREE} r{table}"
            " WHERE r.maxx >= ? AND r.minx <= ? AND r.maxy >= ? AND r.miny <= ?",
            wanted,
        )
        found = self._ids(sql, (*bound, x0, x1, y0, y1, *more))
        first = int(np.searchsorted(found, 0))
        return found[first:], -1 - found[:first][::-1]

    def _ids(self, sql: str, values: Sequence[Any]) -> Ids:
        """Ids that a query has strung together, ascending: handing over a row each takes several times as long."""
        with self._connection() as db:
            found = db.execute(sql, values).fetchone()[0]
        return np.sort(np.fromstring(found or "", np.int64, sep=","))

    def _really(self, candidates: Ids, polygon: shapely.Geometry) -> Ids:
        """Those whose geometry, not only its box, touches `polygon`."""
        shapely.prepare(polygon)
        kept = [candidates[:0]]
        for start in range(0, len(candidates), BATCH):
            ids = candidates[start : start + BATCH]
            with self._connection() as db:
                rows = self._rows(db, ids, "fid, geom")
            hit = shapely.intersects(polygon, read_geometries([row[1] for row in rows]))
            kept.append(np.array([row[0] for row in rows], np.int64)[hit])
        return np.concatenate(kept)

    def _rows(self, db: sqlite3.Connection, ids: Ids, columns: str = _COLUMNS) -> list[tuple[Any, ...]]:
        return db.execute(f"SELECT {columns} {_BY_IDS.format(TABLE)}", (json.dumps(ids.tolist()),)).fetchall()

    # -- the features themselves ----------------------------------------------------------------------------------

    def shapes(self, ids: Ids) -> Shapes:
        """The polygons in the layer's CRS with what a map shows of them, in the order of `ids`."""
        with self._connection() as db:
            rows = self._rows(db, ids, "geom, fid, class_id, class_name, area_m2, confidence")
        columns = list(zip(*(row[1:] for row in rows), strict=True)) or [()] * 5
        return Shapes(read_geometries([row[0] for row in rows]), *columns)

    def geojson(self, ids: Ids, carrier: Carrier, clip: SearchBox | None = None) -> Iterator[bytes]:
        """The features as GeoJSON text, comma-separated, in batches; with `clip`, what lies in the box.

        Raises BadRequestError, before the first batch is made, where the layer cannot be shown in the carrier's CRS.
        """
        if self.has_texts and clip is None and carrier.target.uri == CRS84:
            return _joined(self._ready, ids)
        carrier.prepare()
        return _joined(lambda batch: ",".join(text for _, text in self.texts(batch, carrier, clip)), ids)

    def texts(self, ids: Ids, carrier: Carrier, clip: SearchBox | None = None) -> Iterator[tuple[int, str]]:
        """(id, GeoJSON text) of features, made from the GeoPackage; nothing for one that `clip` leaves nothing of."""
        with self._connection() as db:
            rows = self._rows(db, ids)
        geometries = read_geometries([row[1] for row in rows])
        if clip is not None:
            geometries = clip.cut(geometries)
        for row, geometry in zip(rows, carrier.to_geojson(geometries), strict=True):
            if geometry is not None:
                yield row[0], f'{{"type":"Feature","id":{row[0]},"geometry":{geometry},"properties":{row[2]}}}'

    def _ready(self, ids: Ids) -> str:
        """The texts that `geounet.service.features.texts` has put down, comma-separated."""
        with self._connection() as db:
            # Row by row: strung together by SQLite, large polygons could pass its limit of 1 GB a string.
            rows = db.execute(f"SELECT text {_BY_IDS.format('texts.features')}", (json.dumps(ids.tolist()),))
            return ",".join([row[0] for row in rows])

    def one(self, fid: int, carrier: Carrier) -> bytes:
        """One feature as GeoJSON text. Raises NotFoundError."""
        if not 0 <= fid < 2**63:
            raise NotFoundError(f"there is no feature '{fid}'")
        text = b"".join(self.geojson(np.array([fid], np.int64), carrier))
        if not text:
            raise NotFoundError(f"there is no feature '{fid}'")
        return text


def _conditions(sql: str, wanted: Filter) -> tuple[str, list[Any]]:
    """The query narrowed to classes and areas, and the values to bind for that."""
    values: list[Any] = []
    if wanted.classes:
        sql += f" AND t.class_id IN ({', '.join('?' * len(wanted.classes))})"
        values += wanted.classes
    if wanted.min_area is not None:
        sql += " AND t.area_m2 >= ?"
        values.append(wanted.min_area)
    return sql, values


def _inside(sides: Sequence[Side]) -> tuple[str, list[float]]:
    """The condition that an envelope lies on the good side of all `sides`, and what to bind."""
    terms = []
    for side in sides:
        x, y = "minx" if side.x >= 0 else "maxx", "miny" if side.y >= 0 else "maxy"  # the corner farthest out
        terms.append(f"? * r.{x} + ? * r.{y} >= ?")
    return " AND ".join(terms) or "0", [value for side in sides for value in (side.x, side.y, side.least)]


def _joined(make: Callable[[Ids], str], ids: Ids) -> Iterator[bytes]:
    """Batches of comma-separated texts, with a comma between the batches; what is empty leaves none."""
    first = True
    for start in range(0, len(ids), BATCH):
        text = make(ids[start : start + BATCH])
        if text:
            yield (text if first else "," + text).encode()
            first = False
