"""What faster arithmetic costs: mean IoU on a bundle's left-out data in f32 and in bf16, through the same engine.

`python -m benchmarks.precision` scores the shipped model on the validation part of its own training configuration;
`--model FOLDER` another bundle, with its `train.toml` inside. The aim: within 0.2 points (0.002).
"""

from benchmarks.common import arguments, report
from geounet.datasets.load import load_validation
from geounet.evaluation.predictor import Predictor, chip_size_for
from geounet.evaluation.report import evaluate_samples
from geounet.model.bundle import ModelBundle
from geounet.train.config import load_config


def main() -> None:
    """Run it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--precisions", default="f32,bf16", help="the first is what the others are compared with")
    parser.add_argument("--engine", default="openvino")
    given = parser.parse_args()
    bundle = ModelBundle.load(given.model)
    loaded = load_validation(load_config(bundle.folder / "train.toml"), given.data)
    rows = []
    for source in loaded.sources:
        if not source.val:
            continue
        size = chip_size_for(source.val, bundle.card.chip_size)
        predictors = {
            p: Predictor(bundle, engine=given.engine, precision=p, chip_size=size) for p in given.precisions.split(",")
        }
        scores = {p: evaluate_samples(q, source.val, loaded.codes, source.name) for p, q in predictors.items()}
        first = next(iter(scores.values())).confusion.miou
        for precision, found in scores.items():
            rows.append(
                {
                    "data": found.data,
                    "images": found.images,
                    "precision": precision,
                    "miou_%": round(100 * found.confusion.miou, 2),
                    "points_against_first": round(100 * (found.confusion.miou - first), 3),
                    "accuracy_%": round(100 * found.confusion.accuracy, 2),
                }
            )
        report("precision", rows, given.work)


if __name__ == "__main__":
    main()
