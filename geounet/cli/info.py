"""`geounet info`: what the tool sees in a file, and whether a model fits it."""

import json
from typing import TYPE_CHECKING

import typer

from geounet.cli.options import AsJson, Model, Scene, with_map_options
from geounet.options import Options

if TYPE_CHECKING:
    from rich.table import Table

    from geounet.mapping.cost import Cost
    from geounet.mapping.preflight import Inspection
    from tiles.scene.scene import Scene as OpenScene


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(info)


@with_map_options("bands", "assume_crs", "nodata", "stretch", "force", "trust")
def info(
    scene: Scene,
    model: Model = "overhead-rgb",
    options: Options = Options(),
    as_json: AsJson = False,
) -> int:
    """Say what is in a scene and whether the model fits it; exit code 3 where `predict` would refuse."""
    from geounet.cli.screen import Screen
    from geounet.errors import EngineError, ResourceError
    from geounet.mapping.planner import planned
    from geounet.mapping.preflight import inspect_scene
    from geounet.model.bundle import ModelBundle

    bundle = ModelBundle.load(model)

    def estimate(opened: "OpenScene") -> "Cost | None":
        try:
            return planned(opened, bundle, options)[1]
        except (EngineError, ResourceError):  # not what was asked; `predict` will tell
            return None

    found = inspect_scene(scene, bundle, options, estimate)
    if as_json:
        typer.echo(json.dumps(found.as_record(), indent=2))
    else:
        screen = Screen()
        screen.out.print(_facts(found))
        screen.out.print(_checks(found))
    return 3 if found.refused else 0


def _checks(found: "Inspection") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    colours = {"ok": "green", "adjusted": "cyan", "warning": "yellow", "refused": "red"}
    table = Table(show_header=False, box=None, pad_edge=False)
    for row in found.rows:
        remedy = f"\n-> {escape(row.remedy)}" if row.remedy else ""
        table.add_row(f"[{colours[row.status]}]{row.status}[/]", row.topic, escape(row.text) + remedy)
    return table


def _facts(found: "Inspection") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    source = found.source
    rows, cols = source.shape
    block = f"{source.block[1]} x {source.block[0]}"
    lines = {
        "file": found.path if source.size_bytes is None else f"{found.path} ({source.size_bytes / 1e6:,.1f} MB)",
        "pixels": f"{cols:,} x {rows:,}, {len(source.bands)} bands, {source.dtype}",
        "bands": ", ".join(str(band) for band in source.bands),
        "CRS": source.crs,
        "pixel": f"{source.gsd:.4g} m on the ground, at the centre",
        "validity": source.validity,
        "layout": f"{source.compression}, {source.interleaving} interleaved, blocks of {block}, overviews "
        + (", ".join(str(f) for f in source.overviews) or "none"),
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in lines.items():
        table.add_row(name, escape(text))
    return table
