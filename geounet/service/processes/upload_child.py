"""The process that opens an upload, for the first and the last time: one request on standard input.

It fences itself, opens the file with the GTiff driver only, and decodes it into files of our own (`tiles.ingest`). Its
fit for a model is judged by those, then or later. `geounet.service.processes.upload_check` starts it, and outlives
whatever happens in here.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geounet.service.processes.sandbox.decoders import load_decoders, register_vrt
from geounet.service.processes.sandbox.kernel import Fence, enter
from geounet.service.processes.sandbox.limits import die_with_parent, fence
from tiles.longitudes import turned_extent

if TYPE_CHECKING:
    from tiles.scene.scene import Scene


def take(path: str, clean: str, name: str, fit: Mapping[str, Any] | None) -> dict[str, Any]:
    """Decode `path` into the folder `clean`: what the file is (`facts`), if a model can use it as asked (`fit`).

    Else why it is `refused`, or that the disk is `full`.
    """
    from tiles.errors import OutputError, TilesError
    from tiles.ingest import ingest

    try:
        facts = _facts(path)
        ingest(Path(path), Path(clean))
    except OutputError as error:
        return {"full": _told(error, path, name)}
    except TilesError as error:
        return {"refused": _told(error, path, name)}
    register_vrt()  # no stranger's file is open any more; ground control points are warped through one of ours
    return {"facts": facts, **({} if fit is None else {"fit": _fit(clean, name, fit)})}


def _facts(path: str) -> dict[str, Any]:
    import rasterio

    from tiles.errors import SceneError
    from tiles.scene.source import gdal_environment, open_dataset

    with gdal_environment(path), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), open_dataset(path) as dataset:
        t = dataset.transform
        terms = (t.a, t.b, t.c, t.d, t.e, t.f)
        if not all(math.isfinite(v) for v in terms) or t.a * t.e == t.b * t.d:
            raise SceneError(
                f"{path} has a transform that leads nowhere ({', '.join(f'{v:g}' for v in terms)}): georeference it "
                "again"
            )
        gcps, _ = dataset.gcps
        placed = dataset.crs is not None or gcps
        if t.is_identity and placed and len(gcps) < 3 and dataset.rpcs is None:
            raise SceneError(f"{path} names a CRS but no grid in it (no transform, or one of zeros): georeference it")
        return {
            "columns": dataset.width,
            "rows": dataset.height,
            "dtype": dataset.dtypes[0],
            "bands": [
                {
                    "number": n,
                    "description": dataset.descriptions[n - 1],
                    "color": dataset.colorinterp[n - 1].name,
                    "nodata": _finite(dataset.nodatavals[n - 1]),
                }
                for n in dataset.indexes
            ],
            "crs": dataset.crs.to_string() if dataset.crs else None,
            "transform": list(terms),
            "ground_control_points": len(gcps),
            "bounds": _bounds(dataset),
            "gsd_m": _gsd(dataset),
            "block": list(dataset.block_shapes[0]),
            "compression": dataset.compression.value.lower() if dataset.compression else "none",
            "overviews": dataset.overviews(1),
        }


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _bounds(dataset: Any) -> list[float] | None:
    """[west, south, east, north] in degrees, west > east across the antimeridian; None without a CRS."""
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    if dataset.crs is None:
        return None
    try:
        bounds = transform_bounds(dataset.crs, "OGC:CRS84", *dataset.bounds)
    except (RasterioError, ValueError):
        return None
    if not all(math.isfinite(v) for v in bounds):
        return None
    west, east = turned_extent(bounds[0], bounds[2])
    return [round(v, 7) for v in (west, bounds[1], east, bounds[3])]


def _gsd(dataset: Any) -> float | None:
    from pyproj.exceptions import ProjError

    from tiles.georef import Georef

    if dataset.crs is None:
        return None
    try:
        gsd = Georef(dataset.crs, dataset.transform, (dataset.height, dataset.width)).gsd
    except (ProjError, ValueError):
        return None
    return round(gsd, 6) if math.isfinite(gsd) else None


def _fit(path: str, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The pre-flight that `geounet info` shows, refusals among its lines; a sample of the pixels is read for it."""
    from geounet.mapping.preflight import inspect_scene
    from geounet.model.bundle import ModelBundle
    from geounet.options import Options
    from tiles.errors import TilesError

    options, area = Options.from_record(wanted["options"]), wanted["options"].get("area")
    if area is not None:
        from tiles.scene.crop import check_area

        try:
            check_area(Path(path), area, options.assume_crs)
        except TilesError as error:
            return {"fits": False, "field": "options.area", "why": _told(error, path, name), "checks": []}
    grid: dict[str, int] = {}

    def note_grid(scene: "Scene") -> None:
        grid.update(rows=scene.georef.shape[0], columns=scene.georef.shape[1])

    try:
        found = inspect_scene(path, ModelBundle.load(wanted["bundle"]), options, note_grid)
    except TilesError as error:
        return {"fits": False, "field": "scene", "why": _told(error, path, name), "checks": []}
    checks = [{key: _plain(text, path, name) for key, text in row.as_record().items()} for row in found.rows]
    stopping = [c for c in checks if c["status"] == "refused"]
    told: dict[str, Any] = {
        "fits": not stopping,
        "map": grid or None,
        "validity": found.source.validity,
        "stretch": found.stretch.as_record() if found.stretch else None,
        "checks": checks,
        "suited_models": _suited(found.source.gsd, wanted["reach"]),
    }
    if stopping:
        why = f"{name}: " + "; ".join(text for text in (stopping[0]["text"], stopping[0]["remedy"]) if text)
        told |= {"field": "options.bands" if stopping[0]["topic"] == "bands" else "scene", "why": why}
    return told


def _suited(gsd: float, reach: Mapping[str, Sequence[float]]) -> list[str]:
    """Names of the models whose resolutions (finest and coarsest, in metres) the scene's lies in or is finer than."""
    from tiles.scene.scene import GSD_TOLERANCE

    return [name for name, (_, coarsest) in reach.items() if gsd <= coarsest * GSD_TOLERANCE]


def _told(error: Exception, path: str, name: str) -> str:
    """The error for the client: its own file name in place of ours, the HTTP options in place of the command's."""
    return _plain(str(error), path, name)


def _plain(text: str, path: str, name: str) -> str:
    from geounet.service.processes.map_task import in_json_words

    return in_json_words(text).replace(path, name)


def _address_space() -> int:
    """Bytes of this process's address space; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def main() -> None:
    """Load what opens scenes, read one request, answer it behind the fence, leave."""
    die_with_parent()
    load_decoders(("GTiff", "MEM"))
    import_module("tiles.ingest")
    line = sys.stdin.readline()
    if not line:  # nobody needs this process any more
        return
    request = json.loads(line)
    if _address_space() > request["memory"]:
        raise MemoryError("the limit is below what the decoders alone take")
    if not request["path"]:
        register_vrt()
    used = time.process_time()
    fence(memory=request["memory"], cpu_seconds=request["seconds"] + used, file_bytes=request["file_bytes"])
    enter(Fence(**request["fence"]))
    if request["path"]:
        answer = take(request["path"], request["clean"], request["name"], request["fit"])
    else:
        answer = {"fit": _fit(request["clean"], request["name"], request["fit"])}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
