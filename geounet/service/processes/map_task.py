"""What a worker tells its mapping process: one map to make, and how its owner is to be told what went wrong."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from geounet.options import Options, described


@dataclass(frozen=True)
class MapTask:
    """One map: `scene`, `model` and `out` are paths; `name` is what the scene's owner calls it.

    `options` are those of the job: what a client chose of `geounet.options.Options`, and `area`. `engine`, `device`
    and `max_polygons` are the operator's.
    """

    scene: str
    name: str
    model: str
    out: str
    options: Mapping[str, Any]
    max_polygons: int
    engine: str = "auto"
    device: str = "auto"

    def to_record(self) -> dict[str, Any]:
        """For the pipe: plain JSON."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `to_record`."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})

    @property
    def folder(self) -> Path:
        """Where the map is made; nothing else is written."""
        return Path(self.out).parent

    @property
    def area(self) -> Mapping[str, Any] | None:
        """The GeoJSON geometry that is to be mapped; None for the whole scene."""
        return self.options.get("area")

    @property
    def cropped(self) -> Path:
        """Where the part of the scene that is to be mapped goes."""
        return self.folder / "area.tif"

    def map_options(self) -> Options:
        """The options of the map; the GeoPackage is always made, the service reads it. Raises OptionError."""
        formats = tuple(dict.fromkeys(("gpkg", *(self.options.get("formats") or ("geojson",)))))
        operators = {"engine": self.engine, "device": self.device, "max_polygons": self.max_polygons}
        return Options.from_record({**self.options, "formats": formats, **operators})

    def for_owner(self, text: str) -> str:
        """A message without the paths of this machine, in the words of the HTTP interface."""
        for path in (self.scene, str(self.cropped)):
            text = text.replace(path, self.name)
        text = text.replace(str(self.folder), "the job's folder")
        # The disk is the service's: its clients can make room in it, and choose no other.
        text = text.replace("make room or choose another -o", "delete scenes or maps, or map a smaller area")
        text = text.replace("Make room and give the same command to go on", "Delete scenes or maps and try again")
        return in_json_words(text)


def in_json_words(text: str) -> str:
    """A message that names the command line's flags, with the names of the HTTP interface in their place."""
    for name, option in described().items():
        if option.about.service:
            text = text.replace(option.flag, f"the option {name}")
    return text
