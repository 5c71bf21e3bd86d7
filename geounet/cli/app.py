"""The command line: parse arguments, call the rest. Nothing heavy is imported before a command runs."""

import io
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

import geounet
from geounet.cli import correct, info, models, polygonise, predict, serve, stats, train
from geounet.errors import EngineError, GeounetError, ResourceError
from tiles.errors import OutputError, TilesError

USAGE, BAD_INPUT, NO_ROOM, INTERRUPTED = 2, 3, 4, 130

UsageProblem: Any = typer.BadParameter.__mro__[2]
"""What typer raises for every wrong use; it exports only this one's descendants."""

app = typer.Typer(
    name="geounet",
    help="Land-cover maps and polygons from satellite and aerial images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"geounet {geounet.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Land-cover maps and polygons from satellite and aerial images."""


for commands in (predict, correct, info, models, polygonise, stats, train, serve):
    commands.register(app)


def main() -> None:
    """Entry point: runs a command and turns its errors into one line and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be text; standard error escapes by itself
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(app))


def run(command: Callable[..., object]) -> int:
    """Run a typer application and give its exit code.

    0 done, 2 wrong usage, 3 bad input, 4 not enough resources, 130 interrupted and resumable, 1 a bug.
    """
    try:
        result = command(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except (TilesError, GeounetError) as error:
        _say(str(error))
        return exit_code(error)
    except MemoryError:
        _say("not enough memory; choose a smaller --chip-size")
        return NO_ROOM
    except UsageProblem as error:
        error.show()
        return int(error.exit_code)
    if result == INTERRUPTED:  # typer turns Ctrl-C into this code without a word
        _say("interrupted; give the same command to go on where it stopped")
    return result if isinstance(result, int) else 0


def exit_code(error: Exception) -> int:
    """The exit code of an error that was raised on purpose."""
    if isinstance(error, ResourceError):
        return NO_ROOM
    if isinstance(error, OutputError) and isinstance(error.__cause__, OSError) and error.__cause__.errno == 28:
        return NO_ROOM  # ENOSPC: the disk is full
    return USAGE if isinstance(error, EngineError) else BAD_INPUT


def _say(text: str) -> None:
    # A file's name may hold anything; what is said stays one line.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    typer.secho(f"geounet: {text}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
