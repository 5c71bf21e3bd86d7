"""A bundle as an OpenVINO model in the user's cache folder, converted once in a process of its own.

Converting needs torch and much memory for some seconds; in a process of its own both end with it, and a process that
dies on the way leaves nothing that could be taken for a model. A model appears in the cache in one rename.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import openvino as ov

from geounet.engines.machine import cache_folder
from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle
from tiles.durable import locked, sync_tree

_CONVERTER = 2
"""Raise when `Scorer` or the conversion changes what a cached model computes."""
_MODEL = "model.xml"


def converted(bundle: ModelBundle, chip_size: int, upsample: float = 1.0) -> Path:
    """The model for one chip size, from the cache or converted now.

    The folder's name holds a digest of all that the model depends on. Two processes that want the same model wait for
    each other. Raises EngineError where it cannot be converted or kept.
    """
    key = json.dumps([bundle.digest, chip_size, upsample, ov.__version__, _CONVERTER])
    name = f"{bundle.name}-{chip_size}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    folder = cache_folder() / "openvino"
    model = folder / name / _MODEL
    if model.exists():
        return model
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f"{name}.lock"):
            if not model.exists():
                _convert_into(folder / name, bundle, chip_size, upsample)
    except OSError as error:
        raise EngineError(f"{folder}: the converted model cannot be kept: {error}; set GEOUNET_CACHE") from error
    return model


def _convert_into(target: Path, bundle: ModelBundle, chip_size: int, upsample: float) -> None:
    for stale in target.parent.glob(f"{target.name}-*.part"):  # whoever made it is gone: we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}-", suffix=".part", dir=target.parent))
    try:
        _in_a_process_of_its_own(bundle, chip_size, upsample, part)
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _in_a_process_of_its_own(bundle: ModelBundle, chip_size: int, upsample: float, part: Path) -> None:
    # Not multiprocessing: the process that maps a batch is a daemon, which may have no children there.
    command = [sys.executable, "-m", "geounet.engines.convert", str(bundle.folder), str(chip_size), repr(upsample)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([*command, str(part)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        raise EngineError(
            f"{bundle.name}: the process that converts the model for OpenVINO was killed, most likely for want of "
            "memory (it takes about 0.9 GB, once): make room and try again, or choose --engine torch"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EngineError(
            f"{bundle.name}: the model cannot be converted for OpenVINO ({last}): choose --engine torch, or set "
            "GEOUNET_CACHE to a folder with room"
        )


def write_model(bundle: ModelBundle, chip_size: int, upsample: float, folder: Path) -> None:
    """Convert in this process and leave the model in `folder`, on the disk. Needs torch."""
    import torch

    from geounet.model.scorer import Scorer

    scorer = Scorer(bundle, chip_size, upsample).eval()
    example = torch.zeros(1, len(bundle.bands), chip_size, chip_size)
    with torch.no_grad():
        program = torch.export.export(scorer, (example,))
    model = ov.convert_model(program)
    model.reshape([1, len(bundle.bands), chip_size, chip_size])
    ov.save_model(model, folder / _MODEL, compress_to_fp16=False)
    sync_tree(folder)


if __name__ == "__main__":
    write_model(ModelBundle.load(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
