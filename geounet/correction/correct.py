"""Correct a map: corrections become an adapter of its model, and the scene is mapped again with it."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geounet.correction.adapt import Checked, Start, adapted, blocks_of
from geounet.correction.card import adapter_card, adapter_readme
from geounet.correction.features import PixelFeatures, features_at
from geounet.correction.fit import Fitted, Samples
from geounet.correction.origin import MapOrigin
from geounet.correction.pixels import CorrectedPixels, pixels_of
from geounet.correction.read import Corrections, from_geojson, merged, read_corrections
from geounet.correction.report import Told, contradicted, table
from geounet.correction.write import as_geojson, write_corrections
from geounet.engines.adapters.stage_runner import open_stage_runner
from geounet.errors import CorrectionError
from geounet.mapping.engine_shelf import EngineShelf
from geounet.mapping.pipeline import map_scene
from geounet.mapping.planner import planned
from geounet.mapping.preflight import preflight
from geounet.mapping.progress import OnProgress
from geounet.model.adapters.file import read_adapter
from geounet.model.bundle import ModelBundle, models_folder, save_adapter
from geounet.options import Options
from geounet.outputs.files import CLASSES, CORRECTION, CORRECTIONS, MODEL
from geounet.outputs.land_cover_map import LandCoverMap
from tiles.georef import Georef
from tiles.legend import Legend
from tiles.scene.scene import Scene


@dataclass(frozen=True)
class Wishes:
    """What is asked of an adapter beside its corrections: classes to merge (`from: into`) and to drop, and the folders
    of other corrected maps whose corrections it shall know too.
    """

    merge: Mapping[str, str] | None = None
    drop: Sequence[str] = ()
    pooled: Sequence[Path] = ()


@dataclass(frozen=True)
class CorrectedMap:
    """A map made with corrections; `told` says what they changed, `map` is None where it was only checked."""

    told: Told
    map: LandCoverMap | None
    model: Path | None = None


def correct_map(
    map_folder: str | Path,
    corrections: str | Path | Mapping[str, Any],
    out: str | Path | None,
    *,
    scene: str | Path | None = None,
    model: str | None = None,
    attribute: str = "class",
    save_model: str | None = None,
    wishes: Wishes = Wishes(),
    overwrite: bool = False,
    restart: bool = False,
    on_progress: OnProgress | None = None,
    engines: EngineShelf | None = None,
) -> CorrectedMap:
    """Make a better map in the folder `out` from the one in `map_folder` and `corrections` of it.

    `corrections` is a vector file (points, lines, polygons; `attribute` holds the class) or a GeoJSON
    FeatureCollection in longitude and latitude. Without `out` nothing is mapped: the answer says what would change.
    `scene` and `model` are needed where they have moved. `save_model` keeps the adapter: a name among the added
    models, or a folder. Without corrections the map is made again as it is, byte for byte.

    Raises CorrectionError, in one line and before any work, where the corrections cannot be used, and what `map_scene`
    raises.
    """
    origin = MapOrigin.of(Path(map_folder))
    bundle = origin.bundle(model)
    kept = _model_place(save_model)
    with origin.open(bundle, scene) as opened:
        given = _read(corrections, opened.georef, bundle.legend, attribute)
        if not len(given) and not wishes.merge and not wishes.drop:
            found = _again(origin, opened, bundle, out, overwrite, restart, on_progress, engines)
            return CorrectedMap(table(origin.summary, found, given, None, [], None, bundle.legend), found)
        if not len(given):
            raise CorrectionError("classes are merged or dropped together with corrections: give some")
        work = _Work.of(origin, opened, bundle, given, wishes)
        fitted, checked = work.fit()
        if out is None:
            return CorrectedMap(table(origin.summary, None, work.corrections, checked, [], fitted, work.legend), None)
        near = Path(out).absolute().parent
        near.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".geounet-adapter-", dir=near) as folder:
            adapter = work.save(Path(folder) / "model", fitted, checked, kept.name if kept else None)
            beside = _Beside(work, origin, adapter, fitted, checked)
            found = map_scene(
                opened.path,
                adapter,
                Path(out),
                origin.options,
                overwrite=overwrite,
                restart=restart,
                on_progress=on_progress,
                engines=engines,
                beside=beside,
            )
            told = beside.told or Told.read(found.folder / CORRECTION)
            if kept is not None:
                _keep(Path(folder) / "model", kept)
            return CorrectedMap(told, found, kept)


@dataclass
class _Work:
    """Everything that the fit needs, checked."""

    scene: Scene
    bundle: ModelBundle
    corrections: Corrections
    legend: Legend
    start: Start
    pixels: CorrectedPixels
    samples: Samples
    seen: PixelFeatures
    blocks: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.int64]

    @classmethod
    def of(cls, origin: MapOrigin, scene: Scene, bundle: ModelBundle, given: Corrections, wishes: Wishes) -> "_Work":
        _refuse_network(bundle)
        earlier = _earlier(origin.folder, scene.georef, given.legend)
        others = [_Other.open(folder, bundle, given.legend) for folder in wishes.pooled]
        every = _together(given, earlier)
        pixels = pixels_of(every, scene)
        _refuse_one_class(every, others)
        legend, start = _start(bundle, given.legend, wishes)
        rename = {name: legend.names.index(wishes_name(name, wishes)) for name in _known(given.legend, legend, wishes)}
        _refuse_dropped(every, rename)
        seen = _features(scene, bundle, origin.options, pixels)
        samples = [_samples(every, pixels, seen, start, rename, 0)]
        blocks = [blocks_of(pixels.rows, pixels.cols)]
        for number, other in enumerate(others, 1):
            part, block = other.samples(bundle, start, rename, number)
            samples.append(part)
            blocks.append(block)
        wanted = np.array([rename[every.legend.names[int(i)]] for i in every.target], dtype=np.int64)
        joined = _joined(samples)
        return cls(scene, bundle, every, legend, start, pixels, joined, seen, np.concatenate(blocks), wanted)

    def fit(self) -> tuple[Fitted, Checked]:
        """The adapter, and how good it is on corrections that it did not see."""
        return adapted(self.samples, self.seen.background, self.blocks)

    def save(self, folder: Path, fitted: Fitted, checked: Checked, name: str | None) -> ModelBundle:
        """The adapter as a bundle."""
        card = adapter_card(self.bundle, self.legend, self.start, fitted, checked, self.corrections, self.scene, name)
        weight, bias = self.start.added(fitted)
        saved = save_adapter(folder, card, weight, bias, adapter_readme(card))
        told = json.dumps(as_geojson(self.corrections, self.scene.georef), ensure_ascii=False)
        (folder / "corrections.geojson").write_text(told + "\n", encoding="utf-8")
        return saved


@dataclass
class _Beside:
    """Puts what belongs to the correction into the new map's folder before it appears."""

    work: _Work
    origin: MapOrigin
    adapter: ModelBundle
    fitted: Fitted
    checked: Checked
    told: Told | None = None

    def __call__(self, folder: Path) -> None:
        """See the class."""
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        work, after = self.work, LandCoverMap(folder, summary)
        against = contradicted(folder / CLASSES, work.pixels, work.wanted, work.legend)
        self.told = table(self.origin.summary, after, work.corrections, self.checked, against, self.fitted, work.legend)
        write_corrections(folder / CORRECTIONS, self.work.corrections, self.work.scene.georef)
        self.told.write(folder / CORRECTION)
        shutil.copytree(self.adapter.folder, folder / MODEL)


@dataclass(frozen=True)
class _Other:
    """Another corrected map, whose corrections count too."""

    origin: MapOrigin
    corrections: Corrections
    pixels: CorrectedPixels

    @classmethod
    def open(cls, folder: Path, bundle: ModelBundle, legend: Legend) -> "_Other":
        origin = MapOrigin.of(folder)
        path = folder / CORRECTIONS
        if not path.is_file():
            raise CorrectionError(f"{folder} holds no {CORRECTIONS}: pool maps that were corrected")
        with origin.open(bundle) as scene:
            read = read_corrections(path, scene.georef, legend)
            if len(read.legend) != len(legend):
                raise CorrectionError(f"{path} has the class '{read.legend.names[-1]}', which the other map lacks")
            return cls(origin, read, pixels_of(read, scene))

    def samples(self, bundle: ModelBundle, start: Start, rename: Mapping[str, int], number: int) -> tuple[Samples, Any]:
        with self.origin.open(bundle) as scene:
            seen = _features(scene, bundle, self.origin.options, self.pixels)
        part = _samples(self.corrections, self.pixels, seen, start, rename, number)
        return part, blocks_of(self.pixels.rows, self.pixels.cols, number)


def wishes_name(name: str, wishes: Wishes) -> str:
    """What a class is called after the merges."""
    return (wishes.merge or {}).get(name, name)


def _known(before: Legend, after: Legend, wishes: Wishes) -> list[str]:
    return [name for name in before.names if wishes_name(name, wishes) in after.names]


def _read(given: str | Path | Mapping[str, Any], georef: Georef, legend: Legend, attribute: str) -> Corrections:
    if not isinstance(given, Mapping):
        return read_corrections(Path(given), georef, legend, attribute)
    return from_geojson(given, georef, legend, attribute)


def _refuse_network(bundle: ModelBundle) -> None:
    if (bundle.base or bundle).card.onnx is not None:
        raise CorrectionError(
            f"'{bundle.name}' is an ONNX file, whose inner stages cannot be read: correct maps of other models"
        )


def _refuse_one_class(corrections: Corrections, others: Sequence[_Other]) -> None:
    found = {name for part in (corrections, *(o.corrections for o in others)) for name in part.counts()}
    if len(found) == 1:
        raise CorrectionError(
            f"{corrections.source}: all {len(corrections)} corrections say '{next(iter(found))}': add some of other "
            "classes, also where the map is right, or everything would become that"
        )


def _refuse_dropped(corrections: Corrections, rename: Mapping[str, int]) -> None:
    for name in corrections.counts():
        if name not in rename:
            raise CorrectionError(f"{corrections.source}: '{name}' is to be dropped and has corrections: choose one")


def _earlier(folder: Path, georef: Georef, legend: Legend) -> Corrections | None:
    """The corrections that the map was made with already: they stay in force."""
    path = folder / CORRECTIONS
    if not path.is_file():
        return None
    read = read_corrections(path, georef, legend)
    if len(read.legend) != len(legend):  # of a class that was dropped or merged since
        known = read.target < len(legend)
        return Corrections(read.source, read.shapes[known], read.target[known], legend)
    return read


def _together(given: Corrections, earlier: Corrections | None) -> Corrections:
    """Earlier corrections, without points that a new one on the same pixel replaces, then the new ones."""
    if earlier is None or not len(earlier):
        return given
    import shapely

    places = {_pixel(shape) for shape in given.shapes if shapely.get_type_id(shape) == 0}
    kept = np.array([shapely.get_type_id(s) != 0 or _pixel(s) not in places for s in earlier.shapes], dtype=bool)
    return replace(
        given,
        shapes=np.concatenate([earlier.shapes[kept], given.shapes]),
        target=np.concatenate([earlier.target[kept], given.target]),
    )


def _pixel(point: Any) -> tuple[int, int]:
    return int(point.y), int(point.x)


def _start(bundle: ModelBundle, legend: Legend, wishes: Wishes) -> tuple[Legend, Start]:
    """The new legend, and what its classes start from; `legend` is the map's with the new classes at its end."""
    adapter = bundle.card.adapter
    known = adapter.starts if adapter else tuple((index,) for index in range(len(bundle.legend)))
    before = (*known, *(() for _ in range(len(legend) - len(known))))
    after, sources = merged(legend, wishes.merge or {}, wishes.drop)
    if adapter is None:
        starts = tuple(tuple(sorted({i for s in source for i in before[s]})) for source in sources)
        return after, Start(starts)
    if any(len(source) > 1 for source in sources):
        raise CorrectionError(
            "classes of a map that was corrected before cannot be merged any more: merge them in the first correction"
        )
    weight, bias = read_adapter(bundle.weights_path, len(bundle.legend))
    new = len(legend) - len(known)
    weight = np.concatenate([weight, np.zeros((new, weight.shape[1]), np.float32)])
    bias = np.concatenate([bias, np.zeros(new, np.float32)])
    rows = [source[0] for source in sources]
    return after, Start(tuple(before[row] for row in rows), weight[rows], bias[rows])


def _features(scene: Scene, bundle: ModelBundle, options: Options, pixels: CorrectedPixels) -> PixelFeatures:
    stretch = preflight(scene, bundle, options).stretch
    plan, _ = planned(scene, bundle, options)
    runner = open_stage_runner(bundle.base or bundle, plan.spec, plan.chip_size, plan.upsample)
    return features_at(scene, plan.grid(scene.georef.shape), stretch, runner, pixels.rows, pixels.cols)


def _samples(
    corrections: Corrections,
    pixels: CorrectedPixels,
    seen: PixelFeatures,
    start: Start,
    rename: Mapping[str, int],
    scene: int,
) -> Samples:
    names = corrections.legend.names
    target = np.array([rename[names[int(i)]] for i in pixels.target], dtype=np.int64)
    prior = start.scores(seen.features, seen.logits)
    return Samples(seen.features, prior, target, pixels.weight, pixels.correction + scene * 1_000_000)


def _joined(parts: Sequence[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]
    groups = np.concatenate([part.group for part in parts])
    return Samples(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.prior for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.unique(groups, return_inverse=True)[1],
    )


def _again(
    origin: MapOrigin,
    scene: Scene,
    bundle: ModelBundle,
    out: str | Path | None,
    overwrite: bool,
    restart: bool,
    on_progress: OnProgress | None,
    engines: EngineShelf | None,
) -> LandCoverMap | None:
    if out is None:
        return None
    return map_scene(
        scene.path,
        bundle,
        Path(out),
        origin.options,
        overwrite=overwrite,
        restart=restart,
        on_progress=on_progress,
        engines=engines,
    )


def _model_place(name: str | None) -> Path | None:
    """Where the adapter is to be kept. Raises CorrectionError where something is there already."""
    if name is None:
        return None
    plain = Path(name).name == name
    place = models_folder() / name if plain else Path(name)
    if place.exists():
        raise CorrectionError(f"{place} is there already: choose another name for the model")
    return place


def _keep(made: Path, place: Path) -> None:
    part = place.with_name(place.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(made, part)
    part.replace(place)
