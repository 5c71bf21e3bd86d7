"""A pygeoapi provider over pyogrio, for `benchmarks/service.py`: reads a GeoPackage as pygeoapi's OGR provider does.

Count, offset and limit are OGR's; geometries are brought to longitude and latitude; features become dictionaries.
"""

import json
from typing import Any

import numpy as np
import pyogrio
import shapely
from pygeoapi.provider.base import BaseProvider, ProviderItemNotFoundError
from pyproj import Transformer

LAYER = "landcover"


class GpkgProvider(BaseProvider):  # type: ignore[misc]
    """Features of one GeoPackage layer."""

    def __init__(self, definition: dict[str, Any]) -> None:
        super().__init__(definition)
        info = pyogrio.read_info(self.data, layer=LAYER)
        self._count = info["features"]
        self._names = list(info["fields"])
        self._to_lonlat = Transformer.from_crs(info["crs"], "OGC:CRS84", always_xy=True)
        self.get_fields()

    def get_fields(self) -> dict[str, dict[str, str]]:
        self._fields = {name: {"type": "string"} for name in self._names}
        return self._fields

    def query(
        self, offset: int = 0, limit: int = 10, resulttype: str = "results", bbox: Any = (), **_: Any
    ) -> dict[str, Any]:
        box = None
        count = self._count
        if len(bbox):
            west, south, east, north = (float(v) for v in bbox)
            box = self._to_lonlat.transform_bounds(west, south, east, north, direction="INVERSE")
            count = len(
                pyogrio.raw.read(self.data, layer=LAYER, bbox=box, columns=[], read_geometry=False, return_fids=True)[1]
            )
        features = [] if resulttype == "hits" else self._read(bbox=box, skip_features=offset, max_features=limit)
        return {
            "type": "FeatureCollection", "features": features, "numberMatched": count, "numberReturned": len(features),
        }  # fmt: skip

    def get(self, identifier: str, **_: Any) -> dict[str, Any]:
        found = self._read(fids=[int(identifier)])
        if not found:
            raise ProviderItemNotFoundError(f"no {identifier}")
        return found[0]

    def _fids(self, box: tuple[float, ...]) -> Any:
        options = {"columns": [], "read_geometry": False, "return_fids": True}
        return pyogrio.raw.read(self.data, layer=LAYER, bbox=box, **options)[1]

    def _read(self, **options: Any) -> list[dict[str, Any]]:
        _, fids, wkb, columns = pyogrio.raw.read(self.data, layer=LAYER, return_fids=True, **options)
        geometries = shapely.from_wkb(wkb)
        xy = shapely.get_coordinates(geometries)
        lonlat = np.round(np.column_stack(self._to_lonlat.transform(xy[:, 0], xy[:, 1])), 7)
        texts = shapely.to_geojson(shapely.set_coordinates(geometries, lonlat))
        names = self._names
        rows = zip(*(c.tolist() for c in columns), strict=True)
        return [
            {"type": "Feature", "id": int(f), "geometry": json.loads(t), "properties": dict(zip(names, r, strict=True))}
            for f, t, r in zip(fids, texts, rows, strict=True)
        ]
