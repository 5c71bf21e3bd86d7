"""The confusion matrix as a picture."""

from pathlib import Path
from typing import Any

import numpy as np

from geounet.errors import TrainingError
from geounet.evaluation.metrics import Confusion


def pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        raise TrainingError("pictures need matplotlib: pip install 'geounet[train]'") from None
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def write_confusion(path: Path, confusion: Confusion) -> None:
    """Rows: truth, in shares of the class; columns: predicted."""
    plt = pyplot()
    share = confusion.counts / np.maximum(1, confusion.counts.sum(axis=1, keepdims=True))
    size = 2 + 0.8 * len(confusion.names)
    figure, axes = plt.subplots(figsize=(size, size))
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for row, col in np.ndindex(*share.shape):
        axes.text(
            col,
            row,
            f"{share[row, col]:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share[row, col] > 0.5 else "black",
        )
    axes.set_xticks(range(len(confusion.names)), confusion.names, rotation=45, ha="right")
    axes.set_yticks(range(len(confusion.names)), confusion.names)
    axes.set(xlabel="predicted", ylabel="truth", title=f"mean IoU {confusion.miou:.3f}")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
