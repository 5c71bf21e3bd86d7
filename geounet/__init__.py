"""Land-cover maps from satellite and aerial images. What is named here is the stable API: docs/python.md."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geounet.errors import GeounetError as GeounetError
from tiles.errors import TilesError as TilesError

if TYPE_CHECKING:
    from geounet.correction.correct import correct_map as correct_map
    from geounet.mapping.pipeline import map_scene as map_scene
    from geounet.model.bundle import ModelBundle as ModelBundle
    from geounet.options import Options as Options
    from geounet.outputs.land_cover_map import LandCoverMap as LandCoverMap

__version__ = "0.2.0"

_LAZY = {
    "LandCoverMap": "geounet.outputs.land_cover_map",
    "ModelBundle": "geounet.model.bundle",
    "Options": "geounet.options",
    "correct_map": "geounet.correction.correct",
    "map_scene": "geounet.mapping.pipeline",
}
"""Imported when they are first asked for, so that `import geounet` stays light."""

__all__ = [
    "GeounetError",
    "LandCoverMap",
    "ModelBundle",
    "Options",
    "TilesError",
    "__version__",
    "correct_map",
    "map_scene",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'geounet' has no attribute '{name}'")
    found = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
