"""`geounet polygonise`: polygons of any categorical raster."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiles.vectors.formats import FORMATS

if TYPE_CHECKING:
    from tiles.legend import Legend
    from tiles.polygons.polygonise import PolygonBatch


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("polygonise")(polygonise)


def polygonise(
    classes: Annotated[
        str, typer.Argument(help="A GeoTIFF of classes, whole numbers, made by anyone.", show_default=False)
    ],
    out: Annotated[
        list[Path],
        typer.Option("--out", "-o", help=f"File to write, .{' .'.join(FORMATS)}; may be given several times."),
    ],
    min_area: Annotated[
        float | None,
        typer.Option(
            help="Smallest polygon in square metres; smaller ones join a neighbour.", show_default="16 pixels"
        ),
    ] = None,
    simplify: Annotated[
        float | None,
        typer.Option(help="How far in pixels a boundary may move to become simpler.", show_default="1.25"),
    ] = None,
    confidence: Annotated[
        str | None, typer.Option(help="A raster of 0-100 % on the same grid.", show_default=False)
    ] = None,
    band: Annotated[int | None, typer.Option(help="Band that holds the classes, from 1.", show_default=False)] = None,
    assume_crs: Annotated[
        str | None, typer.Option(help="CRS of a file that has none: EPSG:32613.", show_default=False)
    ] = None,
    split: Annotated[
        int | None,
        typer.Option(
            help="Cut polygons of more than this many vertices, for readers that refuse large ones "
            "(GDAL: GeoJSON features over 200 MB, about 5,000,000 vertices).",
            min=64,
            show_default="never",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Turn a categorical raster into polygons that fit each other exactly.

    Same attributes and layer name as in a map. --min-area 0 --simplify 0 gives the exact pixel boundaries.
    """
    for name, value in (("--min-area", min_area), ("--simplify", simplify)):
        if value is not None and not 0 <= value < float("inf"):
            raise typer.BadParameter(f"{name} must be a number from 0 on, not {value}")
    _check_targets(out, overwrite)
    done = _write(classes, out, min_area, simplify, confidence, band, assume_crs, split)
    if as_json:
        typer.echo(json.dumps(done, indent=2, ensure_ascii=False))
    else:
        _show(done)


def _check_targets(out: list[Path], overwrite: bool) -> None:
    from tiles.durable import refuse_name
    from tiles.errors import OutputError

    for path in out:
        refuse_name(path.absolute())
        if path.suffix.lstrip(".").lower() not in FORMATS:
            raise typer.BadParameter(f"'{path}': a polygon file ends in .{', .'.join(FORMATS)}")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists: choose another name, or replace it with --overwrite")
        if not path.absolute().parent.is_dir():
            raise OutputError(f"{path}: there is no folder {path.absolute().parent}; make it first")


def _write(
    source: str,
    out: list[Path],
    min_area: float | None,
    simplify: float | None,
    confidence: str | None,
    band: int | None,
    assume_crs: str | None,
    split: int | None,
) -> dict[str, Any]:
    """Writes the files; returns what was done, ready for JSON."""
    from tiles.polygons.polygonise import default_generalisation
    from tiles.polygons.polygonise import polygonise as polygonise_rows
    from tiles.polygons.split import split_large
    from tiles.rasters.read import open_categorical
    from tiles.vectors.write import write_vector_files

    with open_categorical(source, band=band, assume_crs=assume_crs, confidence=confidence) as raster:
        area, tolerance = default_generalisation(raster.georef)
        area, tolerance = area if min_area is None else min_area, tolerance if simplify is None else simplify
        counter = _Counter(raster.legend)
        batches = polygonise_rows(
            raster.rows(), raster.georef, raster.legend, min_area_m2=area, simplify_px=tolerance, values=raster.values
        )
        batches = counter.watch(batches)
        if split is not None:
            batches = counter.watch_parts(split_large(batches, raster.georef, split))
        write_vector_files(batches, out, raster.georef, raster.legend)
        return {
            "files": [str(path) for path in out],
            "min_area_m2": area,
            "simplify_px": tolerance,
            "cut": counter.cut,
            "classes": counter.records(),
        }


class _Counter:
    """Counts polygons and areas a class while they pass."""

    def __init__(self, legend: "Legend") -> None:
        self._legend = legend
        self._polygons: Counter[int] = Counter()
        self._areas: dict[int, float] = defaultdict(float)
        self._features = 0

    def watch(self, batches: "Iterable[PolygonBatch]") -> "Iterator[PolygonBatch]":
        for batch in batches:
            for value, area in zip(batch.class_id.tolist(), batch.area_m2.tolist(), strict=True):
                self._polygons[value] += 1
                self._areas[value] += area
            yield batch

    def watch_parts(self, batches: "Iterable[PolygonBatch]") -> "Iterator[PolygonBatch]":
        for batch in batches:
            self._features += len(batch)
            yield batch

    @property
    def cut(self) -> int:
        """How many more features there are than polygons, because large ones were cut."""
        return max(self._features - self._polygons.total(), 0)

    def records(self) -> list[dict[str, Any]]:
        return [
            {"value": v, "name": self._legend.name_of(v), "polygons": self._polygons[v], "area_m2": self._areas[v]}
            for v in sorted(self._polygons)
        ]


def _show(done: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    total = sum(c["area_m2"] for c in done["classes"]) or 1.0
    table = Table("class", "polygons", "area", "share", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for c in done["classes"]:
        table.add_row(c["name"], f"{c['polygons']:,}", f"{c['area_m2']:,.0f} m²", f"{c['area_m2'] / total:.1%}")
    console = Console()
    console.print(table)
    if done["cut"]:
        console.print(f"large polygons were cut: {done['cut']:,} more features than polygons")
    for path in done["files"]:
        console.print(path, soft_wrap=True, markup=False, highlight=False)
