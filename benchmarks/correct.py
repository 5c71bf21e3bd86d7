"""A simulated person corrects maps of labelled places: mean IoU after 0, 10, 30, 60, 120 and 200 clicks.

    python benchmarks/correct.py PLACES [--model NAME] [--place NAME ...] [--seeds 5] [--strategy wrong|uniform|unsure]

PLACES holds `index.csv`, `images/NAME.png` and `labels/NAME.png` with classes 0 building, 1 road, 2 bare, 3 tree, 4 low
vegetation, 5 water, 255 unlabelled. The windows of a place count as one scene. A click falls on a labelled pixel: where
the present map is wrong (`wrong`), anywhere (`uniform`), or where the present map is least sure (`unsure`, what
suggestions go by). Squares of 64 pixels belong either to the clicks or to the score, never to both. The features, the
fit and the choice of its strength are the product's own; the network's seams are left out, a window being one chip.

What it prints is to be compared with the first column, zero clicks, of the same run.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from geounet.correction.adapt import adapted, blocks_of
from geounet.correction.fit import Samples
from geounet.correction.pixels import AROUND
from geounet.engines.adapters.stage_runner import open_stage_runner
from geounet.engines.choose import resolve
from geounet.model.adapters.stages import at_points
from geounet.model.bundle import ModelBundle

STEPS = (0, 10, 30, 60, 120, 200)
CLASSES = 6
PIXELS = 1500
SIDE = 352


@dataclass(frozen=True)
class Pool:
    """Labelled pixels of a place (n,), each with those around it: features (n, around, channels), logits alike."""

    features: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    target: npt.NDArray[np.int64]
    block: npt.NDArray[np.int64]


def pool_of(folder: Path, names: list[str], bundle: ModelBundle) -> Pool:
    """Some labelled pixels of every window."""
    runner = open_stage_runner(bundle, resolve("auto", "cpu", "auto"), SIDE)
    steps = [(a, b) for a in range(-AROUND, AROUND + 1) for b in range(-AROUND, AROUND + 1)]
    steps.sort(key=lambda step: abs(step[0]) + abs(step[1]))
    parts = []
    for number, name in enumerate(names):
        image = np.asarray(Image.open(folder / "images" / f"{name}.png").convert("RGB"))
        label = np.asarray(Image.open(folder / "labels" / f"{name}.png"))
        rows, cols = label.shape
        padded = np.pad(image, ((0, SIDE - rows), (0, SIDE - cols), (0, 0)), mode="reflect")
        stages, logits = runner.run(padded.transpose(2, 0, 1).astype(np.float32))
        r, c = np.nonzero(label < CLASSES)
        chosen = np.random.default_rng(number).permutation(len(r))[:PIXELS]
        r, c = r[chosen], c[chosen]
        at = [(np.clip(r + a, 0, rows - 1), np.clip(c + b, 0, cols - 1)) for a, b in steps]
        features = np.stack([at_points(stages, x, y, SIDE) for x, y in at], axis=1)
        scores = np.stack([logits[:, x, y].T for x, y in at], axis=1)
        parts.append((features, scores, label[r, c].astype(np.int64), blocks_of(r, c, number)))
    return Pool(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def simulate(pool: Pool, seed: int, strategy: str) -> Iterator[tuple[int, float, float]]:
    """(clicks, mean IoU, seconds of the fit) as a person goes on clicking."""
    rng = np.random.default_rng(seed)
    squares = np.unique(pool.block)
    scored = np.isin(pool.block, rng.permutation(squares)[: len(squares) // 2])
    present = [c for c in range(CLASSES) if (pool.target[scored] == c).mean() > 0.005]
    scores = pool.logits[:, 0].astype(np.float64)
    free, clicks, seconds = np.flatnonzero(~scored), np.array([], dtype=np.int64), 0.0
    for step in STEPS:
        if step:
            free = np.setdiff1d(free, clicks)
            clicks = np.concatenate([clicks, _next(pool, scores, free, step - len(clicks), strategy, rng)])
            if len(np.unique(pool.target[clicks])) > 1:
                began = time.perf_counter()
                scores = _corrected(pool, clicks)
                seconds = time.perf_counter() - began
        yield step, _miou(scores[scored].argmax(axis=1), pool.target[scored], present), seconds


def _next(
    pool: Pool,
    scores: npt.NDArray[np.float64],
    free: npt.NDArray[np.int64],
    count: int,
    strategy: str,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    if strategy == "unsure":
        share = np.exp(scores[free] - scores[free].max(axis=1, keepdims=True))
        sure = (share / share.sum(axis=1, keepdims=True)).max(axis=1)
        some = rng.permutation(len(free))[: 20 * count]  # spread: the least sure of all lie side by side
        return free[some[np.argsort(sure[some], kind="stable")[:count]]]
    if strategy == "wrong":
        wrong = free[scores[free].argmax(axis=1) != pool.target[free]]
        free = wrong if len(wrong) >= count else free
    return rng.permutation(free)[:count]


def _corrected(pool: Pool, clicks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    around = pool.features.shape[1]
    flat = pool.features[clicks].reshape(-1, pool.features.shape[2])
    prior = pool.logits[clicks].reshape(-1, CLASSES).astype(np.float64)
    group = np.repeat(np.arange(len(clicks)), around)
    target = np.repeat(pool.target[clicks], around)
    samples = Samples(flat, prior, target, np.full(len(flat), 1 / around), group)
    fitted, _ = adapted(samples, pool.features[::20, 0], np.repeat(pool.block[clicks], around))
    return fitted.scores(pool.features[:, 0], pool.logits[:, 0].astype(np.float64))


def _miou(told: npt.NDArray[np.int64], target: npt.NDArray[np.int64], present: list[int]) -> float:
    both = [((told == c) & (target == c)).sum() / max(((told == c) | (target == c)).sum(), 1) for c in present]
    return float(np.mean(both))


def main() -> None:
    """Print a line a place and strategy, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", type=Path)
    parser.add_argument("--model", default="overhead-rgb")
    parser.add_argument("--place", action="append")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--strategy", action="append", choices=("wrong", "uniform", "unsure"))
    given = parser.parse_args()
    bundle = ModelBundle.load(given.model)
    names: dict[str, list[str]] = {}
    with (given.places / "index.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["rows"]) <= SIDE and int(row["cols"]) <= SIDE:
                names.setdefault(row["place"], []).append(row["name"])
    print("place                     strategy " + "".join(f"{step:>8}" for step in STEPS) + "  fit (s)")
    means: dict[str, list[list[float]]] = {}
    for place in given.place or names:
        pool = pool_of(given.places, names[place][: given.windows], bundle)
        for strategy in given.strategy or ("wrong", "uniform", "unsure"):
            runs = [list(simulate(pool, seed, strategy)) for seed in range(given.seeds)]
            scores = np.mean([[score for _, score, _ in run] for run in runs], axis=0)
            seconds = float(np.mean([run[-1][2] for run in runs]))
            means.setdefault(strategy, []).append(scores.tolist())
            print(f"{place:25} {strategy:8} " + "".join(f"{s:8.3f}" for s in scores) + f"{seconds:9.2f}", flush=True)
    for strategy, rows in means.items():
        print(f"{'mean':25} {strategy:8} " + "".join(f"{s:8.3f}" for s in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
