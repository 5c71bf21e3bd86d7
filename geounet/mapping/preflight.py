"""Does this scene fit this model? A short table of checks, before anything expensive starts.

Each line is `ok`, `adjusted` (how), a `warning` (look at it), or `refused` (why, and what to do).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geounet.errors import BundleError, MismatchError
from geounet.mapping.cost import Cost
from geounet.mapping.value_checks import check_values, undeclared_fill
from geounet.model.bundle import ModelBundle, shipped_bundles
from geounet.model.reflectance import find_reflectance, reflectance_stretch
from geounet.model.stretch import Stretch, fill_value, fit_stretch
from geounet.options import Options
from geounet.outputs.check import Check
from tiles.errors import BandError, VectorError
from tiles.scene.scene import GSD_TOLERANCE, MOST_UPSAMPLING, Scene, Source, open_scene
from tiles.scene.validity import shown_values
from tiles.vectors.wgs84 import ToWgs84

if TYPE_CHECKING:
    from tiles.scene.notice import Notice

_SQUARENESS = 1.5
_SMEAR, _LEAST_SMEARED, _LEAST_EMPTY = 16, 1e-3, 1e-3
_FORCEABLE = ("resolution",)


@dataclass(frozen=True)
class Preflight:
    """All checks of one scene for one model, and the stretch that they led to."""

    rows: tuple[Check, ...]
    stretch: Stretch

    @property
    def refused(self) -> tuple[Check, ...]:
        """The lines that stop the work."""
        return tuple(row for row in self.rows if row.status == "refused")

    @property
    def clean(self) -> bool:
        """No warning and no refusal."""
        return all(row.status in ("ok", "adjusted") for row in self.rows)

    def at_cost(self, cost: Cost) -> "Preflight":
        """The same with a line on what the work takes."""
        return replace(self, rows=(*self.rows, *_cost(cost)))


def preflight(scene: Scene, bundle: ModelBundle, options: Options) -> Preflight:
    """All checks. Raises MismatchError where one refuses, unless `options.force`: then it is a warning.

    What the work costs is not asked here: a scene is told first why it does not fit, then what it would take.
    Raises SceneError where `options.stretch` is not understood or the file is damaged where the sample reads it.
    """
    checked = examine(scene, bundle, options)
    if checked.refused:
        raise MismatchError(f"{scene.path}: {checked.refused[0].text}; {checked.refused[0].remedy}")
    return checked


def examine(scene: Scene, bundle: ModelBundle, options: Options, cost: Cost | None = None) -> Preflight:
    """All checks, refusals among the lines; what `options.force` overrules is a warning."""
    sample = scene.survey
    quantiles = bundle.card.quantiles
    if bundle.card.reflectance_one is None:
        stretch = fit_stretch(sample.values, scene.dtype, quantiles, options.stretch)
        found = check_values(sample.values, scene.dtype, scene.bands, stretch, quantiles)
    else:
        stretch, found = _reflectance(scene, bundle, options.stretch)
    rows = [
        *_told(scene.notices, "file", ""),
        *_told(scene.notices, "bands", "no band was asked for"),
        *_about_place(scene, bundle),
        *_told(scene.notices, "validity", ""),
        *_unusable_nodata(scene),
        *_smeared(scene),
        *_told(scene.notices, "values", ""),
        *found,
        *_formats(scene, options.formats),
        _size(scene),
        *_cost(cost),
    ]
    return Preflight(tuple(_forced(row) if options.force else row for row in rows), stretch)


def _forced(row: Check) -> Check:
    """A resolution that does not fit is the user's risk; nothing else can be forced."""
    if row.status == "refused" and row.topic in _FORCEABLE:
        return replace(row, status="warning", text=f"{row.text} (forced)")
    return row


def _reflectance(scene: Scene, bundle: ModelBundle, choice: str | None) -> tuple[Stretch, list[Check]]:
    """The way to reflectance, and how it was found. Raises MismatchError, naming the scene, where there is none."""
    card, source = bundle.card, scene.source
    try:
        found = find_reflectance(scene.survey.values, scene.dtype, source.scales, source.offsets, choice)
    except MismatchError as error:
        raise MismatchError(f"{scene.path}: {error}") from error
    one = card.reflectance_one or 1.0
    stretch = reflectance_stretch(found, scene.dtype, one, card.normalisation.mean)
    remedy = "" if found.sure else "if that is wrong: --stretch LO,HI, the counts of reflectance 0 and 1"
    rows = [Check("values", "adjusted" if found.sure else "warning", found.told, remedy)]
    fill = fill_value(scene.survey.values)
    return stretch, rows if fill is None else [*rows, undeclared_fill(scene.survey.values, fill)]


@dataclass(frozen=True)
class Inspection:
    """What `geounet info` shows: facts about the file (None where it cannot be placed) and the checks."""

    path: str
    source: Source
    rows: tuple[Check, ...]
    stretch: Stretch | None = None

    @property
    def refused(self) -> bool:
        """Whether a map would be refused."""
        return any(row.status == "refused" for row in self.rows)

    def as_record(self) -> dict[str, Any]:
        """For `--json`."""
        facts = asdict(self.source)
        facts["bands"] = [asdict(band) for band in self.source.bands]
        return {
            "scene": self.path,
            "file": facts,
            "fits": not self.refused,
            "checks": [row.as_record() for row in self.rows],
            "stretch": self.stretch.as_record() if self.stretch else None,
        }


def inspect_scene(
    path: str | Path,
    bundle: ModelBundle,
    options: Options,
    estimate: Callable[[Scene], Cost | None] = lambda _: None,
) -> Inspection:
    """Everything the tool sees in a file, and whether the model can use it; bands that do not match are a line.

    `estimate` tells what a map of the scene would cost, where that can be known. Raises SceneError where the file
    cannot be used at all.
    """
    chosen: dict[str, Any] = {"assume_crs": options.assume_crs, "gsd_range": bundle.card.gsd_m, "force": options.force}
    chosen["trust"], chosen["nodata"] = options.trust, options.nodata
    try:
        with open_scene(path, bundle.bands, bands=options.bands, **chosen) as scene:
            checked = examine(scene, bundle, options, estimate(scene))
            return Inspection(scene.path, scene.source, checked.rows, checked.stretch)
    except BandError as error:
        text, _, remedy = str(error).removeprefix(f"{path}: ").rpartition(". ")
        refused = Check("bands", "refused", text or remedy, remedy if text else "")
    with open_scene(path, (), **chosen) as scene:
        return Inspection(scene.path, scene.source, (refused, *_about_place(scene, bundle), _size(scene)))


def _about_place(scene: Scene, bundle: ModelBundle) -> list[Check]:
    where = _told(scene.notices, "position", f"{scene.source.crs}, on the scene's own grid")
    return [*where, _resolution(scene, bundle), *_shape(scene), _valid(scene)]


def _told(notices: "Sequence[Notice]", topic: str, otherwise: str) -> list[Check]:
    found = [Check(topic, notice.level, notice.text) for notice in notices if notice.topic == topic]
    return found or ([Check(topic, "ok", otherwise)] if otherwise else [])


def _resolution(scene: Scene, bundle: ModelBundle) -> Check:
    finest, coarsest = bundle.card.gsd_m
    gsd, model = scene.source.gsd, f"{bundle.name} knows {finest:g}-{coarsest:g} m"
    if gsd > coarsest * MOST_UPSAMPLING * GSD_TOLERANCE:
        text = f"{_metres(gsd)} a pixel, {model}: too coarse to see what the model looks for"
        return Check("resolution", "refused", text, f"{_fitting_model(gsd)}, or go on with --force")
    told = next((n for n in scene.notices if n.topic == "resolution"), None)
    if told is not None:
        remedy = "a model trained at this resolution would see more" if told.level == "warning" else ""
        return Check("resolution", told.level, f"{told.text} ({model}){_context(scene, bundle)}", remedy)
    return Check("resolution", "ok", f"{_metres(gsd)} a pixel, {model}{_context(scene, bundle)}")


def _context(scene: Scene, bundle: ModelBundle) -> str:
    """What is said of a scene that the network sees a second time, coarser, for its surroundings."""
    if bundle.card.context_scale(scene.georef.gsd) == 1.0:
        return ""
    return f"; scored at {_metres(scene.georef.gsd)} and at {bundle.card.context_gsd_m:g} m, for the surroundings"


def _fitting_model(gsd: float) -> str:
    """What to do about a scene that is too coarse: the installed model that reaches it, if there is one."""
    fitting = []
    for name in shipped_bundles():
        try:
            finest, coarsest = ModelBundle.load(name).card.gsd_m
        except BundleError:
            continue
        if finest <= gsd * GSD_TOLERANCE and gsd <= coarsest * GSD_TOLERANCE:
            fitting.append(name)
    if fitting:
        return f"use --model {fitting[0]}"
    return "no installed model reaches that far; take a finer scene or train a model for this one"


def _shape(scene: Scene) -> list[Check]:
    down, across = scene.georef.metres_per_pixel()
    if max(down, across) < _SQUARENESS * min(down, across):
        return []
    text = f"pixels are {_metres(across)} wide and {_metres(down)} high on the ground: shapes look squeezed"
    return [Check("resolution", "warning", text, "warp the scene to a projected CRS, such as its UTM zone")]


def _valid(scene: Scene) -> Check:
    share = scene.survey.valid_share
    told = scene.source.validity
    if scene.survey.values.shape[1] == 0:
        return Check("valid pixels", "warning", f"none was found ({told}): the map will be empty", "check the file")
    whole = "all" if share == 1.0 else f"about {min(share, 0.999):.1%}"
    return Check("valid pixels", "ok", f"{whole} of those sampled ({told})")


def _unusable_nodata(scene: Scene) -> list[Check]:
    """A nodata value that marks nothing, and the value that it was perhaps meant to be."""
    told, values = _told(scene.notices, "nodata", ""), scene.survey.values
    if not told or not values.size or fill_value(values) is not None:  # that is told among the values
        return told
    for value in (values.min(), values.max()):
        share = float(np.mean((values == value).all(axis=0)))
        if share >= _LEAST_EMPTY:
            text = f"{share:.1%} of the pixels are {value:g} in every band"
            told.append(Check("nodata", "warning", text, f"if they are empty: --nodata {shown_values([float(value)])}"))
    return told


def _smeared(scene: Scene) -> list[Check]:
    """Nodata that JPEG compression has turned into something beside it, which counts as data."""
    source, values = scene.source, scene.survey.values.astype(np.int32)
    nodata = next((v for v in source.nodata if v is not None), None)
    if source.compression != "jpeg" or nodata is None or not source.validity.startswith("nodata value"):
        return []
    if source.validity.endswith("as asked") or scene.survey.valid_share == 1.0:
        return []
    away = np.abs(values - int(nodata)).max(axis=0)
    near = away[away <= _SMEAR]
    if near.size < _LEAST_SMEARED * away.size:
        return []
    first, last = sorted((int(nodata), int(nodata) + (1 if nodata < 128 else -1) * int(near.max())))
    text = (
        f"JPEG compression has smeared the nodata value {nodata:g}: {near.size / away.size:.1%} of the pixels that "
        f"count as data lie within {near.max()} of it in every band"
    )
    remedy = f"leave them out with --nodata {','.join(map(str, range(first, last + 1)))}, and what else is so dark"
    return [Check("validity", "warning", text, remedy if nodata < 128 else remedy.replace("dark", "bright"))]


def _formats(scene: Scene, formats: Sequence[str]) -> list[Check]:
    """What the polygon files cannot hold, found now and not when they are written."""
    if not {"geojson", "geojsonl"} & set(formats):
        return []
    try:
        ToWgs84(scene.georef)
    except VectorError as error:
        text, _, remedy = str(error).partition("; ")
        return [Check("polygons", "refused", text, f"{remedy} with --formats" if remedy else "choose other --formats")]
    return []


def _size(scene: Scene) -> Check:
    rows, cols = scene.georef.shape
    y, x = np.meshgrid((np.arange(16) + 0.5) / 16 * rows, (np.arange(16) + 0.5) / 16 * cols)
    area = float(np.nanmean(scene.georef.pixel_area_m2(x.ravel(), y.ravel()))) * rows * cols / 1e6
    return Check("size", "ok", f"{cols:,} x {rows:,} pixels, {rows * cols / 1e6:,.1f} Mpx, about {_area(area)}")


def _area(km2: float) -> str:
    return f"{km2:,.0f} km²" if km2 >= 100 else f"{km2:.3g} km²"


def _cost(cost: Cost | None) -> list[Check]:
    if cost is None:
        return []
    text = f"about {_duration(cost.seconds)}, {cost.memory / 1e9:.1f} GB of memory, {cost.disk / 1e9:.2g} GB of disk"
    return [Check("cost", "ok", text)]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _metres(value: float) -> str:
    return f"{value:,.0f} m" if value >= 100 else f"{value:.3g} m"
