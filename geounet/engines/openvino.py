"""The OpenVINO engine: the fastest way to run the network on a CPU."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import openvino as ov
import platformdirs

from geounet.bundle import ModelBundle
from geounet.engines import EngineSpec, cores
from geounet.errors import EngineError
from geounet.normalise import Stretch
from tiles.blend import Scores, Strip
from tiles.chips import Chip

_CONVERTER = 1
"""Raise when `Scorer` or the conversion changes what a cached model computes."""


def resolve_precision(device: str, precision: str) -> str:
    """The precision for `auto`, or the one asked for. Raises EngineError for what the CPU does not have."""
    if device != "cpu":
        raise EngineError(f"the OpenVINO engine runs on the CPU, not on '{device}': choose --engine torch")
    has_bf16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "auto":
        return "bf16" if has_bf16 else "f32"
    if precision == "fp16":
        raise EngineError("fp16 is for GPUs: on the CPU choose f32 or bf16")
    if precision == "bf16" and not has_bf16:
        raise EngineError("this processor has no bf16 instructions: choose --precision f32")
    return precision


class OpenVinoEngine:
    """One stream a core: chips run side by side, which uses cores better than splitting one chip over them."""

    def __init__(self, bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float = 1.0) -> None:
        self.spec = spec
        core = ov.Core()
        model = core.read_model(converted(bundle, chip_size, upsample))
        streams = cores()
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": spec.precision,
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": cores(),
                "ENABLE_CPU_PINNING": False,
            },
        )
        # One more than streams: the next chip waits ready while the last one's scores are blended.
        self._requests = [self._compiled.create_infer_request() for _ in range(streams + 1)]

    def predict(self, chips: Iterable[Chip], stretch: Stretch) -> Iterator[Scores]:
        """See `Engine.predict`."""
        free = deque(self._requests)
        running: deque[tuple[Chip, Any]] = deque()
        try:
            for chip in chips:
                request = None
                if not chip.empty:
                    while not free:
                        yield from self._finish(running, free)
                    request = free.popleft()
                    request.start_async({0: stretch.apply(chip.counts, chip.valid)[None]}, share_inputs=False)
                running.append((chip, request))
                while running and running[0][1] is None:
                    yield from self._finish(running, free)
            while running:
                yield from self._finish(running, free)
        finally:  # whoever stops early must not leave a request running for the next scene to trip over
            for _, request in running:
                if request is not None:
                    request.wait()

    def fetch(self, strips: Iterator[Strip]) -> Iterator[Strip]:
        """See `Engine.fetch`."""
        return strips

    def _finish(self, running: "deque[tuple[Chip, Any]]", free: "deque[Any]") -> Iterator[Scores]:
        """The oldest chip's scores; they lie in the request's own memory, which is free again after they were used."""
        chip, request = running.popleft()
        probabilities = None
        if request is not None:
            request.wait()
            probabilities = request.get_output_tensor(0).data[0]
        yield Scores(chip.row, chip.col, chip.window, probabilities, chip.valid)
        if request is not None:
            free.append(request)


def converted(bundle: ModelBundle, chip_size: int, upsample: float = 1.0) -> Path:
    """The bundle as an OpenVINO model for one chip size, converted once and kept in the user's cache folder.

    Only the conversion needs torch. The file's name holds a digest of all that it depends on.
    """
    key = json.dumps([bundle.digest, chip_size, upsample, ov.__version__, _CONVERTER])
    name = f"{bundle.name}-{chip_size}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    folder = cache_folder() / "openvino"
    path = folder / f"{name}.xml"
    if path.exists() and path.with_suffix(".bin").exists():
        return path
    import torch

    from geounet.scorer import Scorer

    scorer = Scorer(bundle, chip_size, upsample).eval()
    example = torch.zeros(1, len(bundle.bands), chip_size, chip_size)
    with torch.no_grad():
        program = torch.export.export(scorer, (example,))
    model = ov.convert_model(program)
    model.reshape([1, len(bundle.bands), chip_size, chip_size])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{name}.{os.getpid()}.part.xml"
        ov.save_model(model, part, compress_to_fp16=False)
        part.with_suffix(".bin").replace(path.with_suffix(".bin"))
        part.replace(path)
    except OSError as error:
        raise EngineError(f"{folder}: the converted model cannot be kept: {error}; set GEOUNET_CACHE") from error
    return path


def cache_folder() -> Path:
    """Where converted models are kept: `GEOUNET_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("GEOUNET_CACHE") or platformdirs.user_cache_dir("geounet"))
