"""Coordinate reference systems as OGC API names them, with the axis order that their authority gives."""

from dataclasses import dataclass
from functools import lru_cache

from pyproj import CRS
from pyproj.exceptions import CRSError

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
_EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
EVERYWHERE = (CRS84, f"{_EPSG}4326", f"{_EPSG}3857")
"""What every collection can be asked in, beside its own CRS."""


@dataclass(frozen=True)
class NamedCrs:
    """A CRS under its URI. With `swapped`, the authority puts latitude or northing first."""

    uri: str
    crs: CRS
    swapped: bool

    @property
    def decimals(self) -> int:
        """Digits that keep a centimetre in degrees, a millimetre in metres."""
        return 7 if self.crs.is_geographic else 3


@lru_cache(maxsize=64)
def named(uri: str) -> NamedCrs:
    """The CRS of a URI that `uris_of` has listed."""
    if uri == CRS84:
        return NamedCrs(uri, CRS.from_user_input("OGC:CRS84"), swapped=False)
    crs = CRS.from_epsg(int(uri.removeprefix(_EPSG)))
    first = crs.axis_info[0].direction.lower() if crs.axis_info else "east"
    return NamedCrs(uri, crs, swapped=first in ("north", "south"))


def uri_of(crs: CRS) -> str | None:
    """The EPSG URI of a CRS, None for one that has no number there."""
    try:
        number = crs.to_epsg()
    except CRSError:
        return None
    return f"{_EPSG}{number}" if number else None


def uris_of(crs: CRS) -> tuple[str, ...]:
    """Every URI that a layer in `crs` can be asked in; the default first."""
    own = uri_of(crs)
    return tuple(dict.fromkeys((*EVERYWHERE, own))) if own else EVERYWHERE
