"""A bundle as an OpenVINO or ONNX model in the user's cache folder, converted once in a process of its own.

Converting needs torch and much memory for some seconds; in a process of its own both end with it, and a process that
dies on the way leaves nothing that could be taken for a model. A model appears in the cache in one rename.
"""

import atexit
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from geounet.engines.machine import cache_folder
from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle
from tiles.durable import locked, sync_tree

_CONVERTER = 2
"""Raise when `Scorer` or the conversion changes what a cached model computes."""
Form = Literal["openvino", "stages", "onnx"]
"""`stages` is OpenVINO's form of a network that gives the outputs of its stages and its logits, for adapters."""
_ENGINES: dict[Form, str] = {"openvino": "OpenVINO", "stages": "OpenVINO", "onnx": "ONNX Runtime"}
_PACKAGE: dict[Form, str] = {"openvino": "openvino", "stages": "openvino", "onnx": "onnx"}
_MODEL: dict[Form, str] = {"openvino": "model.xml", "stages": "model.xml", "onnx": "model.onnx"}


def converted(bundle: ModelBundle, chip_size: int, upsample: float = 1.0, form: Form = "openvino") -> Path:
    """The model for one chip size, from the cache or converted now.

    The folder's name holds a digest of all that the model depends on. Two processes that want the same model wait for
    each other. Raises EngineError where it cannot be converted or kept.
    """
    model = kept_model(bundle, chip_size, upsample, form)
    if model.exists():
        return model
    try:
        return _converted_once(model, bundle, chip_size, upsample, form)
    except OSError as error:
        if os.environ.get("GEOUNET_CACHE"):  # somebody chose that folder, and should know
            reason = f"{model.parents[1]}: the converted model cannot be kept: {error}"
            raise EngineError(f"{reason}; set GEOUNET_CACHE to another folder") from error
    # An account without a home: this process keeps the model for itself.
    own = _own_folder() / form / model.parent.name / model.name
    return own if own.exists() else _converted_once(own, bundle, chip_size, upsample, form)


def kept_model(bundle: ModelBundle, chip_size: int, upsample: float = 1.0, form: Form = "openvino") -> Path:
    """Where the model for one chip size is kept once it has been converted."""
    key = json.dumps([bundle.digest, chip_size, upsample, version(_PACKAGE[form]), _CONVERTER])
    name = f"{bundle.name}-{chip_size}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return cache_folder() / form / name / _MODEL[form]


def _converted_once(model: Path, bundle: ModelBundle, chip_size: int, upsample: float, form: Form) -> Path:
    place = model.parent
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_name(f"{place.name}.lock")):
        if not model.exists():
            _convert_into(place, bundle, chip_size, upsample, form)
    return model


@cache
def _own_folder() -> Path:
    """A folder of this process alone, gone when it ends."""
    folder = tempfile.TemporaryDirectory(prefix="geounet-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _convert_into(target: Path, bundle: ModelBundle, chip_size: int, upsample: float, form: Form) -> None:
    for stale in target.parent.glob(f"{target.name}-*.part"):  # whoever made it is gone: we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}-", suffix=".part", dir=target.parent))
    try:
        _in_a_process_of_its_own(bundle, chip_size, upsample, form, part)
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _in_a_process_of_its_own(bundle: ModelBundle, chip_size: int, upsample: float, form: Form, part: Path) -> None:
    # Not multiprocessing: the process that maps a batch is a daemon, which may have no children there.
    wanted = [str(bundle.folder), str(chip_size), repr(upsample), form, str(part)]
    command = [sys.executable, "-m", "geounet.engines.convert", *wanted]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        raise EngineError(
            f"{bundle.name}: the process that converts the model for {_ENGINES[form]} was killed, most likely for want "
            "of memory (it takes about 0.9 GB, once): make room and try again, or choose another --engine"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EngineError(
            f"{bundle.name}: the model cannot be converted for {_ENGINES[form]} ({last}): choose another --engine, or "
            "set GEOUNET_CACHE to a folder with room"
        )


def write_model(bundle: ModelBundle, chip_size: int, upsample: float, form: Form, folder: Path) -> None:
    """Convert in this process and leave the model in `folder`, on the disk."""
    if form == "onnx":
        _write_onnx(bundle, chip_size, upsample, folder / _MODEL[form])
    else:
        _write_openvino(bundle, chip_size, upsample, form, folder)
    sync_tree(folder)


def _write_onnx(bundle: ModelBundle, chip_size: int, upsample: float, target: Path) -> None:
    if bundle.card.onnx is not None:
        from geounet.model.onnx_scorer import checked_bytes, onnx_scorer

        target.write_bytes(checked_bytes(onnx_scorer(bundle, chip_size, upsample)))
        return
    from geounet.model.onnx_export import export
    from geounet.model.scorer import Scorer

    export(Scorer(bundle, chip_size, upsample), (len(bundle.bands), chip_size), target)


def _write_openvino(bundle: ModelBundle, chip_size: int, upsample: float, form: Form, folder: Path) -> None:
    import openvino as ov

    if bundle.card.onnx is not None:
        graph = folder / _MODEL["onnx"]
        _write_onnx(bundle, chip_size, upsample, graph)
        model = ov.convert_model(graph)
        ov.save_model(model, folder / _MODEL["openvino"], compress_to_fp16=False)
        del model  # it reads its weights from the file
        graph.unlink()
        return
    import torch

    from geounet.model.scorer import Scorer, StageScorer

    scorer = (StageScorer if form == "stages" else Scorer)(bundle, chip_size, upsample).eval()
    example = torch.zeros(1, len(bundle.bands), chip_size, chip_size)
    with torch.no_grad():
        program = torch.export.export(scorer, (example,))
    model = ov.convert_model(program)
    model.reshape([1, len(bundle.bands), chip_size, chip_size])
    ov.save_model(model, folder / _MODEL["openvino"], compress_to_fp16=False)


def main(folder: str, chip_size: str, upsample: str, form: Form, part: str) -> None:
    """What the process of its own does."""
    write_model(ModelBundle.load(folder), int(chip_size), float(upsample), form, Path(part))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
