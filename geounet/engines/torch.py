"""The torch engine: CUDA, MPS and CPU."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from geounet.bundle import ModelBundle
from geounet.engines import EngineSpec, Float32, Prepare
from geounet.errors import EngineError
from geounet.scorer import Scorer
from tiles.blend import Scores
from tiles.chips import Chip

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CUDA_BYTES_A_PIXEL = 3000
"""Peak activation memory of the default network per input pixel in half precision, with room to spare."""


def resolve_precision(device: str, precision: str) -> str:
    """The precision for `auto`, or the one asked for. Raises EngineError where the device is absent or unfit."""
    kind = torch.device(_checked(device)).type
    if precision == "auto":
        return {"cuda": "fp16", "mps": "f32"}.get(kind, "bf16" if _cpu_has_bf16() else "f32")
    if precision == "fp16" and kind == "cpu":
        raise EngineError("fp16 is for GPUs: on the CPU choose f32 or bf16")
    return precision


class TorchEngine:
    """Channels-last, inference mode, automatic mixed precision; batches sized to the device."""

    def __init__(self, bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float = 1.0) -> None:
        self.spec = spec
        self.device = torch.device(_checked(spec.device))
        scorer = Scorer(bundle, chip_size, upsample).eval()
        self.scorer = scorer.to(self.device).to(memory_format=torch.channels_last)
        self.batch_size = _batch_size(self.device, scorer.inner_size)

    def predict(self, chips: Iterable[Chip], prepare: Prepare) -> Iterator[Scores]:
        """See `Engine.predict`."""
        chips = iter(chips)
        while group := list(itertools.islice(chips, self.batch_size)):
            scored = [chip for chip in group if not chip.empty]
            found = iter(self._run(np.stack([prepare(c.counts, c.valid) for c in scored])) if scored else ())
            for chip in group:
                probabilities = None if chip.empty else next(found)
                yield Scores(chip.row, chip.col, chip.window, probabilities, chip.valid)

    def _run(self, counts: Float32) -> Float32:
        """Probabilities float32 (n, classes, chip, chip) of counts float32 (n, bands, chip, chip)."""
        batch = torch.from_numpy(counts).to(self.device, memory_format=torch.channels_last, non_blocking=True)
        dtype = _DTYPES.get(self.spec.precision)
        try:
            with torch.inference_mode(), torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                out: Float32 = self.scorer(batch).float().contiguous().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"{self.spec}: not enough device memory for {counts.shape[0]} chips of {counts.shape[-1]} px; "
                "choose a smaller --chip-size or --device cpu"
            ) from error
        return out


def _batch_size(device: torch.device, side: int) -> int:
    if device.type != "cuda":
        return 1  # on the CPU batching gains nothing and costs memory
    free, _ = torch.cuda.mem_get_info(device)
    return int(max(1, min(32, free // 2 // (_CUDA_BYTES_A_PIXEL * side * side))))


def _checked(device: str) -> str:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise EngineError(f"no device '{device}': choose cpu, cuda, cuda:N or mps") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise EngineError(f"--device {device}: no CUDA device can be used here; choose --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise EngineError("--device mps: no Apple GPU can be used here; choose --device cpu")
    if kind not in ("cpu", "cuda", "mps"):
        raise EngineError(f"no device '{device}': choose cpu, cuda, cuda:N or mps")
    return device


def _cpu_has_bf16() -> bool:
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
