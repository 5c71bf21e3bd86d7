"""The features of a finished map as GeoJSON text, made once, so that a page of them is a look-up.

Bringing a thousand polygons to longitude and latitude and writing their numbers takes ten times as long as reading
them. The worker therefore keeps what a page in CRS 84 holds of each feature in a file beside the GeoPackage; what is
clipped or asked for in another CRS is made from the GeoPackage as ever.
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from geounet.service.errors import BadRequestError
from geounet.service.features.crs_uri import CRS84
from geounet.service.features.layer import BATCH, TEXTS_FILE, FeatureLayer, Filter
from tiles.durable import replacing


def write_feature_texts(folder: Path) -> None:
    """Write `TEXTS_FILE` into a map's folder, in one step; nothing where the map has no place in CRS 84.

    A table `features` of `fid` and `text`: what `FeatureLayer.geojson` gives for that feature.
    """
    layer = FeatureLayer(folder)
    (folder / TEXTS_FILE).unlink(missing_ok=True)
    with suppress(BadRequestError), closing(layer), replacing(folder / TEXTS_FILE) as part:
        _fill(part, layer)


def _fill(path: Path, layer: FeatureLayer) -> None:
    with closing(sqlite3.connect(path)) as db:
        _write_texts(db, layer)


def _write_texts(db: sqlite3.Connection, layer: FeatureLayer) -> None:
    carrier = layer.carrier(CRS84)
    db.execute("PRAGMA journal_mode = OFF")  # the file is nobody's until it is complete
    db.execute("PRAGMA synchronous = OFF")
    db.execute("CREATE TABLE features (fid INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    page = layer.page(Filter(), None, BATCH)
    while len(page.ids):
        db.executemany("INSERT INTO features VALUES (?, ?)", layer.texts(page.ids, carrier))
        page = layer.page(Filter(), int(page.ids[-1]), BATCH)
    db.commit()
