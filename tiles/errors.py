"""What can go wrong with pixels and geometry.

Every message says what is wrong, in which file, and what to do next.
"""


class TilesError(Exception):
    """Root of every error this package raises on purpose."""


class SceneError(TilesError):
    """A scene cannot be used: missing, damaged, not a GeoTIFF, without a usable georeference."""


class BandError(SceneError):
    """The scene's bands cannot be matched with the bands that were asked for."""


class GridError(TilesError):
    """Chip size or overlap make no sense."""


class SpoolError(TilesError):
    """Finished strips on disk cannot be read or do not belong to this work."""


class OutputError(TilesError):
    """A result cannot be written: the folder exists, is not writable, or the disk is full."""


class VectorError(TilesError):
    """Polygons cannot be made or written."""
