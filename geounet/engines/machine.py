"""What this machine has: cores, devices, their memory, and how many chips it takes at once; where models are cached."""

import os
from pathlib import Path

import platformdirs

from geounet.engines.engine import EngineSpec

_BATCH_PIXELS = 2048 * 2048
_MOST_CHIPS = 16


def cache_folder() -> Path:
    """Where converted models are kept: `GEOUNET_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("GEOUNET_CACHE") or platformdirs.user_cache_dir("geounet"))


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


def best_device() -> str:
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
