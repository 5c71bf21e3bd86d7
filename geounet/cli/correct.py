"""`geounet correct` and `geounet suggest`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geounet.cli.options import AsJson, Overwrite, Restart

if TYPE_CHECKING:
    from geounet.cli.screen import Screen
    from geounet.correction.report import Told

Map = Annotated[Path, typer.Argument(metavar="MAP", help="Folder of a map, as `geounet predict` made it.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(correct)
    app.command()(suggest)


def correct(
    map_folder: Map,
    corrections: Annotated[Path, typer.Argument(help="Points, lines or polygons with a class, in any CRS.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the new map.", show_default=False)] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what would change; make no map.")] = False,
    attribute: Annotated[str, typer.Option(help="The attribute that holds the class, by name or value.")] = "class",
    save_model: Annotated[
        str | None, typer.Option(help="Keep the adapter: a name among the added models, or a folder.")
    ] = None,
    scene: Annotated[str | None, typer.Option(help="The scene, where it has moved.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="The model, where it has moved.", show_default=False)] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="CLASS=INTO: one class becomes part of another.", show_default=False)
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A class that shall not occur.", show_default=False)] = None,
    pool: Annotated[
        list[Path] | None,
        typer.Option(help="Another corrected map of the same model: its corrections count too.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Correct a map: its model learns from corrections, and the scene is mapped again."""
    if (out is None) == (not check):
        raise typer.BadParameter("give -o FOLDER for the new map, or --check to make none")
    if check and save_model:
        raise typer.BadParameter("--check makes no model to save")
    from geounet.cli.screen import Screen
    from geounet.correction.correct import Wishes, correct_map

    wishes = Wishes(_merges(merge or []), tuple(drop or ()), tuple(pool or ()))
    screen = Screen(quiet=as_json)
    with screen.progress(map_folder.name) as on_progress:
        found = correct_map(
            map_folder,
            corrections,
            out,
            scene=scene,
            model=model,
            attribute=attribute,
            save_model=save_model,
            wishes=wishes,
            overwrite=overwrite,
            restart=restart,
            on_progress=on_progress,
        )
    if as_json:
        made = str(found.map.folder) if found.map else None
        kept = str(found.model) if found.model else None
        typer.echo(json.dumps({"map": made, "model": kept, "correction": asdict(found.told)}, indent=2))
        return
    if found.map is not None:
        screen.result(found.map)
    _show(screen, found.told)
    if found.model is not None:
        screen.out.print(f"model kept in {found.model}: geounet predict SCENE --model {found.model.name}")


def suggest(
    map_folder: Map,
    number: Annotated[int, typer.Option("--number", "-n", help="How many places.", min=1, max=1000)] = 30,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="GeoJSON file; without it, standard output.", show_default=False)
    ] = None,
) -> None:
    """Points of a map to look at, the most useful first, as GeoJSON."""
    from geounet.correction.suggest import suggest as places
    from geounet.correction.suggest import write_suggestions

    if out is None:
        typer.echo(json.dumps(places(map_folder, number), ensure_ascii=False))
        return
    found = write_suggestions(map_folder, number, out)
    typer.echo(f"{found} places to look at, the most useful first: {out}", err=True)


def _merges(texts: list[str]) -> dict[str, str]:
    merges = {}
    for text in texts:
        name, _, into = (part.strip() for part in text.partition("="))
        if not name or not into:
            raise typer.BadParameter(f"'{text}': write --merge CLASS=INTO")
        merges[name] = into
    return merges


def _show(screen: "Screen", told: "Told") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("class", "before (ha)", "after (ha)", "corrections", "agreed before", "cross-validated"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in told.classes:
        table.add_row(
            row.name,
            _hectares(row.area_before_m2),
            _hectares(row.area_after_m2),
            str(row.corrections),
            _percent(row.agreed_before),
            _percent(row.agreed_after),
        )
    table.add_row("all", "", "", str(told.corrections), _percent(told.agreed_before), _percent(told.agreed_after))
    screen.out.print(table)
    for wrong in told.contradicted:
        screen.out.print(f"correction {wrong.number} says {wrong.wanted}, the new map still {wrong.mapped}")


def _hectares(area: float | None) -> str:
    return "" if area is None else f"{area / 1e4:,.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
