"""`geounet models`: list, add, show, verify, export and remove models."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geounet.cli.options import AsJson, with_map_options
from geounet.options import Options

if TYPE_CHECKING:
    from geounet.registry.add import Added
    from geounet.registry.contact_picture import Contact
    from geounet.registry.describe import Told

Name = Annotated[str, typer.Argument(help="Name or folder of a model.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="List the installed models; add, show, verify, export and remove them.")
    group.callback(invoke_without_command=True)(models)
    for command in (add, show, verify, export, remove):
        group.command()(command)
    app.add_typer(group, name="models")


def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the installed models: bands, resolution, classes, scores."""
    if context.invoked_subcommand is not None:
        return
    from geounet.cli.screen import Screen
    from geounet.model.bundle import ModelBundle, added_bundles, shipped_bundles

    bundles = [ModelBundle.load(name) for name in (*shipped_bundles(), *added_bundles())]
    if as_json:
        typer.echo(json.dumps([b.card.model_dump(mode="json") for b in bundles], indent=2))
    else:
        Screen().models(bundles)


@with_map_options("bands", "assume_crs", "nodata", "stretch", "force", "trust", bands="scene_bands")
def add(
    source: Annotated[
        str,
        typer.Argument(
            help="A bundle (folder, zip, tar), an .onnx file, a folder with config.json and model.safetensors of "
            "segmentation-models-pytorch, or a SavedModel: a path, https://, s3://, gs://, abfs://.",
            show_default=False,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="What to call it.", show_default="the file's name")] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands in the network's order: blue,green,red,nir.", show_default="the file's")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Classes in channel order: background,cloud=#ff0000.", show_default="the file's"),
    ] = None,
    gsd: Annotated[
        str | None,
        typer.Option(help="Metres a pixel, one number or FINEST-COARSEST: 10-30.", show_default="the file's"),
    ] = None,
    values: Annotated[
        str | None,
        typer.Option(
            help="The image's numbers before --mean and --std: 0-255, 0-1, reflectance, reflectance*10000.",
            show_default="0-1 with Deepness metadata",
        ),
    ] = None,
    mean: Annotated[str | None, typer.Option(help="A number a band, comma between.", show_default="the file's")] = None,
    std: Annotated[str | None, typer.Option(help="A number a band, comma between.", show_default="the file's")] = None,
    layout: Annotated[str | None, typer.Option(help="nchw or nhwc.", show_default="by the shape")] = None,
    activation: Annotated[
        str | None,
        typer.Option(help="What makes probabilities: softmax, sigmoid, shares, none.", show_default="by the graph"),
    ] = None,
    output: Annotated[str | None, typer.Option(help="The output to read.", show_default="the only image")] = None,
    chip_size: Annotated[int | None, typer.Option(help="Pixels a chip side.", show_default="its own, or 512")] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels chips share.", show_default="its own, or 1/4")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.", show_default=False)] = None,
    description: Annotated[str | None, typer.Option(help="One line about it.", show_default=False)] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A published network that is known here: dynamicworld.", show_default=False),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Refuse any other file or archive.", show_default=False)] = None,
    scene: Annotated[
        str | None, typer.Option(help="A GeoTIFF: its middle is mapped and drawn.", show_default=False)
    ] = None,
    options: Options = Options(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add a model: what its file does not say is asked for; one chip is run before it is kept."""
    from geounet.registry.add import add_model

    told = _told(locals())
    added = add_model(source, told, sha256=sha256, overwrite=overwrite)
    contact = None
    if scene is not None:
        from geounet.registry.contact_picture import PICTURE, contact_picture

        contact = contact_picture(added.bundle, scene, added.bundle.folder / PICTURE, options)
    _say_added(added, contact, as_json)


def show(name: Name, as_json: AsJson = False) -> None:
    """Show a model's card, its files and its digests."""
    from geounet.model.bundle import ModelBundle

    bundle = ModelBundle.load(name)
    record = {**bundle.card.model_dump(mode="json"), "digest": bundle.digest, "folder": str(bundle.folder)}
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    from geounet.cli.screen import Screen

    screen = Screen()
    screen.models([bundle])
    screen.facts(
        {
            "licence": bundle.card.licence,
            "network": _network(bundle),
            "chips": f"{bundle.card.chip_size} px, {bundle.card.overlap} px shared",
            "values": _scale(bundle),
            "weights": f"{bundle.card.weights.file}, sha256 {bundle.card.weights.sha256}",
            "folder": str(bundle.folder),
        }
    )


def verify(name: Name, as_json: AsJson = False) -> None:
    """Check a model again: its weights' digest, its network, and that one chip gives probabilities."""
    from geounet.model.bundle import ModelBundle
    from geounet.registry.add import tried

    bundle = ModelBundle.load(name)
    found = tried(bundle)
    if as_json:
        typer.echo(json.dumps({"model": bundle.name, "digest": bundle.digest, "tried": dict(found)}, indent=2))
    else:
        typer.echo(f"{bundle.name} is whole: the weights are those of its card, and a chip gives probabilities")


def export(
    name: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.", show_default=False)],
    chip_size: Annotated[
        int | None, typer.Option(help="Pixels a side of the image it takes.", show_default="the model's")
    ] = None,
) -> None:
    """Write a model as one ONNX file that QGIS (Deepness) and GeoDeep run as it is."""
    from geounet.model.bundle import ModelBundle
    from geounet.registry.export import export_model

    written = export_model(ModelBundle.load(name), out, chip_size)
    typer.echo(f"{written} ({written.stat().st_size / 1e6:.1f} MB)")


def remove(name: Annotated[str, typer.Argument(help="Name of an added model.", show_default=False)]) -> None:
    """Remove an added model; maps that were made with it stay."""
    from geounet.registry.add import remove_model

    typer.echo(f"removed {remove_model(name)}")


def _told(given: dict[str, Any]) -> "Told":
    from geounet.registry.describe import VALUES, Told, parse_classes

    for option, choices in (
        ("values", tuple(VALUES)),
        ("layout", ("nchw", "nhwc")),
        ("preset", ("dynamicworld",)),
        ("activation", ("softmax", "sigmoid", "shares", "none")),
    ):
        if given[option] is not None and given[option] not in choices:
            raise typer.BadParameter(f"--{option} '{given[option]}': choose one of {', '.join(choices)}")
    return Told(
        name=given["name"],
        bands=None if given["bands"] is None else tuple(b.strip().lower() for b in given["bands"].split(",")),
        classes=None if given["classes"] is None else parse_classes(given["classes"]),
        gsd_m=_gsd(given["gsd"]),
        values=given["values"],
        mean=_numbers("mean", given["mean"]),
        std=_numbers("std", given["std"]),
        layout=given["layout"],
        activation=given["activation"],
        output=given["output"],
        chip_size=given["chip_size"],
        overlap=given["overlap"],
        licence=given["licence"],
        description=given["description"],
        preset=given["preset"],
    )


def _gsd(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        ends = [float(part) for part in text.split("-")]
    except ValueError:
        ends = []
    if not 1 <= len(ends) <= 2 or min(ends) <= 0 or ends != sorted(ends):
        raise typer.BadParameter(f"--gsd '{text}': write metres a pixel, like 0.5, or finest and coarsest, like 10-30")
    return ends[0], ends[-1]


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--{option} '{text}': write a number a band, like 0.485,0.456,0.406") from None


def _say_added(added: "Added", contact: "Contact | None", as_json: bool) -> None:
    bundle = added.bundle
    if as_json:
        record: dict[str, Any] = {
            "card": bundle.card.model_dump(mode="json"),
            "digest": bundle.digest,
            "folder": str(bundle.folder),
            "notes": list(added.notes),
            "tried": dict(added.tried),
        }
        if contact is not None:
            record["contact"] = {"picture": str(contact.path), "shares": contact.shares, "warnings": contact.warnings}
        typer.echo(json.dumps(record, indent=2))
        return
    from geounet.cli.screen import Screen

    screen = Screen()
    screen.models([bundle])
    facts = {"network": _network(bundle), "values": _scale(bundle), "folder": str(bundle.folder)}
    if added.tried:
        rate = added.tried["pixels"] / added.tried["seconds"] / 1e6
        facts["one chip"] = f"{bundle.card.chip_size} px in {added.tried['seconds']:.2f} s ({rate:.2f} Mpx/s a core)"
    screen.facts({**facts, **{f"note {i}": note for i, note in enumerate(added.notes, start=1)}})
    if contact is not None:
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in contact.shares.items())
        screen.facts({"middle of it": shares, **dict.fromkeys(contact.warnings, ""), "picture": str(contact.path)})


def _network(bundle: Any) -> str:
    told = bundle.card.onnx
    if told is None:
        return f"{bundle.card.architecture.name} on {bundle.card.architecture.encoder}"
    size = f"{told.size} px only" if told.size else "any size"
    return f"ONNX, {told.layout}, {size}, output '{told.output}' of {told.channels}, {told.activation}"


def _scale(bundle: Any) -> str:
    one = bundle.card.reflectance_one
    scale = "0-255" if one is None else f"reflectance, 1 is {one:g}"
    mean, std = (", ".join(f"{v:.6g}" for v in part) for part in (
        bundle.card.normalisation.mean, bundle.card.normalisation.std))  # fmt: skip
    return f"{scale}; mean {mean}; deviation {std}"
