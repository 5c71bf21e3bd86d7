"""The map of a labelled image by the very steps that map a scene."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from geounet.model.bundle import ModelBundle
from geounet.model.stretch import Stretch
from tiles.chips.blend import blend
from tiles.chips.cut import cut
from tiles.chips.grid import ChipGrid
from tiles.window import Window

if TYPE_CHECKING:
    from geounet.datasets.load import Sample
    from geounet.engines.engine import Engine
from geounet.evaluation.grouping import Float32


@dataclass(frozen=True)
class _Pixels:
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ImageScene:
    """An image in memory, (bands, rows, columns), read as the tiler reads a scene."""

    counts: npt.NDArray[Any]

    def read(self, window: Window) -> _Pixels:
        """The pixels of a window that lies inside the image."""
        rows, cols = slice(window.top, window.bottom), slice(window.left, window.right)
        part = self.counts[:, rows, cols]
        return _Pixels(part, np.ones(part.shape[1:], dtype=bool))


def chip_size_for(samples: Iterable["Sample"], usual: int) -> int:
    """Chips for images of one source: no larger than the largest image asks for, as `predict` maps small scenes."""
    largest = max(max(sample.codes.shape) for sample in samples)
    return min(usual, -(-largest // 32) * 32)


class Predictor:
    """A bundle and its engine; `tta` is one of `geounet.options.TTA`, `chip_size` the bundle's if not given."""

    def __init__(
        self,
        bundle: ModelBundle,
        *,
        engine: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        tta: str = "none",
        chip_size: int | None = None,
    ) -> None:
        from geounet.engines.choose import check_tta, resolve

        self.bundle = bundle
        self.chip_size = chip_size or bundle.card.chip_size
        self.overlap = min(bundle.card.overlap, self.chip_size // 2)
        self.spec, self.tta = resolve(engine, device, precision, onnx=bundle.card.onnx is not None), check_tta(tta)
        self._engines: dict[float, Engine] = {}
        self.engine = self._engine_for(None)

    def probabilities(self, counts: npt.NDArray[np.uint8], gsd_m: float | None = None) -> Float32:
        """Class probabilities (classes, rows, columns), stitched, of counts (bands, rows, columns) on 0-255.

        `gsd_m` is the image's metres a pixel: it decides, as in a map, whether a coarser view is scored besides.
        """
        total = self._stitched(counts, self._engine_for(gsd_m))
        return np.asarray(total / np.sum(total, axis=0, keepdims=True), dtype=np.float32)

    def _engine_for(self, gsd_m: float | None) -> "Engine":
        from geounet.engines.choose import open_engine

        scale = 1.0 if gsd_m is None else round(self.bundle.card.context_scale(gsd_m), 4)
        if scale not in self._engines:
            self._engines[scale] = open_engine(self.bundle, self.spec, self.chip_size, 1.0, self.tta, scale)
        return self._engines[scale]

    def _stitched(self, counts: npt.NDArray[np.uint8], engine: "Engine") -> Float32:
        grid = ChipGrid((counts.shape[1], counts.shape[2]), self.chip_size, self.overlap)
        chips = cut(ImageScene(np.ascontiguousarray(counts)), grid)
        scores = engine.predict(chips, Stretch("none"))
        blended = engine.fetch(blend(scores, grid, self.bundle.legend, probabilities=True))
        strips = [s.probabilities for s in blended]
        whole = np.concatenate([s for s in strips if s is not None], axis=1).astype(np.float32)
        return np.asarray(np.maximum(whole, 0.25) / 100, dtype=np.float32)  # one byte a percent: nothing is impossible
