"""The torch engine on the CPU, and what torch finds on this machine; GPUs are `geounet.engines.torch_device`."""

from collections.abc import Generator, Iterable, Iterator

import torch

from geounet.engines.engine import EngineSpec, Float32
from geounet.engines.fold import folded
from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle
from geounet.model.scorer import Scorer
from geounet.model.stretch import Stretch
from tiles.chips.blend import Scores, Strip
from tiles.chips.cut import Chip

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""By precision; f32 needs no automatic mixed precision."""


def resolve_precision(device: str, precision: str) -> str:
    """The precision for `auto`, or the one asked for. Raises EngineError where the device is absent or unfit."""
    kind = torch.device(checked(device)).type
    if precision == "auto":
        return {"cuda": "fp16", "mps": "f32"}.get(kind, "bf16" if cpu_has_bf16() else "f32")
    if precision == "fp16" and kind == "cpu":
        raise EngineError("fp16 is for GPUs: on the CPU choose f32 or bf16")
    return precision


class TorchEngine:
    """Channels-last, inference mode, automatic mixed precision, chip by chip: batches gain nothing on a CPU."""

    def __init__(self, bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float = 1.0) -> None:
        self.spec = spec
        self.scorer = ready_scorer(bundle, chip_size, upsample).to(memory_format=torch.channels_last)

    def predict(self, chips: Iterable[Chip], stretch: Stretch) -> Iterator[Scores]:
        """See `Engine.predict`."""
        for chip in chips:
            probabilities = None if chip.empty else self._run(stretch.apply(chip.counts, chip.valid))
            yield Scores(chip.row, chip.col, chip.window, probabilities, chip.valid)

    def fetch(self, strips: Iterator[Strip]) -> Generator[Strip, None, None]:
        """See `Engine.fetch`."""
        yield from strips

    def _run(self, counts: Float32) -> Float32:
        """Probabilities float32 (classes, chip, chip) of counts float32 (bands, chip, chip)."""
        batch = torch.from_numpy(counts)[None].to(memory_format=torch.channels_last)
        dtype = DTYPES.get(self.spec.precision)
        with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            out: Float32 = self.scorer(batch)[0].float().contiguous().numpy()
        return out


def ready_scorer(bundle: ModelBundle, chip_size: int, upsample: float) -> Scorer:
    """The bundle's `Scorer` for predicting, normalisations folded."""
    scorer = Scorer(bundle, chip_size, upsample).eval()
    scorer.network = folded(scorer.network, len(bundle.bands))
    return scorer


def checked(device: str) -> str:
    """`device` itself. Raises EngineError where it is none, or not here."""
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


def cpu_has_bf16() -> bool:
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def mixed_precision(device: str) -> torch.autocast:
    """Automatic bfloat16 on `device`; on a CPU without bfloat16 instructions, which imitates them slowly, float32."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu" or cpu_has_bf16())
