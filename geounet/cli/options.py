"""The options that commands share, and how their texts are read. Those of a map are made from `geounet.options`."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, get_args, get_origin

import typer

from geounet.errors import OptionError
from geounet.options import Described, Options, described

Scene = Annotated[str, typer.Argument(help="A GeoTIFF.", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="Name or folder of a bundle; see `geounet models`.")]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a map that is there; it stays until the new one is done.")
]

Restart = Annotated[bool, typer.Option("--restart", help="Do not go on with an interrupted run, start over.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def flag_of(option: str, called: str | None = None) -> str:
    """What the command line calls an option of `geounet.options.Options`."""
    return described()[option].flag if called is None or called == option else f"--{called.replace('_', '-')}"


def with_map_options(*only: str, **called: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of a map in place of its parameter `options`, all of them or `only` some.

    The command is called with `options` made and checked. What makes no sense is wrong usage, told with its flag.
    `called` gives options another name, for a command that has one of theirs: bands="scene_bands".
    """
    offered = {n: o for n, o in described().items() if o.about.command and (not only or n in only)}

    def change(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == "options":
                parameters += [_parameter(called.get(name, name), option) for name, option in offered.items()]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        @wraps(command)
        def call(**given: Any) -> Any:
            chosen = {name: given.pop(called.get(name, name)) for name in offered}
            return command(**given, options=make_options(chosen, called))

        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": signature.return_annotation}
        return call

    return change


def _parameter(called: str, option: Described) -> inspect.Parameter:
    """The parameter of one option as typer reads it: texts for what is not a number or a flag."""
    name = option.field.name
    kind, constraints = _plain(option.annotation)
    about: dict[str, Any] = {"help": option.text, **constraints}
    default = option.field.default
    if isinstance(default, tuple):
        default = ",".join(default) or None
    if option.about.default is not None:
        about["show_default"] = option.about.default
    if name in READERS:
        kind = str | None if default is None else str
        about = {k: v for k, v in about.items() if k not in ("min", "max")}
    shown = Annotated[kind, typer.Option(flag_of(name, called), **about)]  # type: ignore[valid-type]
    return inspect.Parameter(called, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=shown)


def _plain(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """What typer is to parse for an annotation, and the bounds of a number."""
    inner = get_args(annotation)[0]
    alternatives = [a for a in get_args(inner) if a is not type(None)] if type(None) in get_args(inner) else [inner]
    first, optional = alternatives[0], type(None) in get_args(inner)
    bounds: dict[str, Any] = {}
    if get_origin(first) is Annotated:
        first, *notes = get_args(first)
        for note in (m for n in notes for m in getattr(n, "metadata", ())):
            bounds |= {
                k: v
                for k, v in (("min", getattr(note, "ge", None)), ("max", getattr(note, "le", None)))
                if v is not None
            }
    kind = first if first in (bool, int, float, str) else str
    return (kind | None if optional else kind), (bounds if kind in (int, float) else {})


def make_options(given: Mapping[str, Any], called: Mapping[str, str] | None = None) -> Options:
    """The options of a map from a command's arguments, those that were left out as they are by default.

    Raises typer.BadParameter, which names the flag, for what makes no sense.
    """
    try:
        return Options(**{name: READERS.get(name, _as_given)(value) for name, value in given.items()})
    except OptionError as error:
        flag = flag_of(error.option, (called or {}).get(error.option))
        raise typer.BadParameter(str(error.args[0]), param_hint=f"'{flag}'") from None


def _as_given(value: Any) -> Any:
    return value


def parse_bands(text: str | None) -> dict[str, int] | None:
    """`red=5,green=3,blue=2` to a mapping from band name to band number, from 1."""
    if text is None:
        return None
    bands: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip().lower()
        if not name or not number.strip().isdigit() or name in bands:
            problem = f"'{text}': write name=number pairs, each name once, like red=5,green=3,blue=2"
            raise OptionError(problem, option="bands")
        bands[name] = int(number)
    return bands


def parse_nodata(text: str | None) -> tuple[float, ...]:
    """`0,255` to numbers; nothing to none."""
    try:
        return tuple(float(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        raise OptionError(f"'{text}': write numbers, like 0 or 0,255 or -9999", option="nodata") from None


def parse_bytes(text: str | None) -> int | None:
    """`800MB` or `4GB` to bytes."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB)", text.strip(), re.IGNORECASE)
    if not found:
        raise OptionError(f"'{text}': write a size like 800MB or 4GB", option="max_memory")
    return int(float(found[1]) * {"MB": 1e6, "GB": 1e9}[found[2].upper()])


def parse_formats(text: str) -> tuple[str, ...]:
    """`gpkg,geojson` to a tuple of names."""
    return tuple(part.strip().lower() for part in text.split(",") if part.strip())


READERS: Mapping[str, Callable[[Any], Any]] = {
    "bands": parse_bands,
    "nodata": parse_nodata,
    "max_memory": parse_bytes,
    "formats": parse_formats,
}
"""How the texts of options are read that are more than a word or a number."""
