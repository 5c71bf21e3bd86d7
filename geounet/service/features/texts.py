"""The features of a finished map as GeoJSON text, made once, so that a page of them is a look-up.

Bringing a thousand polygons to longitude and latitude and writing their numbers takes ten times as long as reading
them. The worker therefore keeps what a page in CRS 84 holds of each feature in a file beside the GeoPackage; what is
clipped or asked for in another CRS is made from the GeoPackage as ever.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from geounet.service.errors import BadRequestError
from geounet.service.features.crs_uri import CRS84
from geounet.service.features.layer import BATCH, TEXTS_FILE, FeatureLayer, Filter, MatchCache


def write_feature_texts(folder: Path) -> None:
    """Write `TEXTS_FILE` into a map's folder, in one step; nothing where the map has no place in CRS 84.

    A table `features` of `fid` and `text`: what `FeatureLayer.geojson` gives for that feature.
    """
    layer = FeatureLayer(folder)
    unfinished = folder / f".{TEXTS_FILE}.part"
    unfinished.unlink(missing_ok=True)
    (folder / TEXTS_FILE).unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(unfinished)) as db, closing(layer):
            _fill(db, layer)
    except BadRequestError:
        unfinished.unlink(missing_ok=True)
        return
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(folder / TEXTS_FILE)


def _fill(db: sqlite3.Connection, layer: FeatureLayer) -> None:
    carrier = layer.carrier(CRS84)
    db.execute("PRAGMA journal_mode = OFF")  # the file is nobody's until it is complete
    db.execute("PRAGMA synchronous = OFF")
    db.execute("CREATE TABLE features (fid INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    unused = MatchCache()
    page = layer.page(Filter(), None, BATCH, unused)
    while len(page.ids):
        db.executemany("INSERT INTO features VALUES (?, ?)", layer.texts(page.ids, carrier))
        page = layer.page(Filter(), int(page.ids[-1]), BATCH, unused)
    db.commit()
