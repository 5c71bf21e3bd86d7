"""The ordered land classes of a map: value, name, colour."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tiles.errors import TilesError

NODATA = 255
"""Value of every pixel without a class, in class and confidence rasters alike."""


class LegendError(TilesError):
    """A legend contradicts itself."""


@dataclass(frozen=True)
class LandClass:
    """One land class: raster value (0-254 in our own maps), a name, a colour (red, green, blue; 0-255)."""

    value: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Legend:
    """Ordered land classes; the network's channel `i` scores `classes[i]`."""

    classes: tuple[LandClass, ...]

    def __post_init__(self) -> None:
        values = [c.value for c in self.classes]
        names = [c.name for c in self.classes]
        if not values:
            raise LegendError("a legend needs at least one class")
        if len(set(values)) != len(values) or len(set(names)) != len(names):
            raise LegendError(f"class values and names must be unique: {values}, {names}")
        if not all(0 <= part <= 255 for c in self.classes for part in c.color):
            raise LegendError("colours are red, green, blue between 0 and 255")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in channel order."""
        return tuple(c.name for c in self.classes)

    @property
    def values(self) -> npt.NDArray[np.uint8]:
        """Raster values in channel order, shape (classes,); of a map's legend, whose values are bytes."""
        return np.array([c.value for c in self.classes], dtype=np.uint8)

    def name_of(self, value: int) -> str:
        """Name of a raster value; `class N` where the legend has none."""
        return next((c.name for c in self.classes if c.value == value), f"class {value}")

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """GDAL colour table: value -> (red, green, blue, alpha), nodata transparent."""
        table = {c.value: (*c.color, 255) for c in self.classes}
        table[NODATA] = (0, 0, 0, 0)
        return table

    def as_records(self) -> list[dict[str, Any]]:
        """The classes as plain dictionaries, ready for JSON."""
        return [{"value": c.value, "name": c.name, "color": list(c.color)} for c in self.classes]

    def to_json(self) -> str:
        """JSON text as kept in the class raster's tag."""
        return json.dumps(self.as_records(), ensure_ascii=False)

    @classmethod
    def from_records(cls, records: Iterable[dict[str, Any]]) -> "Legend":
        """Inverse of `as_records`. Raises LegendError where a record is malformed."""
        try:
            return cls(
                tuple(
                    LandClass(
                        int(r["value"]),
                        str(r["name"]),
                        (int(r["color"][0]), int(r["color"][1]), int(r["color"][2])),
                    )
                    for r in records
                )
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LegendError(f"malformed legend record: {error}") from error
