"""Many scenes, one after another, in a process of their own: a scene that kills it costs that scene only."""

import csv
import glob
import signal
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from geounet.errors import GeounetError
from geounet.mapping.engine_shelf import EngineShelf
from geounet.mapping.pipeline import map_scene
from geounet.mapping.progress import OnProgress, Progress
from geounet.model.bundle import ModelBundle
from geounet.options import Options
from tiles.durable import replacing
from tiles.errors import OutputError, SceneError, TilesError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

_SUFFIXES = (".tif", ".tiff", ".gtiff")
_TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
"""Names of files pass through as they are, whether they are UTF-8 or not."""


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
    scenes: Sequence[str],
    out: Path,
    bundle: ModelBundle,
    options: Options,
    *,
    overwrite: bool = False,
    restart: bool = False,
    on_begin: Callable[[str], OnProgress] = lambda _: _quiet,
    on_end: Callable[[SceneResult], None] = lambda _: None,
) -> list[SceneResult]:
    """Map every scene (`find_scenes`) into a folder of its own under `out`, with one warm engine.

    A scene that cannot be mapped is reported and the next one begins. `out/batch.csv` grows scene by scene.
    `on_begin` is told each scene's name and gives what is to be called with its progress; `on_end` is told how it
    ended. Raises SceneError where two scenes would share a folder.
    """
    folders = _folders(scenes, out)
    results: list[SceneResult] = []
    with _Child(bundle, options, overwrite, restart) as child:
        for scene, folder in zip(scenes, folders, strict=True):
            results.append(child.map(scene, folder, on_begin(Path(scene).name)))
            on_end(results[-1])
            _write_csv(out / "batch.csv", results, bundle)  # an interrupted batch tells what it did, too
    return results


def _quiet(_: Progress) -> None:
    """Nobody watches."""


class _Child:
    """A process that maps scenes with one warm engine; a new one is started after a scene that killed it."""

    def __init__(self, bundle: ModelBundle, options: Options, overwrite: bool, restart: bool) -> None:
        self._work = (bundle, options, overwrite, restart)
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def map(self, scene: str, folder: Path, on_progress: OnProgress) -> SceneResult:
        """Map one scene; whatever happens to the process is told in the result."""
        began = monotonic()
        try:
            connection = self._ready()
            connection.send((scene, folder))
            while isinstance(message := connection.recv(), Progress):
                on_progress(message)
        except (EOFError, ConnectionError, OSError):
            return SceneResult(scene, "failed", monotonic() - began, error=self._obituary())
        assert isinstance(message, SceneResult)
        return replace(message, seconds=monotonic() - began)

    def _ready(self) -> "Connection":
        if self._connection is None:
            context = get_context("spawn")  # forking a process that has threads of GDAL and torch is asking for trouble
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, *self._work), daemon=True)
            self._process.start()
            theirs.close()
        return self._connection

    def _obituary(self) -> str:
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode or 0
        self.close()
        if code == -signal.SIGKILL:
            return "the process was killed, most likely for want of memory: try --max-memory or a smaller --chip-size"
        return f"the process ended unexpectedly (exit code {code})"

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join()
        self._connection = self._process = None

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _serve(connection: "Connection", bundle: ModelBundle, options: Options, overwrite: bool, restart: bool) -> None:
    """The child: map what is sent until the other end closes."""
    shelf = EngineShelf()
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            scene, folder = connection.recv()
            connection.send(_mapped(scene, folder, bundle, options, overwrite, restart, shelf, connection.send))


def _mapped(
    scene: str,
    folder: Path,
    bundle: ModelBundle,
    options: Options,
    overwrite: bool,
    restart: bool,
    shelf: EngineShelf,
    on_progress: OnProgress,
) -> SceneResult:
    try:
        found = map_scene(
            scene,
            bundle,
            folder,
            options,
            overwrite=overwrite,
            restart=restart,
            on_progress=on_progress,
            engines=shelf,
        )
    except (TilesError, GeounetError) as error:
        return SceneResult(scene, "failed", 0.0, error=str(error))
    except MemoryError:
        return SceneResult(scene, "failed", 0.0, error="not enough memory: try --max-memory or a smaller --chip-size")
    areas = {c["name"]: c["area_m2"] for c in found.summary["classes"]}
    return SceneResult(scene, "done" if found.fresh else "already there", 0.0, folder, areas=areas)


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
            lines = Path(argument[1:]).read_text(**_TEXT).splitlines()
        except OSError as error:
            raise SceneError(f"{argument[1:]}: the list of scenes cannot be read: {error}") from error
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    path = Path(argument)
    if path.is_dir():
        return sorted(str(p) for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
    if any(mark in argument for mark in "*?[") and not path.exists():
        return sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  # patterns may be absolute
    return [argument]


def plain_stem(scene: str) -> str:
    """A scene's name without its ending, fit to name a folder: control characters become `_`."""
    return "".join("_" if unicodedata.category(c) == "Cc" else c for c in Path(scene).stem)


def _folders(scenes: Sequence[str], out: Path) -> list[Path]:
    """One folder a scene, named like the scene. Raises SceneError where two scenes share a name."""
    seen: dict[str, str] = {}
    for scene in scenes:
        stem = plain_stem(scene)
        if stem in seen:
            raise SceneError(f"{scene} and {seen[stem]} would share the folder {out / stem}: map them into two batches")
        seen[stem] = scene
    return [out / stem for stem in seen]


def _write_csv(path: Path, results: Sequence[SceneResult], bundle: ModelBundle) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("w", newline="", **_TEXT) as file:
            writer = csv.writer(file)
            writer.writerow(["scene", "status", "seconds", "map", "error", *(f"{n}_m2" for n in bundle.legend.names)])
            for r in results:
                areas = [r.areas.get(name, "") for name in bundle.legend.names]
                writer.writerow([r.scene, r.status, f"{r.seconds:.1f}", r.folder or "", r.error, *areas])
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
