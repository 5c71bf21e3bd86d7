"""`geounet predict` and `geounet batch`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from geounet.cli.options import AsJson, Model, Overwrite, Restart, Scene, with_map_options
from geounet.options import Options


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(predict)
    app.command()(batch)


@with_map_options()
def predict(
    scene: Scene,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the map.", show_default="SCENE-landcover")
    ] = None,
    model: Model = "overhead-rgb",
    options: Options = Options(),
    overwrite: Overwrite = False,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Make the land-cover map of one scene: rasters, polygons, areas."""
    from geounet.cli.screen import Screen
    from geounet.mapping.batch import plain_stem
    from geounet.mapping.pipeline import map_scene
    from geounet.model.bundle import ModelBundle

    target = out or Path(f"{plain_stem(scene)}-landcover")
    screen = Screen(quiet=as_json)
    with screen.progress(Path(scene).name) as on_progress:
        found = map_scene(
            scene,
            ModelBundle.load(model),
            target,
            options,
            overwrite=overwrite,
            restart=restart,
            on_progress=on_progress,
            on_preflight=screen.preflight,
        )
    if as_json:
        typer.echo(json.dumps({"map": str(found.folder), "fresh": found.fresh, "summary": found.summary}, indent=2))
    else:
        screen.result(found)


@with_map_options()
def batch(
    scenes: Annotated[list[str], typer.Argument(help="GeoTIFFs, folders, or @LIST: a text file with a scene a line.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that holds one map a scene.", show_default=False)],
    model: Model = "overhead-rgb",
    options: Options = Options(),
    overwrite: Overwrite = False,
    restart: Restart = False,
    as_json: AsJson = False,
) -> int:
    """Map many scenes, one after another; one bad scene does not stop the rest (exit code 3)."""
    from geounet.cli.screen import Screen
    from geounet.mapping.batch import find_scenes, run_batch
    from geounet.model.bundle import ModelBundle

    screen = Screen(quiet=as_json)
    bundle = ModelBundle.load(model)
    found = find_scenes(scenes)
    with screen.batch_progress(len(found)) as bars:
        results = run_batch(
            found,
            out,
            bundle,
            options,
            overwrite=overwrite,
            restart=restart,
            on_begin=bars.begin,
            on_end=lambda result: bars.end(ok=result.ok),
        )
    if as_json:
        typer.echo(json.dumps([r.as_record() for r in results], indent=2))
    else:
        screen.batch(results)
    return 0 if all(r.ok for r in results) else 3
