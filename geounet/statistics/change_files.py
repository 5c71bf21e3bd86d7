"""The files of a change between two maps: raster, confidence, polygons, and what was counted."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from geounet import __version__
from geounet.errors import StatisticsError
from geounet.statistics.change import UNCHANGED, Change, ChangeRules, Totals, compare
from geounet.statistics.maps import title_of
from tiles.chips.blend import Strip
from tiles.chips.spool import Spool
from tiles.durable import sync_folder, sync_tree
from tiles.errors import OutputError
from tiles.polygons.polygonise import PolygonBatch, default_generalisation, polygonise
from tiles.rasters.write import write_rasters
from tiles.vectors.write import write_vectors

RECORD = "change.json"
RASTER = "change.tif"
_NAMES = {"classes.tif": RASTER, "classes.tif.aux.xml": f"{RASTER}.aux.xml", "confidence.tif": "confidence.tif"}


def write_change(
    before: Path,
    after: Path,
    out: Path,
    rules: ChangeRules,
    *,
    min_area_m2: float | None = None,
    formats: Sequence[str] = ("gpkg",),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Compare two maps and write the folder `out`, which appears in one rename; return what `change.json` says.

    `min_area_m2` is the smallest polygon of change, by default 16 pixels. Raises StatisticsError, SceneError,
    OutputError; a change folder that is there is replaced only with `overwrite`, anything else never.
    """
    _check_target(out, overwrite)
    with compare(before, after, rules) as change:
        try:
            work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
        except OSError as error:
            raise OutputError(f"{out}: cannot be written: {error.strerror or error}; choose another -o") from error
        try:
            record = _write(change, work, rules, min_area_m2, formats)
            record = {"before": title_of(before), "after": title_of(after), **record}
            made = work / "change"
            (made / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            _publish(made, out)
        except OSError as error:
            raise OutputError(f"{out}: cannot be written: {error.strerror or error}; make room") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return record


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not (out / RECORD).is_file():
        raise OutputError(f"{out} exists and holds no change of ours: choose another -o")
    if not overwrite:
        raise OutputError(f"{out} exists: choose another -o, or --overwrite to replace it")


def _publish(made: Path, out: Path) -> None:
    sync_tree(made)
    old = made.parent / "old"
    if out.exists():
        out.replace(old)
    made.replace(out)
    sync_folder(out.absolute().parent)


def _write(
    change: Change, work: Path, rules: ChangeRules, min_area_m2: float | None, formats: Sequence[str]
) -> dict[str, Any]:
    made = work / "change"
    made.mkdir()
    totals = Totals.of(change)
    with Spool.create(work / "spool", change.georef.shape, {}) as spool:
        for strip in change.strips(totals):
            spool.append(Strip(strip.top, strip.codes, strip.confidence))
        if not totals.as_mapped.any():
            raise StatisticsError("the two maps have no pixel in common: where one is known the other is nodata")
        write_rasters(spool, change.georef, change.legend, made)
        for name, wanted in _NAMES.items():
            if (made / name).exists():
                (made / name).replace(made / wanted)
        smallest = default_generalisation(change.georef)[0] if min_area_m2 is None else min_area_m2
        batches = polygonise(spool.strips(), change.georef, change.legend, min_area_m2=smallest, simplify_px=0.0)
        write_vectors(_changed(batches), made, formats, change.georef, change.legend)
    return _record(change, totals, rules, smallest)


def _changed(batches: Iterable[PolygonBatch]) -> Iterator[PolygonBatch]:
    for batch in batches:
        kept = batch.class_id != UNCHANGED
        yield PolygonBatch(**{f.name: getattr(batch, f.name)[kept] for f in fields(batch)})


def _record(change: Change, totals: Totals, rules: ChangeRules, smallest: float) -> dict[str, Any]:
    compared = float(totals.as_mapped.sum())
    changed = totals.changed(totals.kept)
    return {
        "geounet": __version__,
        "grid": {"gsd_m": round(change.georef.gsd, 4), "resampled": change.resampled},
        "rules": {**asdict(rules), "min_area_m2": round(smallest, 3)},
        "compared_ha": _hectares(compared),
        "changed_ha": _hectares(changed),
        "changed_share": round(changed / compared, 6),
        "changed_as_mapped_ha": _hectares(totals.changed(totals.as_mapped)),
        "classes_before": list(change.before.names),
        "classes_after": list(change.after.names),
        "matrix_ha": [[_hectares(v) for v in row] for row in totals.kept.tolist()],
        "matrix_as_mapped_ha": [[_hectares(v) for v in row] for row in totals.as_mapped.tolist()],
    }


def _hectares(square_metres: float) -> float:
    return round(square_metres / 1e4, 4)
