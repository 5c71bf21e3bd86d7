"""Vector files that people bring: one layer of shapes with a CRS, or a line that says what is wrong."""

from pathlib import Path
from typing import Any

from geounet.errors import StatisticsError


def read_layer(path: Path, what: str) -> Any:
    """The one layer with geometries of a file, as a GeoDataFrame; `what` says in errors what it should hold.

    Raises StatisticsError for a file that is none, holds several such layers or nothing, or has no CRS.
    """
    import pyogrio

    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) > 1:
            raise StatisticsError(f"{path} holds several layers ({', '.join(layers)}): give a file with one of them")
        frame = pyogrio.read_dataframe(path, layer=layers[0]) if layers else None
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise StatisticsError(f"{path} cannot be read as {what}: {error}; give a GeoPackage or GeoJSON") from error
    if frame is None or frame.empty:
        raise StatisticsError(f"{path} holds no {what}")
    if frame.crs is None:
        raise StatisticsError(f"{path} has no CRS: set it first, for example with `ogr2ogr -a_srs EPSG:25832`")
    return frame
