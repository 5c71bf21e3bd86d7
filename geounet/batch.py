"""Many scenes, one after another."""

import csv
import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from geounet.bundle import ModelBundle
from geounet.errors import GeounetError
from geounet.pipeline import EngineShelf, Options, map_scene
from geounet.screen import Screen
from tiles.errors import OutputError, SceneError, TilesError

_SUFFIXES = (".tif", ".tiff", ".gtiff")


@dataclass(frozen=True)
class SceneResult:
    """How one scene of a batch ended: `done`, `already there` or `failed`."""

    scene: str
    status: str
    seconds: float
    folder: Path | None = None
    error: str = ""
    areas: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """There is a map."""
        return self.status != "failed"

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "scene": self.scene,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "map": str(self.folder) if self.folder else None,
            "error": self.error or None,
            "area_m2": self.areas,
        }


def run_batch(
    arguments: Sequence[str],
    out: Path,
    bundle: ModelBundle,
    options: Options,
    *,
    overwrite: bool = False,
    restart: bool = False,
    screen: Screen,
) -> list[SceneResult]:
    """Map every scene that the arguments name into a folder of its own under `out`, with one warm engine.

    A scene that cannot be mapped is reported and the next one begins. Writes `out/batch.csv`.
    Raises SceneError where the arguments name no scene, or two that would share a folder.
    """
    scenes = find_scenes(arguments)
    folders = _folders(scenes, out)
    shelf = EngineShelf()
    results = []
    for index, scene in enumerate(scenes):
        with screen.progress(f"[{index + 1}/{len(scenes)}] {Path(scene).name}") as on_progress:
            began = monotonic()
            try:
                found = map_scene(
                    scene,
                    bundle,
                    folders[index],
                    options,
                    overwrite=overwrite,
                    restart=restart,
                    on_progress=on_progress,
                    engines=shelf,
                )
            except (TilesError, GeounetError) as error:
                results.append(SceneResult(scene, "failed", monotonic() - began, error=str(error)))
            else:
                areas = {c["name"]: c["area_m2"] for c in found.summary["classes"]}
                status = "done" if found.fresh else "already there"
                results.append(SceneResult(scene, status, monotonic() - began, folders[index], areas=areas))
    _write_csv(out / "batch.csv", results, bundle)
    return results


def find_scenes(arguments: Sequence[str]) -> list[str]:
    """Files, folders (their GeoTIFFs, not deeper), glob patterns and `@LIST` files, in order, each scene once.

    Raises SceneError where an argument names nothing.
    """
    scenes: dict[str, None] = {}
    for argument in arguments:
        found = _expand(argument)
        if not found:
            raise SceneError(f"{argument}: no GeoTIFF there")
        scenes.update(dict.fromkeys(found))
    return list(scenes)


def _expand(argument: str) -> list[str]:
    if argument.startswith("@"):
        try:
            lines = Path(argument[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SceneError(f"{argument[1:]}: the list of scenes cannot be read: {error}") from error
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    path = Path(argument)
    if path.is_dir():
        return sorted(str(p) for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
    if any(mark in argument for mark in "*?[") and not path.exists():
        return sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  # patterns may be absolute
    return [argument]


def _folders(scenes: Sequence[str], out: Path) -> list[Path]:
    """One folder a scene, named like the scene. Raises SceneError where two scenes share a name."""
    seen: dict[str, str] = {}
    for scene in scenes:
        stem = Path(scene).stem
        if stem in seen:
            raise SceneError(f"{scene} and {seen[stem]} would share the folder {out / stem}: map them into two batches")
        seen[stem] = scene
    return [out / stem for stem in seen]


def _write_csv(path: Path, results: Sequence[SceneResult], bundle: ModelBundle) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["scene", "status", "seconds", "map", "error", *(f"{n}_m2" for n in bundle.legend.names)])
            for r in results:
                areas = [r.areas.get(name, "") for name in bundle.legend.names]
                writer.writerow([r.scene, r.status, f"{r.seconds:.1f}", r.folder or "", r.error, *areas])
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
