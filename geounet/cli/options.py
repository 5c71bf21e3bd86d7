"""The options that commands share, and how their texts are read."""

import math
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geounet.options import MOST_AREA_M2, MOST_SIMPLIFY_PX, TTA, read_bands, read_stretch
from tiles.vectors.formats import FORMATS

if TYPE_CHECKING:
    from geounet.options import Options


Scene = Annotated[str, typer.Argument(help="A GeoTIFF.", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="Name or folder of a bundle; see `geounet models`.")]

Bands = Annotated[
    str | None,
    typer.Option(help="Which band of the file is which, from 1: red=5,green=3,blue=2.", show_default=False),
]

Stretch = Annotated[
    str | None,
    typer.Option(
        help="LO,HI: these counts become dark and bright; none: counts are 0-255 already; "
        "match: quantiles as in training; auto: match, but for 8-bit counts none.",
        show_default="auto",
    ),
]

Nodata = Annotated[
    str | None,
    typer.Option(
        help="Values of empty pixels, in place of the file's own: 0 or 0,255; a mask in the file still counts.",
        show_default="the file's",
    ),
]

AssumeCrs = Annotated[str | None, typer.Option(help="CRS of a file that has none: EPSG:32613.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Go on where the resolution does not fit the model.")]

Trust = Annotated[
    bool,
    typer.Option("--trust", help="Open a scene that makes GDAL open other files or addresses: you know its maker."),
]

MinArea = Annotated[
    float | None,
    typer.Option(
        help="Smallest polygon in square metres; smaller ones join a neighbour. 0: none do.",
        min=0,
        max=MOST_AREA_M2,
        show_default="16 pixels",
    ),
]

Simplify = Annotated[
    float | None,
    typer.Option(
        help="Tolerance in pixels by which polygon borders may be simplified. 0: they follow the pixels.",
        min=0,
        max=MOST_SIMPLIFY_PX,
        show_default="1.25",
    ),
]

Formats = Annotated[str, typer.Option(help="Polygon files: any of gpkg,geojson,geojsonl,fgb,parquet.")]
Probabilities = Annotated[bool, typer.Option("--probabilities", help="Also write probabilities.tif, a band a class.")]
ChipSize = Annotated[int | None, typer.Option(help="Pixels a chip side.", show_default="auto", min=32)]
Overlap = Annotated[int | None, typer.Option(help="Pixels that chips share.", show_default="the model's", min=0)]
EngineName = Annotated[str, typer.Option("--engine", help="What runs the network: auto, torch, openvino, onnxruntime.")]
Device = Annotated[
    str, typer.Option(help="Where it runs: auto, cpu, cuda, cuda:1, mps; onnxruntime: tensorrt, coreml, directml.")
]
Precision = Annotated[str, typer.Option(help="auto, f32, bf16, fp16.")]

Tta = Annotated[
    str,
    typer.Option(
        help="Score every chip in several views and average them (test-time augmentation): none, flips (4), d4 (8), "
        "scales (3), all (24). Takes that many times as long.",
    ),
]

MaxMemory = Annotated[str | None, typer.Option(help="Most memory to take: 800MB, 4GB.", show_default="about 1.4GB")]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a map that is there; it stays until the new one is done.")
]

Restart = Annotated[bool, typer.Option("--restart", help="Do not go on with an interrupted run, start over.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def make_options(given: dict[str, Any]) -> "Options":
    """The options of a map from a command's arguments. Raises typer.BadParameter for what makes no sense."""
    from geounet.options import Options

    return Options(
        bands=parse_bands(given["bands"]),
        assume_crs=given["assume_crs"],
        nodata=parse_nodata(given["nodata"]),
        stretch=parse_stretch(given["stretch"]),
        force=given["force"],
        trust=given["trust"],
        min_area_m2=parse_number(given["min_area"]),
        simplify_px=parse_number(given["simplify"]),
        formats=parse_formats(given["formats"]),
        probabilities=given["probabilities"],
        chip_size=given["chip_size"],
        overlap=given["overlap"],
        engine=given["engine"],
        device=given["device"],
        precision=given["precision"],
        max_memory=parse_bytes(given["max_memory"]),
        tta=parse_tta(given["tta"]),
    )


def parse_bands(text: str | None) -> dict[str, int] | None:
    """`red=5,green=3,blue=2` to a mapping from band name to band number, from 1."""
    if text is None:
        return None
    bands: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip().lower()
        if not name or not number.strip().isdigit() or name in bands:
            raise typer.BadParameter(f"'{text}': write name=number pairs, each name once, like red=5,green=3,blue=2")
        bands[name] = int(number)
    try:
        return read_bands(bands)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_stretch(text: str | None) -> str | None:
    """`LO,HI`, `none` or `match`; None for `auto`."""
    try:
        return None if text is None else read_stretch(text)
    except ValueError as error:
        raise typer.BadParameter(f"--stretch {error}") from None


def parse_tta(text: str) -> str:
    """One of the views that there are."""
    if text not in TTA:
        raise typer.BadParameter(f"no test-time augmentation '{text}', choose one of: {', '.join(TTA)}")
    return text


def parse_number(number: float | None) -> float | None:
    """A number that is one: `nan` passes every comparison."""
    if number is not None and math.isnan(number):
        raise typer.BadParameter("'nan' is no number")
    return number


def parse_nodata(text: str | None) -> tuple[float, ...]:
    """`0,255` to numbers; nothing to none."""
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(","))) if text is not None else ()
    except ValueError:
        raise typer.BadParameter(f"'{text}': write numbers, like 0 or 0,255 or -9999") from None


def parse_bytes(text: str | None) -> int | None:
    """`800MB` or `4GB` to bytes."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB)", text.strip(), re.IGNORECASE)
    if not found:
        raise typer.BadParameter(f"'{text}': write a size like 800MB or 4GB")
    return int(float(found[1]) * {"MB": 1e6, "GB": 1e9}[found[2].upper()])


def parse_formats(text: str) -> tuple[str, ...]:
    """`gpkg,geojson` to a tuple of known formats."""
    formats = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if unknown := [f for f in formats if f not in FORMATS]:
        raise typer.BadParameter(f"no polygon format '{unknown[0]}', choose from: {', '.join(FORMATS)}")
    return formats
