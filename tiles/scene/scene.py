"""A scene: one GeoTIFF, opened safely, its bands known by name, its grid in place, its validity decided."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS

from tiles.errors import SceneError
from tiles.georef import Georef
from tiles.scene.bands import BandMatch, SceneBand, match_bands, refuse_unreadable, scene_bands
from tiles.scene.fingerprint import fingerprint
from tiles.scene.notice import Level, Notice
from tiles.scene.position import Place, check_georef, crs_name, find_place
from tiles.scene.reduce import ReducedLayer, Reduction
from tiles.scene.sample import Sample, sample_band, sample_pixels
from tiles.scene.source import check_complete, gdal_environment, is_clean, is_remote, local_path, open_dataset
from tiles.scene.validity import Validity, alpha_band, decide, has_mask, refuse_impossible
from tiles.scene.warp import WarpedScene
from tiles.scene.window_reader import DatasetLayer, Layer, Pixels
from tiles.tiff.directories import nodata_text
from tiles.window import Window

__all__ = ["Notice", "Pixels", "Scene", "Source", "open_scene"]

Counts = npt.NDArray[Any]

GSD_TOLERANCE = 1.05
"""A GSD this close to the model's range counts as inside: map scale alone moves it by some permille."""
MOST_UPSAMPLING = 2.0
SAMPLE_PIXELS = 1_000_000
_LARGE_BLOCK = 256_000_000
_WELL_FITTED = 3.0


@dataclass(frozen=True)
class Source:
    """Facts about the file as it is, before anything was decided."""

    bands: tuple[SceneBand, ...]
    dtype: str
    shape: tuple[int, int]
    gsd: float
    crs: str
    nodata: tuple[float | None, ...]
    validity: str
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    block: tuple[int, int]
    compression: str
    interleaving: str
    overviews: tuple[int, ...]
    size_bytes: int | None


class Scene:
    """Pixels on the grid that the map will be on. Made by `open_scene`; close it, or use it in a `with`."""

    def __init__(
        self,
        *,
        path: str,
        layer: Layer,
        original: DatasetLayer,
        georef: Georef,
        bands: tuple[str, ...],
        source: Source,
        notices: tuple[Notice, ...],
        upsample: float,
        owned: ExitStack,
    ) -> None:
        self.path = path
        self.georef = georef
        self.bands = bands
        self.source = source
        self.notices = notices
        self.upsample = upsample
        self._layer = layer
        self._original = original
        self._owned = owned
        self._survey: Sample | None = None

    @property
    def name(self) -> str:
        """The file's name, of a decoded scene that of the file it was decoded from."""
        return str(self._original.dataset.original_name) if is_clean(self.path) else Path(self.path).name

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts that `read` and `sample` give."""
        return self._layer.dtype

    def read(self, window: Window) -> Pixels:
        """Counts (bands, rows, columns) and validity (rows, columns) of a window inside the scene.

        Any thread may call it; two at a time wait for each other. Counts of invalid pixels are 0. Raises SceneError
        where the file is damaged, saying where.
        """
        rows, cols = self.georef.shape
        if window.top < 0 or window.left < 0 or window.bottom > rows or window.right > cols:
            raise SceneError(f"{self.path}: {window} lies outside the scene of {rows} x {cols} pixels")
        return self._layer.read(window)

    def cache_bytes(self, columns: int) -> int:
        """Memory that reading strips of so many columns takes besides the strips: GDAL's cache of decoded blocks."""
        return self._layer.cache_bytes(columns)

    def sample(self, max_pixels: int = SAMPLE_PIXELS) -> Counts:
        """Counts of valid pixels that stand for the whole scene, shape (bands, n), n <= `max_pixels`.

        From an overview where one fits, else from blocks spread over the file; the same on every call.
        """
        if max_pixels == SAMPLE_PIXELS:
            return self.survey.values
        return sample_pixels(self._original, max_pixels).values

    @property
    def survey(self) -> Sample:
        """The sample of default size, with the share of valid pixels in it; read once and kept."""
        if self._survey is None:
            self._survey = sample_pixels(self._original, SAMPLE_PIXELS)
        return self._survey

    def fingerprint(self) -> str:
        """Identity of the file's content, in hexadecimal; see `tiles.scene.fingerprint`."""
        with self._original.locked(), gdal_environment(self.path):
            return fingerprint(self._original.dataset, self.path)

    def close(self) -> None:
        """Close the file."""
        with self._original.locked():
            self._owned.close()

    def __enter__(self) -> "Scene":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_scene(
    path: str | os.PathLike[str],
    wanted: Sequence[str],
    *,
    bands: Mapping[str, int] | None = None,
    assume_crs: str | None = None,
    gsd_range: tuple[float, float] | None = None,
    force: bool = False,
    decoders: int = 1,
    trust: bool = False,
    nodata: Sequence[float] = (),
) -> Scene:
    """Open a GeoTIFF (a file, `https://...` or `/vsi...`) to read the `wanted` bands, in that order.

    `bands` says which file band (from 1) a name means; without `wanted`, all bands of the file are read, by number.
    With `gsd_range` (finest, coarsest, in metres) a finer scene is reduced to the finest, on a grid with the same
    origin, and a coarser one gets an `upsample` of up to 2; beyond that nothing helps, and `force` only says that the
    user knows. Nothing of the pixels is decoded but a few blocks of an alpha band; later, `decoders` threads decode
    the blocks of a window. `nodata` values take the place of the file's own (see `Validity`). `trust` opens a file
    that refers to others (see `open_dataset`).

    Raises BandError where bands cannot be matched, SceneError where the file cannot be used; each message is one line
    that names the file and the way on.
    """
    shown = os.fspath(path)
    with ExitStack() as stack, gdal_environment(path):
        dataset = stack.enter_context(open_dataset(path, trust=trust, NUM_THREADS=decoders))
        check_complete(dataset, shown)
        refuse_unreadable(dataset, shown)
        place = find_place(dataset, shown, assume_crs)
        refuse_impossible(nodata, str(dataset.dtypes[0]), shown)
        return _build(shown, dataset, stack, wanted, bands, place, gsd_range, force, nodata)


@dataclass(frozen=True)
class _Seen:
    """A layer with the grid it is on."""

    layer: Layer
    georef: Georef
    notices: tuple[Notice, ...] = ()
    upsample: float = 1.0


def _build(
    path: str,
    dataset: Any,
    stack: ExitStack,
    wanted: Sequence[str],
    bands: Mapping[str, int] | None,
    place: Place,
    gsd_range: tuple[float, float] | None,
    force: bool,
    nodata: Sequence[float],
) -> Scene:
    validity, told = _validity(dataset, path, bands, nodata)
    match = _match(path, dataset, wanted, bands, validity)
    original = DatasetLayer(dataset, path, match.numbers, validity)
    seen = _on_its_grid(original, place, stack)
    checked = check_georef(seen.georef, path)
    native_gsd = seen.georef.gsd
    if gsd_range is not None:
        seen = _within(seen, original, gsd_range, force, stack)
    return Scene(
        path=path,
        layer=seen.layer,
        original=original,
        georef=seen.georef,
        bands=match.names,
        source=_facts(dataset, path, native_gsd, place.crs, validity),
        notices=(
            *match.notices,
            *place.notices,
            *told,
            *checked,
            *seen.notices,
            *_on_tags(dataset, match.numbers),
            *_on_file(original),
        ),
        upsample=seen.upsample,
        owned=stack.pop_all(),
    )


def _validity(
    dataset: Any, path: str, bands: Mapping[str, int] | None, nodata: Sequence[float]
) -> tuple[Validity, tuple[Notice, ...]]:
    alpha = alpha_band(dataset)
    declared = _declared_nodata(dataset, path)
    if alpha is None:
        return decide(dataset, None, chosen=nodata, declared=declared)
    described = [band.number for band in scene_bands(dataset) if band.name]
    looked_at = DatasetLayer(dataset, path, (alpha,), Validity("all"))
    kept = [*(bands or {}).values(), *described]
    return decide(dataset, sample_band(looked_at, alpha), kept, nodata, declared)


def _declared_nodata(dataset: Any, path: str) -> str | None:
    """The nodata tag as the file has it; of a decoded scene as its record has it."""
    if is_clean(path):
        text: str | None = dataset.nodata_text
        return text
    return None if is_remote(path) else nodata_text(local_path(path))


def _match(
    path: str, dataset: Any, wanted: Sequence[str], bands: Mapping[str, int] | None, validity: Validity
) -> BandMatch:
    listed = scene_bands(dataset)
    masks = [validity.alpha] if validity.alpha else []
    if wanted:
        return match_bands(path, listed, wanted, bands, masks, str(dataset.dtypes[0]))
    numbers = tuple(band.number for band in listed if band.number not in masks)
    return BandMatch(tuple(listed[n - 1].name or f"band {n}" for n in numbers), numbers, ())


def _on_its_grid(original: DatasetLayer, place: Place, stack: ExitStack) -> _Seen:
    dataset = original.dataset
    if place.transform is not None:
        return _Seen(original, Georef(place.crs, place.transform, original.shape))
    view = WarpedScene(dataset, original.path, place.crs, original.numbers, original.validity)
    stack.callback(view.close)
    warped = DatasetLayer(view.dataset, original.path, view.numbers, view.validity)
    points = dataset.gcps[0]
    misfit = view.misfit(points)
    text = f"warped from {len(points)} ground control points to a north-up grid in {crs_name(place.crs)}"
    text += f"; they fit to {misfit:.1f} pixels"
    georef = Georef(place.crs, view.dataset.transform, warped.shape)
    level: Level = "adjusted" if misfit <= _WELL_FITTED else "warning"
    return _Seen(warped, georef, (Notice(level, "position", text),))


def _within(
    seen: _Seen, original: DatasetLayer, gsd_range: tuple[float, float], force: bool, stack: ExitStack
) -> _Seen:
    """Bring a layer to the model's resolution: reduced where it is finer, enlarged later where it is coarser."""
    finest, coarsest = gsd_range
    gsd = seen.georef.gsd
    if gsd * GSD_TOLERANCE < finest:
        return _reduced(seen, original, finest, stack)
    ratio = gsd / coarsest
    if ratio <= GSD_TOLERANCE:
        return seen
    upsample = min(ratio, MOST_UPSAMPLING)
    text = f"{gsd:.3g} m a pixel is coarser than the model's {coarsest:g} m: enlarged {upsample:.2g}x for the network"
    if ratio > MOST_UPSAMPLING * GSD_TOLERANCE:
        text += ", which is not enough" + (" (going on as asked)" if force else "")
    notice = Notice("warning", "resolution", text + "; the map stays on the scene's grid")
    return replace(seen, notices=(*seen.notices, notice), upsample=upsample)


def _reduced(seen: _Seen, original: DatasetLayer, finest: float, stack: ExitStack) -> _Seen:
    down, across = seen.georef.metres_per_pixel()
    rows, cols = seen.georef.shape
    factors = _whole(finest / down), _whole(finest / across)
    coarse = Reduction((rows, cols), factors)
    base: Layer = seen.layer
    if seen.layer is original:
        base = _through_overview(original, factors, stack)
    left = factors[0] * base.shape[0] / rows, factors[1] * base.shape[1] / cols
    layer = ReducedLayer(base, Reduction(base.shape, left), coarse.shape)
    georef = Georef(seen.georef.crs, _scaled(seen.georef.transform, *factors), coarse.shape)
    text = (
        f"{seen.georef.gsd:.3g} m a pixel is finer than the model's {finest:g} m: "
        f"averaged and mapped at {georef.gsd:.3g} m"
    )
    return _Seen(layer, georef, (*seen.notices, Notice("adjusted", "resolution", text)))


def _whole(factor: float) -> float:
    """At least 1, and a whole number where it is nearly one: whole pixels average faster and look sharper."""
    near = max(1.0, float(round(factor)))
    return near if abs(factor - near) <= 0.02 * near else max(1.0, factor)


def _scaled(t: Affine, down: float, across: float) -> Affine:
    """The transform of a grid with the same origin and pixels that many times as large."""
    return Affine(t.a * across, t.b * down, t.c, t.d * across, t.e * down, t.f)


def _through_overview(original: DatasetLayer, factors: tuple[float, float], stack: ExitStack) -> DatasetLayer:
    """The coarsest overview that is still finer than wanted; the layer itself where there is none with its mask."""
    levels = [f for f in original.dataset.overviews(original.numbers[0]) if f <= min(factors)]
    if not levels:
        return original
    overview = stack.enter_context(open_dataset(original.path, trust=True, overview_level=len(levels) - 1))
    if original.validity.kind == "mask" and not has_mask(overview):
        return original
    return DatasetLayer(overview, original.path, original.numbers, original.validity)


def _facts(dataset: Any, path: str, gsd: float, crs: CRS, validity: Validity) -> Source:
    return Source(
        bands=scene_bands(dataset),
        dtype=str(dataset.dtypes[0]),
        shape=(dataset.height, dataset.width),
        gsd=gsd,
        crs=crs_name(crs),
        nodata=tuple(dataset.nodatavals),
        validity=validity.text,
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        block=tuple(dataset.block_shapes[0]),
        compression=dataset.compression.value.lower() if dataset.compression else "none",
        interleaving=dataset.interleaving.value.lower() if dataset.interleaving else "unknown",
        overviews=tuple(dataset.overviews(1)),
        size_bytes=_size(dataset, path),
    )


def _size(dataset: Any, path: str) -> int | None:
    if is_remote(path):
        return None
    return int(dataset.size_bytes) if is_clean(path) else local_path(path).stat().st_size


def _on_tags(dataset: Any, numbers: Sequence[int]) -> tuple[Notice, ...]:
    """What scale and offset tags mean here: counts are read as stored."""
    tags = {(dataset.scales[n - 1], dataset.offsets[n - 1]) for n in numbers}
    if tags == {(1.0, 0.0)}:
        return ()
    if any(scale <= 0 for scale, _ in tags):
        text = "a scale tag below 0 makes the image its negative: apply it with `gdal_translate -unscale -ot Float32`"
        return (Notice("warning", "values", text),)
    shown = ", ".join(f"{scale:g} x count {offset:+g}" for scale, offset in sorted(tags))
    return (Notice("ok", "values", f"scale and offset tags ({shown}) are not applied: counts are matched as stored"),)


def _on_file(original: DatasetLayer) -> tuple[Notice, ...]:
    """What about the file as such a user should know."""
    notices = []
    pages = sum(name.startswith("GTIFF_DIR:") for name in original.dataset.subdatasets)
    if pages > 1:
        text = f"the file holds {pages} images, the first is read: split it with gdal_translate to map the others"
        notices.append(Notice("warning", "file", text))
    if original.block_bytes > _LARGE_BLOCK:
        height, width = original.dataset.block_shapes[0]
        text = (
            f"pixels are stored in blocks of {width:,} x {height:,}, each {original.block_bytes / 1e9:.1f} GB decoded: "
            "slow and large in memory; `gdal_translate -of COG INPUT OUTPUT.tif` mends it"
        )
        notices.append(Notice("warning", "file", text))
    return tuple(notices)
