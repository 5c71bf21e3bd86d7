"""The process that opens a model somebody brought: `python -m geounet.registry.probe`, one request on standard input.

It fences itself in before anything of the file is read: so much memory, so much processor time, one file to write.
What happens in here - a parser that breaks, a graph that never ends - is one line in the answer or the end of this
process, which `ask` turns into one line as well.
"""

import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geounet.errors import BundleError

_TEXT = 20_000
"""Longest metadata text that is passed on, in characters."""


@dataclass(frozen=True)
class Fence:
    """What the process may take: bytes of address space, seconds of processor time, bytes of the model's file."""

    memory: int = 6_000_000_000
    seconds: float = 120.0
    file_bytes: int = 1_000_000_000


def look_at(path: Path, whole: Path, fence: Fence = Fence()) -> dict[str, Any]:
    """Facts about an ONNX file; the checked model, tensors of neighbouring files and all, is written to `whole`.

    Raises BundleError, in one line, for whatever is wrong with the file.
    """
    return _ask({"kind": "look", "path": str(path), "whole": str(whole)}, str(path), fence)


def try_out(folder: Path, fence: Fence = Fence(), chip: Path | None = None) -> dict[str, Any]:
    """Run the bundle in `folder` on one chip: counts of a `.npy` file (bands, side, side), or else made-up ones.

    Gives `seconds` and `memory` of the run and, as `classes`, pixels a class. Raises BundleError where the network
    fails, or says what are no probabilities.
    """
    request = {"kind": "try", "path": str(folder), "chip": str(chip) if chip else None}
    return _ask(request, str(folder / "model.onnx"), fence)


def _ask(request: Mapping[str, Any], name: str, fence: Fence) -> dict[str, Any]:
    command = [sys.executable, "-m", "geounet.registry.probe"]
    limits = {"memory": fence.memory, "seconds": fence.seconds, "file_bytes": fence.file_bytes}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GS_", "AZURE_", "GEOUNET_"))}
    python_path = os.pathsep.join(path for path in sys.path if path)
    environment = {**kept, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            input=json.dumps({**request, "limits": limits}),
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=4 * fence.seconds + 60,
        )
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
    except subprocess.TimeoutExpired:
        raise BundleError(f"{name} took too long to look at: refused") from None
    except ValueError:
        answer = {}
    if "refused" in answer:
        raise BundleError(answer["refused"])
    if done.returncode or not answer:
        raise BundleError(
            f"{name} could not be looked at within {fence.memory / 1e9:.1f} GB of memory and {fence.seconds:.0f} s of "
            "processor time: refused"
        )
    return dict(answer)


def _fence(limits: Mapping[str, float]) -> None:
    for what, value in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        wanted = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (wanted, wanted))


def _look(request: Mapping[str, Any]) -> dict[str, Any]:
    import onnx

    from geounet.model import onnx_checks

    path, whole = Path(request["path"]), Path(request["whole"])
    data = onnx_checks.read_bytes(path, int(request["limits"]["file_bytes"]))
    beside = Beside(path, int(request["limits"]["file_bytes"]))
    model = onnx_checks.checked_model(data, str(path), beside)
    # A file that needs nothing done keeps its bytes, and so the digest by which people know it.
    whole.write_bytes(model.SerializeToString() if beside.used or model.functions else data)
    side = onnx_checks.only_input(model, str(path))
    return {
        "input": _told(side),
        "outputs": [{**_told(o), "last": last_operator(model, o.name)} for o in onnx_checks.outputs(model)],
        "metadata": {k: v for k, v in onnx_checks.metadata(model).items() if len(v) <= _TEXT},
        "opset": onnx_checks.opset(model),
        "nodes": sum(1 for _ in model.graph.node),
        "producer": onnx_checks.shown(model.producer_name),
        "onnx": onnx.__version__,
    }


def _told(side: Any) -> dict[str, Any]:
    import onnx

    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(side.kind).name
    except KeyError:
        kind = "none"
    return {"name": side.name, "kind": kind, "shape": side.shape}


def last_operator(model: Any, output: str) -> str:
    """The operator that makes an output's values, behind those that only move them: `Softmax`, `Conv`, ..."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for _ in range(32):
        node = makers.get(output)
        if node is None:
            return ""
        if node.op_type not in ("Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Resize"):
            return str(node.op_type)
        output = node.input[0]
    return ""


class Beside:
    """Brings in tensors that lie in a file beside the model: a plain name in its folder, no link, within the size."""

    def __init__(self, model: Path, most_bytes: int) -> None:
        self._model, self._left = model, most_bytes
        self.used = False

    def __call__(self, tensor: Any) -> None:
        """Fill `tensor` from its file. Raises BundleError for a name that leads elsewhere, and for missing bytes."""
        import onnx

        from geounet.model.onnx_checks import shown

        told = {e.key: e.value for e in tensor.external_data}
        name = told.get("location", "")
        where = f"{self._model}: the tensor '{shown(tensor.name)}' lies in '{shown(name)}'"
        if not name or Path(name).name != name or name in (".", ".."):
            raise BundleError(f"{where}; only a file beside the model is read: refused")
        path = self._model.parent / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{where}, which is no file beside the model: bring both, in one folder")
        try:
            offset = int(told.get("offset", 0))
            count = math.prod(tensor.dims)
            length = count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            length = int(told.get("length", length))
        except (ValueError, KeyError):
            raise BundleError(f"{where}, at a place that is no number: export it again") from None
        if offset < 0 or not 0 <= length <= self._left or offset + length > path.stat().st_size:
            raise BundleError(f"{where}, which is cut short, or too large")
        self._left -= length
        with path.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
        self.used = True


def _try(request: Mapping[str, Any]) -> dict[str, Any]:
    from time import monotonic

    import numpy as np
    import onnx
    import onnxruntime

    from geounet.model.bundle import ModelBundle
    from geounet.model.onnx_scorer import COUNTS, checked_bytes, onnx_scorer

    bundle = ModelBundle.load(request["path"])
    side = bundle.card.chip_size
    graph = onnx_scorer(bundle, side)
    try:
        inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True)
    except Exception as error:  # a kernel larger than the image, and whatever else does not fit together
        raise BundleError(f"{bundle.weights_path}: its tensors do not fit together: {_line(error)}") from error
    refuse_large_tensors(inferred, str(bundle.weights_path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(checked_bytes(graph), options, providers=["CPUExecutionProvider"])
        counts = np.load(request["chip"])[None] if request["chip"] else _made_up(bundle, side)
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, monotonic()
        (found,) = session.run(None, {COUNTS: counts.astype(np.float32)})
    except Exception as error:  # ONNX Runtime has a dozen kinds; each means that the network does not run
        raise BundleError(f"{bundle.weights_path} does not run: {_line(error)}") from error
    seconds = monotonic() - began
    if found.shape[1:] != (len(bundle.legend), side, side):
        raise BundleError(f"{bundle.weights_path} answers {list(found.shape)} to an image of {side} pixels: refused")
    if not np.isfinite(found).all():
        raise BundleError(f"{bundle.weights_path} answers with numbers that are none (NaN or infinite): refused")
    sums = found.sum(axis=1)
    if found.min() < -1e-3 or np.abs(sums - 1).max() > 1e-2:
        raise BundleError(
            f"{bundle.weights_path} was said to give probabilities, but they go from {found.min():.3g} to "
            f"{found.max():.3g} and sum to {sums.min():.3g}-{sums.max():.3g}: say --activation softmax, or sigmoid"
        )
    memory = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    pixels = np.bincount(found[0].argmax(0).ravel(), minlength=len(bundle.legend)).tolist()
    return {"seconds": seconds, "memory": memory, "classes": pixels, "pixels": side * side}


def _line(error: Exception) -> str:
    return "".join(c if c.isprintable() else " " for c in str(error).strip())[:200] or type(error).__name__


def _made_up(bundle: Any, side: int) -> Any:
    """A chip of noise around the values that the network expects."""
    import numpy as np

    card = bundle.card
    rng = np.random.default_rng(0)
    mean, std = (np.array(v)[None, :, None, None] for v in (card.normalisation.mean, card.normalisation.std))
    if card.onnx and not any(card.normalisation.mean):  # it normalises by itself
        return rng.uniform(0, 0.4 * (card.reflectance_one or 600.0), (1, len(card.bands), side, side))
    return rng.normal(mean, std, (1, len(card.bands), side, side))


def refuse_large_tensors(model: Any, name: str, most_bytes: int = 2_000_000_000) -> None:
    """Refuse a graph that says how large its tensors get, and they get too large. Raises BundleError."""
    import onnx

    for value in model.graph.value_info:
        tensor = value.type.tensor_type
        dims = [d.dim_value for d in tensor.shape.dim] if tensor.HasField("shape") else []
        if any(d < 0 for d in dims):
            raise BundleError(f"{name} computes a tensor of a negative size: it is damaged")
        with suppress(KeyError):
            size = math.prod(dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
            if size > most_bytes:
                raise BundleError(f"{name} computes a tensor of {size / 1e9:,.0f} GB on the way: refused")


def main() -> None:
    """Read one request, answer it, leave."""
    request = json.loads(sys.stdin.read())
    _fence(request["limits"])
    try:
        answer = _look(request) if request["kind"] == "look" else _try(request)
    except BundleError as error:
        answer = {"refused": str(error)}
    except MemoryError:
        answer = {}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # libraries that were starved of memory may not survive their own end


if __name__ == "__main__":
    main()
