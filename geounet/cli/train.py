"""`geounet train`, `geounet contact-sheet`, `geounet pseudo-label` and `geounet evaluate`."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from geounet.evaluation.report import Report
    from geounet.train.fit import Moment

Config = Annotated[Path, typer.Argument(help="A training configuration, TOML.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder that the configuration's paths start from.", show_default="the configuration's folder"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(train)
    app.command()(contact_sheet)
    app.command()(pseudo_label)
    app.command()(evaluate)


def train(
    config: Config,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default="NAME-run")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Do not go on with an interrupted run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a network as a configuration says; the result is a bundle. The same command goes on after a stop."""
    from geounet.train.config import load_config
    from geounet.train.run import train as run_training

    name = load_config(config).name
    folder = out or Path(f"{name}-run")
    with _progress(quiet=as_json) as (on_moment, show):
        trained = run_training(
            config, data or config.parent, folder, device=device, restart=restart, on_moment=on_moment
        )
        show()
    if as_json:
        scores = [s.model_dump(mode="json") for s in trained.scores]
        typer.echo(json.dumps({"bundle": str(trained.bundle.folder), "scores": scores}))
        return
    for score in trained.scores:
        by_class = ", ".join(f"{n} {v:.2f}" for n, v in score.iou.items())
        typer.echo(f"{score.data}: mean IoU {score.miou:.3f} ({by_class})")
    typer.echo(f"bundle: {trained.bundle.folder}\nuse it: geounet predict SCENE --model {trained.bundle.folder}")


def contact_sheet(
    config: Config,
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture.")] = Path("contact-sheet.png"),
) -> None:
    """Draw augmented training crops beside their labels: look at them before a long run."""
    from geounet.datasets.load import load_data
    from geounet.train.config import load_config
    from geounet.train.pictures import write_contact_sheet

    checked = load_config(config)
    write_contact_sheet(out, checked, load_data(checked, data or config.parent))
    typer.echo(f"written: {out}")


def pseudo_label(
    bundle: Annotated[str, typer.Argument(help="Name or folder of the bundle that labels.", show_default=False)],
    config: Config,
    source: Annotated[str, typer.Option(help="Which source of the configuration to label.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder for the labels, one PNG an image.")],
    data: Data = None,
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Least probability of a label; below it, the old label stays.")
    ] = 0.8,
    tta: Annotated[str, typer.Option(help="Views averaged of every image: none, flips, d4, scales, all.")] = "d4",
    as_json: AsJson = False,
) -> None:
    """Label a source's images with a bundle, within what their labels allow: for self-training."""
    from rich.console import Console
    from rich.progress import Progress

    from geounet.model.bundle import ModelBundle
    from geounet.train.config import load_config
    from geounet.train.pseudo import write_pseudo_labels

    checked = load_config(config)
    with Progress(console=Console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("labelling", total=None)
        made = write_pseudo_labels(
            ModelBundle.load(bundle),
            checked,
            data or config.parent,
            source,
            out,
            confidence=confidence,
            tta=tta,
            on_image=lambda done, images: bar.update(task, completed=done, total=images),
        )
    if as_json:
        typer.echo(json.dumps(asdict(made) | {"folder": str(made.folder)}))
        return
    for name, share in made.shares.items():
        typer.echo(f"{share:7.2%}  {name}")
    classes = ", ".join(f'"{value}" = "{name}"' for value, name in made.classes.items())
    typer.echo(f"{made.images} images labelled. In the source '{source}' of the next run's configuration:")
    folder = _below(made.folder.resolve(), (data or config.parent).resolve())
    typer.echo(f'labels = "{folder}"\nlabel_suffix = ".png"\nclasses = {{ {classes} }}')
    if any(s.label_folder for s in checked.source if s.name == source):
        typer.echo("# and no label_folder")


def _below(path: Path, root: Path) -> Path:
    """A path as a configuration gives it: relative to the data folder where it lies there."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def evaluate(
    bundle: Annotated[str | None, typer.Argument(help="Name or folder of a bundle.", show_default=False)] = None,
    config: Annotated[
        Path | None, typer.Argument(help="A training configuration: its validation data.", show_default=False)
    ] = None,
    data: Data = None,
    part: Annotated[str, typer.Option(help="Which part of the data: val, train, all.")] = "val",
    tta: Annotated[
        str, typer.Option(help="Average several views of every chip: none, flips, d4, scales, all.")
    ] = "none",
    raster: Annotated[
        Path | None, typer.Option(help="Score this class raster instead of a bundle.", show_default=False)
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label raster for --raster.", show_default=False)] = None,
    classes: Annotated[
        str | None, typer.Option(help="Label values as legend values: 0=5,1=1,4=4.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Bundle whose legend --raster is in.")] = "overhead-rgb",
    fold: Annotated[
        list[str] | None,
        typer.Option(
            help="Another BUNDLE=CONFIG, trained with other places left out: sources that tell places are scored over "
            "all folds together. Give it once a fold.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, torch, openvino.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for report.json, report.md and pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a bundle on labelled data, or a class raster against labels."""
    if raster is not None:
        if labels is None:
            raise typer.BadParameter("--raster needs --labels, the raster to compare with")
        reports = [_of_raster(raster, labels, _pairs(classes), model)]
    elif bundle is None or config is None:
        raise typer.BadParameter("give a bundle and a configuration, or --raster and --labels")
    else:
        if part not in ("val", "train", "all"):
            raise typer.BadParameter("--part is val, train or all")
        if fold and part != "val":
            raise typer.BadParameter("--fold is for the places that were left out: --part val")
        pairs = [(bundle, config), *(_fold(text) for text in fold or ())]
        reports = _of_bundles(pairs, data or config.parent, part, tta, engine, device)
    _tell(reports, out, as_json)


def _of_raster(raster: Path, labels: Path, classes: dict[int, int] | None, model: str) -> "Report":
    from geounet.evaluation.report import evaluate_raster
    from geounet.model.bundle import ModelBundle

    return evaluate_raster(raster, labels, ModelBundle.load(model).legend, classes)


def _fold(text: str) -> tuple[str, Path]:
    bundle, equals, config = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--fold is BUNDLE=CONFIG, not '{text}'")
    return bundle, Path(config)


def _of_bundles(
    pairs: list[tuple[str, Path]], data: Path, part: str, tta: str, engine: str, device: str
) -> "list[Report]":
    """The sources of the first pair; those that tell places over all pairs together."""
    from geounet.datasets.load import load_data, load_validation
    from geounet.errors import TrainingError
    from geounet.evaluation.predictor import Predictor, chip_size_for
    from geounet.evaluation.report import evaluate_folds
    from geounet.model.bundle import ModelBundle
    from geounet.train.config import load_config

    models = [ModelBundle.load(bundle) for bundle, _ in pairs]
    loaded = [(load_validation if part == "val" else load_data)(load_config(config), data) for _, config in pairs]
    reports = []
    for first in loaded[0].sources:
        folds = []
        for model, fold in zip(models, loaded if first.config.places else loaded[:1], strict=False):
            for source in (s for s in fold.sources if s.name == first.name):
                samples = {"val": source.val, "train": source.train, "all": (*source.train, *source.val)}[part]
                if samples:
                    size = chip_size_for(samples, model.card.chip_size)
                    predictor = Predictor(model, engine=engine, device=device, tta=tta, chip_size=size)
                    folds.append((predictor, samples))
        if folds:
            reports.append(evaluate_folds(folds, loaded[0].codes, f"{first.name}, {part}"))
    if not reports:
        raise TrainingError(f"{pairs[0][1]}: no source has {part} data to score")
    return reports


def _tell(reports: "list[Report]", out: Path | None, as_json: bool) -> None:
    from geounet.evaluation.report import text_of

    text = "\n".join(text_of(reports))
    record = json.dumps([r.as_record() for r in reports], indent=None if out is None else 2)
    if out is not None:
        from geounet.evaluation.confusion_plot import write_confusion

        out.mkdir(parents=True, exist_ok=True)
        (out / "report.md").write_text(text + "\n", encoding="utf-8")
        (out / "report.json").write_text(record + "\n", encoding="utf-8")
        for index, report in enumerate(reports):
            write_confusion(out / f"confusion-{index + 1}.png", report.confusion)
    typer.echo(record if as_json else text)


def _pairs(text: str | None) -> dict[int, int] | None:
    if text is None:
        return None
    try:
        pairs = {int(a): int(b) for a, b in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise typer.BadParameter(f"--classes is a list like 0=5,1=1, not '{text}'") from None
    if not all(0 <= v <= 255 for pair in pairs.items() for v in pair):
        raise typer.BadParameter("--classes: values lie in 0-255")
    return pairs


class _progress:  # noqa: N801  # used like a function
    """A live line: step, time left, epoch, loss, images a second, when it will be done, mean IoU by source."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.quiet = quiet
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}"),
            console=Console(stderr=True),
            disable=quiet,
        )
        self.task = self.bar.add_task("train", total=None, told="reading data")

    def __enter__(self) -> "tuple[Callable[[Moment], None], Callable[[], Any]]":
        self.bar.start()
        return self._on_moment, self.bar.stop

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def _on_moment(self, moment: "Moment") -> None:
        scores = " ".join(f"{n} {v:.3f}" for n, v in moment.mious.items())
        done_at = datetime.now() + timedelta(seconds=moment.seconds_left)
        told = f"epoch {moment.epoch:.1f} loss {moment.loss:.3f} {moment.images_per_second:.1f} images/s "
        told += f"done at {done_at:%H:%M}" + (f" mIoU {scores}" if scores else "")
        self.bar.update(self.task, completed=moment.step, total=moment.steps, told=told)
