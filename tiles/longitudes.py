"""Longitudes on both sides of the antimeridian: a place has one between -180 and 180, an extent may run across.

An extent across the antimeridian has its west end east of its east end (RFC 7946, section 5.2; so do OGC API and STAC).
"""


def turned(lon: float) -> float:
    """The same meridian between -180 and 180; what lies there already stays as it is."""
    return lon if -180.0 <= lon <= 180.0 else (lon + 180.0) % 360.0 - 180.0


def turned_extent(west: float, east: float) -> tuple[float, float]:
    """(west, east) of an extent that may run past 180 or -180 degrees; the whole world where it goes around."""
    wide = east - west if west <= east else east - west + 360.0
    if wide >= 360.0:
        return -180.0, 180.0
    if -180.0 <= west <= 180.0 and -180.0 <= east <= 180.0:
        return west, east
    west = turned(west)
    if west == 180.0:
        west = -180.0
    east = west + wide
    return west, east if east <= 180.0 else east - 360.0


def halves(west: float, east: float) -> list[tuple[float, float]]:
    """An extent as one that does not cross the antimeridian, or as the two on its sides."""
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]


def nearest_turn(lon: float, centre: float) -> float:
    """The same meridian within 180 degrees of `centre`, which may lie anywhere."""
    return centre + (lon - centre + 180.0) % 360.0 - 180.0
