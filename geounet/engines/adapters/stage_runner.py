"""What a network computes on its way, for chips one at a time: the features that adapters are fitted on."""

from typing import Any, Protocol

import numpy as np

from geounet.engines.engine import EngineSpec, Float32
from geounet.model.bundle import ModelBundle


class StageRunner(Protocol):
    """Runs one network on chips of one size."""

    def run(self, counts: Float32) -> tuple[list[Float32], Float32]:
        """Counts (bands, chip, chip) on 0-255 to the stages (channels, rows, columns) each, and the logits divided by
        the base's temperature (classes, rows, columns), on the network's grid. Valid until the next call.
        """
        ...


def open_stage_runner(bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float = 1.0) -> StageRunner:
    """A runner of the network of `bundle`, a base, in the way that `spec` would map with it."""
    if spec.engine == "openvino":
        return _OpenVinoRunner(bundle, spec, chip_size, upsample)
    return _TorchRunner(bundle, spec, chip_size, upsample)


class _OpenVinoRunner:
    def __init__(self, bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float) -> None:
        import openvino as ov

        from geounet.engines.convert import converted

        core = ov.Core()
        model = core.read_model(converted(bundle, chip_size, upsample, "stages"))
        self._compiled: Any = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": spec.precision, "PERFORMANCE_HINT": "LATENCY"}
        )

    def run(self, counts: Float32) -> tuple[list[Float32], Float32]:
        found = self._compiled(counts[None])
        *stages, logits = [found[index][0] for index in range(len(self._compiled.outputs))]
        return stages, logits


class _TorchRunner:
    def __init__(self, bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float) -> None:
        import torch

        from geounet.engines.torch_cpu import DTYPES
        from geounet.model.scorer import StageScorer

        self._torch = torch
        self._device = "cpu" if spec.engine != "torch" else spec.device
        self._dtype = DTYPES.get(spec.precision) if spec.engine == "torch" else None
        scorer = StageScorer(bundle, chip_size, upsample).eval()
        self._scorer = scorer.to(self._device).to(memory_format=torch.channels_last)

    def run(self, counts: Float32) -> tuple[list[Float32], Float32]:
        torch = self._torch
        kind = self._device.split(":")[0]
        with torch.inference_mode(), torch.autocast(kind, dtype=self._dtype, enabled=self._dtype is not None):
            found = self._scorer(torch.from_numpy(counts)[None].to(self._device))
        *stages, logits = [np.ascontiguousarray(t[0].float().cpu().numpy()) for t in found]
        return stages, logits
