"""`geounet stats`, `geounet sample` and `geounet change`: what maps say in numbers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geounet.cli.options import AsJson, make_options

if TYPE_CHECKING:
    from rich.table import Table

    from geounet.statistics.report import MapStatistics

MapArgument = Annotated[Path, typer.Argument(help="A map's folder, or a GeoTIFF of classes.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(stats)
    app.command()(sample)
    app.command()(change)


def stats(
    map_: Annotated[Path, typer.Argument(metavar="MAP", help="A map's folder, or a GeoTIFF of classes.")],
    zones: Annotated[Path | None, typer.Option(help="Polygons in any CRS.", show_default="the whole map")] = None,
    field: Annotated[str | None, typer.Option(help="Field with the zones' names.", show_default="numbers")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Checked points (`geounet sample`): areas and accuracies with 95 % intervals."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Table to write: .csv, .parquet or .gpkg.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Areas by class and zone, on the ellipsoid, border pixels by the exact share that is inside."""
    from geounet.statistics.report import map_statistics, write_table

    if field is not None and zones is None:
        raise typer.BadParameter("--field names a field of --zones: give that too")
    found = map_statistics(map_, zones, field, reference, out=out, overwrite=overwrite)
    if out is not None:
        write_table(found, out)
    if as_json:
        typer.echo(json.dumps(found.as_record(), indent=2, ensure_ascii=False))
    else:
        _show(found, out)


def sample(
    map_: Annotated[Path, typer.Argument(metavar="MAP", help="A map's folder, or a GeoTIFF of classes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Points to write: .gpkg or .geojson.", show_default=False)],
    number: Annotated[int, typer.Option("-n", "--number", help="How many points.", min=2)] = 300,
    stratify: Annotated[
        str, typer.Option(help="class: every class gets its share and enough; none: anywhere.")
    ] = "class",
    seed: Annotated[int, typer.Option(help="The same seed draws the same points.", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw points for somebody to check: fill in their field `reference`, then `geounet stats --reference`."""
    from geounet.statistics.report import write_sample

    if stratify not in ("class", "none"):
        raise typer.BadParameter(f"--stratify is class or none, not '{stratify}'")
    counts = write_sample(map_, out, number, by_class=stratify == "class", seed=seed, overwrite=overwrite)
    typer.echo(f"{out}: {number} points ({', '.join(f'{n} {name}' for name, n in counts.items())})")
    typer.echo("fill in `reference` with the class that is really there, in any order, then:")
    typer.echo(f"geounet stats {map_} --reference {out}")


def change(
    before: Annotated[Path, typer.Argument(help="The earlier map: its folder, or a GeoTIFF of classes.")],
    after: Annotated[Path, typer.Argument(help="The later map of the same place.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the change.", show_default=False)],
    tolerance: Annotated[int, typer.Option(help="Shift in pixels that is forgiven at borders.", min=0, max=16)] = 2,
    confidence: Annotated[
        float, typer.Option(help="Changes that are less sure than this (0-1) are left out.", min=0, max=1)
    ] = 0.0,
    min_area: Annotated[
        float | None,
        typer.Option(help="Smallest polygon of change in square metres.", min=0, show_default="16 pixels"),
    ] = None,
    formats: Annotated[str, typer.Option(help="Polygon files: gpkg, geojson, geojsonl, fgb, parquet.")] = "gpkg",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare two maps of one place: what became what, in hectares, as a raster and as polygons."""
    from geounet.statistics.change import ChangeRules
    from geounet.statistics.change_files import write_change

    rules = ChangeRules(tolerance, confidence)
    done = write_change(
        before,
        after,
        out,
        rules,
        min_area_m2=min_area,
        formats=make_options({"formats": formats}).formats,
        overwrite=overwrite,
    )
    if as_json:
        typer.echo(json.dumps(done, indent=2, ensure_ascii=False))
    else:
        _show_change(done, out)


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left")
    return table


def _show(found: "MapStatistics", out: Path | None) -> None:
    from rich.console import Console

    from geounet.statistics.sample import interval_text

    console = Console(highlight=False)
    table = _table("zone", "class", "area (ha)", "share", "confidence", "estimated (ha)")
    for row in found.rows:
        estimate = row["estimated_m2"]
        table.add_row(
            row["zone"],
            row["class_name"],
            f"{row['area_m2'] / 1e4:,.4f}",
            f"{row['share']:.1%}",
            "" if row["confidence"] is None else f"{row['confidence']:.2f}",
            "" if estimate is None else interval_text(estimate / 1e4, row["half_width_m2"] / 1e4),
        )
    console.print(table)
    for zone, text in found.notes:
        console.print(f"{zone}: {text}", markup=False)
    if (accuracy := found.accuracy) is not None:
        console.print(
            f"overall accuracy {interval_text(accuracy.overall.value, accuracy.overall.half_width)} (95 %), "
            f"{accuracy.points} points"
        )
        each = _table("class", "user's accuracy", "producer's accuracy")
        for c in accuracy.classes:
            shown = [interval_text(e.value, e.half_width) if e else "not known" for e in (c.users, c.producers)]
            each.add_row(c.name, *shown)
        console.print(each)
    if out is not None:
        console.print(str(out), markup=False, soft_wrap=True)


def _show_change(done: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    table = _table("before \\ after (ha)", *done["classes_after"])
    for name, row in zip(done["classes_before"], done["matrix_ha"], strict=True):
        table.add_row(name, *(f"{v:,.3f}" if v else "" for v in row))
    console.print(table)
    if done["grid"]["resampled"]:
        console.print(f"{done['grid']['resampled']} was brought to {done['grid']['gsd_m']:g} m", markup=False)
    console.print(
        f"{done['changed_ha']:,.3f} of {done['compared_ha']:,.3f} ha changed ({done['changed_share']:.2%}); "
        f"{done['changed_as_mapped_ha']:,.3f} ha differ before shifts and unsure pixels are forgiven"
    )
    console.print(str(out), markup=False, soft_wrap=True)
