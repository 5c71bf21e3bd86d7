"""What the command line shows: progress, tables, notices. Results go to standard output, all else to the error one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from geounet.outputs.files import ITEM, MAP_FILES, RUN

if TYPE_CHECKING:
    from geounet.mapping.batch import SceneResult
    from geounet.mapping.progress import OnProgress
    from geounet.mapping.progress import Progress as MapProgress
    from geounet.model.bundle import ModelBundle
    from geounet.outputs.check import Check
    from geounet.outputs.land_cover_map import LandCoverMap

_BESIDE = (RUN, ITEM, "classes.tif.aux.xml")
"""Files that a person does not open: not told of."""
_STYLES = {"ok": "green", "adjusted": "cyan", "warning": "yellow", "refused": "red"}


def escape(text: str) -> str:
    """Text as the screen can show it: no markup, and bytes of a file's name that are no UTF-8 as `\\udce9`."""
    return escape_markup(text.encode("utf-8", "backslashreplace").decode("utf-8"))


class Screen:
    """Everything a command prints; `quiet` keeps standard output for JSON and drops the rest."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.out = Console(quiet=quiet, highlight=False)
        self.err = Console(stderr=True, quiet=quiet, highlight=False)

    @contextmanager
    def progress(self, title: str) -> "Iterator[OnProgress]":
        """A bar that names the device and shows Mpx/s and the time left."""
        with self._bars() as bar:
            task = bar.add_task(escape(_short(title)), total=None, note="opening")

            def show(progress: "MapProgress") -> None:
                bar.update(task, completed=progress.done, total=progress.total, note=_note(progress))
                if progress.stage == "prepare" and not self.err.is_terminal:  # where no bar can be seen
                    self.err.print(_preparing(progress))

            yield show

    @contextmanager
    def batch_progress(self, scenes: int) -> "Iterator[BatchBars]":
        """A bar for all scenes above one for the scene in work."""
        with self._bars() as bar:
            yield BatchBars(bar, scenes)

    def _bars(self) -> Progress:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        # Transient: what stays on the screen is the result or the error, not a bar that stopped somewhere.
        return Progress(*columns, console=self.err, transient=True, disable=self.quiet)

    def preflight(self, checks: Sequence["Check"]) -> None:
        """The checks made before the work starts, a line each."""
        table = Table(show_header=False, box=None, pad_edge=False)
        for row in checks:
            style = _STYLES[row.status]
            remedy = f" [dim]{escape(row.remedy)}[/dim]" if row.remedy else ""
            table.add_row(f"[{style}]{row.status}[/{style}]", row.topic, escape(row.text) + remedy)
        self.err.print(table)

    def result(self, found: "LandCoverMap") -> None:
        """The finished map: area and share a class, and where the files are."""
        if not found.fresh:
            self.err.print(f"{escape(str(found.folder))} holds this very map already; nothing to do")
        table = Table(title=None, box=None, pad_edge=False)
        table.add_column("class")
        table.add_column("area (ha)", justify="right")
        table.add_column("share", justify="right")
        for row in found.summary["classes"]:
            table.add_row(row["name"], f"{row['area_m2'] / 1e4:,.2f}", f"{100 * row['share']:.1f} %")
        table.add_row("all", f"{found.summary['mapped_area_m2'] / 1e4:,.2f}", "")
        self.out.print(table)
        self.out.print(
            f"model {escape(found.summary['model']['name'])}, {_engine(found.summary['plan'])}{_speed(found)}"
        )
        if found.summary["nodata_share"]:
            self.out.print(f"{100 * found.summary['nodata_share']:.1f} % of the grid is nodata")
        for file in MAP_FILES:
            if (found.folder / file.name).exists() and file.name not in _BESIDE:
                self.out.print(f"{file.what:42} {escape(str(found.folder / file.name))}", soft_wrap=True)

    def batch(self, results: "Sequence[SceneResult]") -> None:
        """One line a scene."""
        table = Table(box=None, pad_edge=False)
        for name in ("scene", "status", "seconds", "map or reason"):
            table.add_column(name, overflow="fold", justify="right" if name == "seconds" else "left")
        for r in results:
            style = "green" if r.ok else "red"
            where = str(r.folder) if r.ok else r.error
            table.add_row(escape(r.scene), f"[{style}]{r.status}[/{style}]", f"{r.seconds:.1f}", escape(where))
        self.out.print(table)

    def models(self, bundles: "Sequence[ModelBundle]") -> None:
        """Bundles with what they want and how good they are."""
        for bundle in bundles:
            card = bundle.card
            self.out.print(f"[bold]{card.name}[/bold]  {escape(card.description)}", soft_wrap=True)
            table = Table(show_header=False, box=None, pad_edge=False)
            table.add_row("  bands", ", ".join(card.bands))
            table.add_row("  resolution", f"{card.gsd_m[0]:g}-{card.gsd_m[1]:g} m a pixel")
            table.add_row("  classes", escape(", ".join(bundle.legend.names)))
            for score in card.scores:
                table.add_row("  mIoU", f"{score.miou:.3f} on {escape(score.data)}")
            table.add_row("  digest", bundle.digest[:12])
            self.out.print(table)

    def facts(self, told: "Mapping[str, str]") -> None:
        """More about the model above, a line each."""
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, text in told.items():
            table.add_row(f"  {escape(name)}", escape(text))
        self.out.print(table)


class BatchBars:
    """One bar for all scenes of a batch, one for the scene in work."""

    def __init__(self, bar: Progress, scenes: int) -> None:
        self._bar = bar
        self._scenes, self._ended, self._failed = scenes, 0, 0
        self._all = bar.add_task("all scenes", total=scenes, note=self._count())
        self._one = bar.add_task("", total=None, note="opening")

    def begin(self, title: str) -> "OnProgress":
        """Show the next scene; call what comes back with its progress."""
        self._bar.reset(self._one, total=None, description=escape(_short(title)), note="opening")

        def show(progress: "MapProgress") -> None:
            self._bar.update(self._one, completed=progress.done, total=progress.total, note=_note(progress))
            share = progress.done / progress.total if progress.total else 0.0
            self._bar.update(self._all, completed=self._ended + share)

        return show

    def end(self, *, ok: bool) -> None:
        """Count the scene that was begun last."""
        self._ended += 1
        self._failed += not ok
        self._bar.update(self._all, completed=self._ended, note=self._count())

    def _count(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._ended} of {self._scenes} scenes{failed}"


def _engine(plan: dict[str, Any]) -> str:
    views = "" if plan.get("tta", "none") == "none" else f", views averaged: {plan['tta']}"
    return f"{plan['engine']} on {plan['device']} in {plan['precision']}, chips of {plan['chip_size']} px{views}"


def _speed(found: "LandCoverMap") -> str:
    try:
        rate = json.loads((found.folder / "run.json").read_text(encoding="utf-8"))["predict_mpx_per_s"]
    except (OSError, ValueError, KeyError):
        return ""
    return f", {rate:.2f} Mpx/s" if rate else ""


def _note(progress: "MapProgress") -> str:
    where = f"{progress.plan.spec}" if progress.plan else ""
    if progress.stage == "prepare":
        return _preparing(progress)
    if progress.stage != "predict":
        return f"writing rasters and polygons · {where}"
    left = "" if progress.seconds_left is None else f" · {_clock(progress.seconds_left)} left"
    return f"{progress.rate:.2f} Mpx/s{left} · {where}"


def _preparing(progress: "MapProgress") -> str:
    size = f" for chips of {progress.plan.chip_size} px" if progress.plan else ""
    return f"preparing the model{size}: about half a minute, the first time only"


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2 - 1) :]}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
