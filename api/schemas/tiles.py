"""Tile sets as OGC API - Tiles and TileJSON 3.0 describe them."""

from typing import Literal

from pydantic import BaseModel

from api.schemas.common import Link


class TilesetItem(BaseModel):
    """A tile set in a list."""

    title: str
    dataType: Literal["vector"]  # noqa: N815 - the standard's spelling
    crs: str
    links: list[Link]


class Tilesets(BaseModel):
    """The tile sets of one map's polygons."""

    tilesets: list[TilesetItem]
    links: list[Link]


class TileLimits(BaseModel):
    """Which tiles of one zoom have something in them."""

    tileMatrix: str  # noqa: N815
    minTileRow: int  # noqa: N815
    maxTileRow: int  # noqa: N815
    minTileCol: int  # noqa: N815
    maxTileCol: int  # noqa: N815


class Tileset(TilesetItem):
    """A tile set."""

    tileMatrixSetURI: str  # noqa: N815
    tileMatrixSetLimits: list[TileLimits]  # noqa: N815


class VectorLayer(BaseModel):
    """What the features of a layer hold."""

    id: str
    fields: dict[str, str]
    description: str
    minzoom: int
    maxzoom: int


class VectorTileJson(BaseModel):
    """TileJSON 3.0.0 of vector tiles; `detailzoom` is the first zoom that shows single polygons."""

    tilejson: str = "3.0.0"
    name: str
    tiles: list[str]
    bounds: list[float]
    minzoom: int
    maxzoom: int
    detailzoom: int
    scheme: str = "xyz"
    vector_layers: list[VectorLayer]
