"""Scores of a bundle through the tiler, the engine and the stitcher that users get; scores of maps made elsewhere."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from geounet.datasets.labels import LabelCodes
from geounet.errors import TrainingError
from geounet.evaluation.boundary import BoundaryScore
from geounet.evaluation.corrected_area import AreaEstimate, corrected_areas
from geounet.evaluation.grouping import Float32, Grouping, Index
from geounet.evaluation.metrics import Calibration, Confusion
from geounet.evaluation.predictor import Predictor
from geounet.model.bundle import ModelCard
from tiles.legend import NODATA, Legend

if TYPE_CHECKING:
    from geounet.datasets.load import Sample


@dataclass(frozen=True)
class PlaceScore:
    """One place of a data set that tells places. `trained_on`: whether the bundle's own record says it learned it."""

    place: str
    images: int
    confusion: Confusion
    trained_on: bool

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        c = self.confusion
        scores = {"miou": c.miou, "accuracy": c.accuracy, "iou": c.iou}
        return {"place": self.place, "images": self.images, "trained_on": self.trained_on, **scores}


@dataclass(frozen=True)
class Report:
    """Everything that is said of one data set. `before` is the calibration with a temperature of one."""

    data: str
    images: int
    confusion: Confusion
    boundary: BoundaryScore
    calibration: Calibration | None
    before: Calibration | None
    areas: tuple[AreaEstimate, ...]
    places: tuple[PlaceScore, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        c = self.confusion
        by_class = {
            name: {
                "iou": c.iou.get(name),
                "precision": c.precision.get(name),
                "recall": c.recall.get(name),
                "f1": c.f1.get(name),
                "boundary_f1": self.boundary.f1.get(name),
            }
            for name in c.names
        }
        return {
            "data": self.data,
            "images": self.images,
            "pixels": int(c.counts.sum()),
            "miou": c.miou,
            "accuracy": c.accuracy,
            "frequency_weighted_iou": c.weighted_iou,
            "boundary_f1": self.boundary.mean,
            "boundary_tolerance_px": self.boundary.tolerance,
            "calibration_error": self.calibration.error if self.calibration else None,
            "calibration_error_before": self.before.error if self.before else None,
            "classes": by_class,
            "confusion": {"names": list(c.names), "truth_by_predicted": c.counts.tolist()},
            "areas": [
                {"name": a.name, "mapped": a.mapped, "corrected": a.corrected, "half_width_95": a.half_width}
                for a in self.areas
            ],
            "places": [p.as_record() for p in self.places],
        }


Fold = tuple[Predictor, "Sequence[Sample]"]
"""A bundle and the labelled images that it is scored on."""


def evaluate_samples(predictor: Predictor, samples: "Iterable[Sample]", codes: LabelCodes, data: str) -> Report:
    """Score labelled images, each as one scene. The bundle's legend must hold the classes of `codes` in its order.

    Raises TrainingError where the legends differ or no image is labelled.
    """
    return evaluate_folds([(predictor, list(samples))], codes, data)


def evaluate_folds(folds: Sequence[Fold], codes: LabelCodes, data: str) -> Report:
    """The same over several bundles, each scored on the images that were left out of its own training.

    All pixels count together. Raises TrainingError besides where a place is scored in two folds.
    """
    for predictor, _ in folds:
        _check_legend(predictor, codes)
    _check_folds(folds)
    samples = [sample for _, fold in folds for sample in fold]
    grouping = _grouping_of(samples, codes, data)
    confusion, boundary = Confusion(grouping.names), BoundaryScore(grouping.names)
    after, before = Calibration(), Calibration()
    places: dict[str, PlaceScore] = {}
    for predictor, fold in folds:
        temperature = predictor.bundle.card.temperature
        for sample in fold:
            p = predictor.probabilities(sample.image.numpy(), sample.gsd_m)
            truth = grouping.of_code[sample.codes.numpy()]
            one = Confusion(grouping.names)
            _count(truth, grouping.joined(p), one, after, boundary)
            confusion.counts += one.counts
            if sample.place_name:
                _add_place(places, sample.place_name, one, trained_on(predictor.bundle.card, sample.place_name))
            sharper = p**temperature  # softmax(z/T)^T is softmax(z), but for its scale
            _calibrate(truth, grouping.joined(sharper / sharper.sum(axis=0)), before)
    areas = corrected_areas(confusion.names, confusion.counts)
    return Report(data, len(samples), confusion, boundary, after, before, areas, tuple(places.values()))


def trained_on(card: ModelCard, place: str) -> bool:
    """Whether a bundle's record says that it learned `place`: a source with places that does not leave it out."""
    for source in card.training.config.get("source", ()):
        split = source.get("split", {})
        if source.get("places") and not split.get("csv") and place not in _left_out(source["places"], split):
            return True
    return False


def _left_out(places: dict[str, Any], split: dict[str, Any]) -> set[str]:
    named = set(split.get("places", ()))
    return named.union(*(survey for survey in places.get("surveys", ()) if named & set(survey)))


def _add_place(places: dict[str, PlaceScore], name: str, one: Confusion, learned: bool) -> None:
    old = places.get(name, PlaceScore(name, 0, Confusion(one.names), learned))
    old.confusion.counts += one.counts
    places[name] = replace(old, images=old.images + 1)


def _check_folds(folds: Sequence[Fold]) -> None:
    seen: set[str] = set()
    for _, samples in folds:
        here = {s.place_name for s in samples if s.place_name}
        if here & seen:
            raise TrainingError(f"{sorted(here & seen)[0]} is left out in two folds: give each place to one")
        seen |= here


def _check_legend(predictor: Predictor, codes: LabelCodes) -> None:
    if predictor.bundle.legend.names != codes.names:
        raise TrainingError(
            f"the bundle's classes ({', '.join(predictor.bundle.legend.names)}) are not those of the data "
            f"({', '.join(codes.names)}): give a configuration with the bundle's legend"
        )


def _grouping_of(samples: "Sequence[Sample]", codes: LabelCodes, data: str) -> Grouping:
    present = {int(c) for s in samples for c in np.unique(s.codes.numpy())}
    grouping = Grouping.of(codes, present)
    if not any(grouping.of_code[c] >= 0 for c in present):
        raise TrainingError(f"{data}: no pixel has a label that can be scored")
    return grouping


def _count(truth: Index, p: Float32, confusion: Confusion, calibration: Calibration, boundary: BoundaryScore) -> None:
    predicted, known = p.argmax(axis=0), truth >= 0
    confusion.add(truth[known], predicted[known])
    boundary.add(truth, predicted)
    _calibrate(truth, p, calibration)


def _calibrate(truth: Index, p: Float32, calibration: Calibration) -> None:
    known = truth >= 0
    calibration.add(np.clip(p.max(axis=0)[known], 0, 1), p.argmax(axis=0)[known] == truth[known])


def evaluate_raster(raster: Path, labels: Path, legend: Legend, classes: dict[int, int] | None = None) -> Report:
    """Score a class raster against a label raster on the same grid, both in the values of `legend`.

    `classes` renames label values to legend values. Nodata and values outside the legend are not scored where the
    labels have them, and count as wrong where only the map has them. Raises TrainingError where the grids differ or
    nothing can be scored.
    """
    made, truth_values = _same_grid(raster, labels)
    if classes:
        table = np.full(256, NODATA, dtype=np.uint8)
        for old, new in classes.items():
            table[old] = new
        truth_values = table[truth_values]
    index = np.full(256, -1, dtype=np.int64)
    for channel, value in enumerate(legend.values.tolist()):
        index[value] = channel
    names = (*legend.names, "unmapped")
    truth, predicted = index[truth_values], index[made]
    predicted[predicted < 0] = len(legend)
    known = truth >= 0
    if not known.any():
        raise TrainingError(f"{labels}: no pixel has a value of the legend: {legend.values.tolist()}")
    if not (predicted[known] == len(legend)).any():
        names = legend.names
    confusion, boundary = Confusion(names), BoundaryScore(legend.names)
    confusion.add(truth[known], predicted[known])
    boundary.add(truth, predicted)
    areas = corrected_areas(confusion.names, confusion.counts)
    return Report(f"{raster.name} against {labels.name}", 1, confusion, boundary, None, None, areas)


def _same_grid(raster: Path, labels: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    import rasterio
    from rasterio.errors import RasterioError

    found = []
    for path in (raster, labels):
        try:
            with rasterio.open(path, driver="GTiff") as file:
                found.append((file.read(1), file.crs, file.transform, file.shape))
        except RasterioError as error:
            raise TrainingError(f"{path} cannot be read as a GeoTIFF: {error}") from error
    (a, crs_a, transform_a, shape_a), (b, crs_b, transform_b, shape_b) = found
    if shape_a != shape_b or crs_a != crs_b or not transform_a.almost_equals(transform_b, 1e-6):
        raise TrainingError(f"{raster} and {labels} are not on the same grid: warp one onto the other's first")
    for path, values in ((raster, a), (labels, b)):
        if values.dtype != np.uint8:
            raise TrainingError(f"{path} holds {values.dtype} values: class rasters are uint8")
    return a, b


def text_of(reports: Iterable[Report]) -> Iterator[str]:
    """The reports as Markdown, which reads as plain text too."""
    for report in reports:
        c = report.confusion
        yield f"## {report.data}"
        yield ""
        yield (
            f"{report.images} images, {c.counts.sum() / 1e6:.2f} Mpx: mean IoU {c.miou:.3f}, "
            f"accuracy {c.accuracy:.3f}, frequency-weighted IoU {c.weighted_iou:.3f}, "
            f"boundary F {report.boundary.mean:.3f} ({report.boundary.tolerance} px)."
        )
        if report.calibration and report.before:
            yield ""
            yield (
                f"Expected calibration error {report.calibration.error:.3f}, "
                f"{report.before.error:.3f} before the temperature."
            )
        yield ""
        yield "| class | IoU | precision | recall | F1 | boundary F | area mapped | corrected (95 %) |"
        yield "|---|---|---|---|---|---|---|---|"
        for name, area in zip(c.names, report.areas, strict=True):
            cells = [d.get(name) for d in (c.iou, c.precision, c.recall, c.f1, report.boundary.f1)]
            numbers = " | ".join("" if v is None else f"{v:.3f}" for v in cells)
            cell = name.replace("|", "\\|")
            yield (f"| {cell} | {numbers} | {area.mapped:.2%} | {area.corrected:.2%} ± {area.half_width:.2%} |")
        yield ""
        yield from _text_of_places(report.places)


def _text_of_places(places: Sequence[PlaceScore]) -> Iterator[str]:
    if not places:
        return
    learned = [p.place for p in places if p.trained_on]
    if learned:
        yield f"**Not left out**: the bundle was trained on {', '.join(learned)}, so this is no score of places unseen."
    else:
        yield f"{len(places)} places, all left out of training; mean of the places {mean_of_places(places):.3f}."
    yield ""
    yield "| place | images | Mpx | mean IoU | accuracy | IoU by class |"
    yield "|---|---|---|---|---|---|"
    for p in places:
        by_class = ", ".join(f"{n} {v:.2f}" for n, v in p.confusion.iou.items()).replace("|", "\\|")
        c, size = p.confusion, p.confusion.counts.sum() / 1e6
        yield f"| {p.place} | {p.images} | {size:.2f} | {c.miou:.3f} | {c.accuracy:.3f} | {by_class} |"
    yield ""


def mean_of_places(places: Sequence[PlaceScore]) -> float:
    """Mean over places of their mean IoU: a place counts as one, however large."""
    return float(np.mean([p.confusion.miou for p in places]))
