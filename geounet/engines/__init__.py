"""What runs the network. `open_engine` chooses; each engine is one file."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geounet.engines.views import VIEWS
from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle
from geounet.model.stretch import Stretch
from tiles.chips.blend import Scores, Strip
from tiles.chips.cut import Chip

Float32 = npt.NDArray[np.float32]
Prepare = Callable[[npt.NDArray[Any], npt.NDArray[np.bool_]], Float32]
"""Raw counts (bands, rows, columns) and validity (rows, columns) to the 0-255 scale (bands, rows, columns)."""

ENGINES = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "f32", "bf16", "fp16")
TTA = tuple(VIEWS)
"""Names of test-time augmentations."""

_BATCH_PIXELS = 2048 * 2048
_MOST_CHIPS = 16


@dataclass(frozen=True)
class EngineSpec:
    """What was asked for, with every `auto` resolved: it is recorded, and a resumed run keeps it."""

    engine: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine} on {self.device}, {self.precision}"


class Engine(Protocol):
    """Runs one network on chips of one size."""

    @property
    def spec(self) -> EngineSpec:
        """What runs where, in which precision."""
        ...

    def predict(self, chips: Iterable[Chip], stretch: Stretch) -> Iterator[Scores]:
        """Class probabilities of every chip, in the order the chips came; empty chips are passed on unscored.

        Scores are valid until the next ones are asked for. They lie where the engine works.
        """
        ...

    def fetch(self, strips: Iterator[Strip]) -> Generator[Strip, None, None]:
        """Strips blended from this engine's scores, as NumPy arrays. Close it to stop early."""
        ...


def resolve(engine: str = "auto", device: str = "auto", precision: str = "auto") -> EngineSpec:
    """Turn every `auto` into a choice. Raises EngineError for what this machine does not have.

    The device: CUDA, then MPS, then the CPU. The engine: OpenVINO on the CPU where it is installed, else torch.
    The precision: fp16 on CUDA, f32 on MPS, and bf16 on a CPU with bf16 instructions (AMX or AVX-512), else f32.
    """
    if engine not in ENGINES:
        raise EngineError(f"no engine '{engine}', choose one of: {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"no precision '{precision}', choose one of: {', '.join(PRECISIONS)}")
    device = chosen_device(engine, device)
    if engine == "auto":
        engine = "openvino" if device == "cpu" and find_spec("openvino") else "torch"
    if engine == "openvino":
        from geounet.engines.openvino_cpu import resolve_precision
    else:
        from geounet.engines.torch_cpu import resolve_precision
    return EngineSpec(engine, device, resolve_precision(device, precision))


def chosen_device(engine: str, device: str) -> str:
    """The device for `auto`, or the one asked for, whether it is here or not."""
    if device != "auto":
        return device
    return "cpu" if engine == "openvino" else _best_device()


def open_engine(
    bundle: ModelBundle,
    spec: EngineSpec,
    chip_size: int,
    upsample: float = 1.0,
    tta: str = "none",
    *,
    compiled: bool = False,
) -> Engine:
    """The engine for a resolved `spec`. `upsample` enlarges every chip for the network and its scores back.

    `tta`, one of `TTA`, has it score every chip in several views and average them. `compiled` lets a GPU run the
    network through `torch.compile`.
    """
    if tta == "none":
        return _open(bundle, spec, chip_size, upsample, compiled)
    from geounet.engines.tta import AugmentedEngine

    return AugmentedEngine(VIEWS[tta], lambda scale: _open(bundle, spec, chip_size, upsample * scale, compiled))


def check_tta(tta: str) -> str:
    """`tta` itself. Raises EngineError where it is none of `TTA`."""
    if tta not in TTA:
        raise EngineError(f"no test-time augmentation '{tta}', choose one of: {', '.join(TTA)}")
    return tta


def _open(bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float, compiled: bool) -> Engine:
    if spec.engine == "openvino":
        from geounet.engines.openvino_cpu import OpenVinoEngine

        return OpenVinoEngine(bundle, spec, chip_size, upsample)
    if spec.device != "cpu":
        from geounet.engines.torch_device import DeviceEngine

        return DeviceEngine(bundle, spec, chip_size, upsample, compiled)
    from geounet.engines.torch_cpu import TorchEngine

    return TorchEngine(bundle, spec, chip_size, upsample)


def batch_size(device: str, side: int) -> int:
    """Chips of `side` network pixels that are scored at once: enough of small ones to keep a CUDA device busy.

    It depends on nothing else, so that a run that goes on later, with other memory free, computes the same bytes.
    """
    return max(1, min(_MOST_CHIPS, _BATCH_PIXELS // side**2)) if device.startswith("cuda") else 1


def device_memory(spec: EngineSpec) -> int | None:
    """Bytes of a CUDA device that this process may use; None for other devices, whose memory is the machine's."""
    if not spec.device.startswith("cuda"):
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(spec.device)
    return int(free + torch.cuda.memory_reserved(spec.device))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _best_device() -> str:
    # Asking torch costs seconds; a machine without any accelerator's driver need not be asked.
    if not _has_accelerator():
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _has_accelerator() -> bool:
    import platform
    from pathlib import Path

    return platform.system() == "Darwin" or Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
