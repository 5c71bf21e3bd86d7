"""The OpenVINO engine: the fastest way to run the network on a CPU."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import openvino as ov

from geounet.engines.adapters.openvino_layers import scoring_model
from geounet.engines.engine import EngineSpec
from geounet.engines.machine import cores
from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle
from geounet.model.stretch import Stretch
from tiles.chips.blend import Scores, Strip
from tiles.chips.cut import Chip


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
        model = scoring_model(core, bundle, chip_size, upsample)
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": spec.precision,
                "NUM_STREAMS": cores(),
                "INFERENCE_NUM_THREADS": cores(),
                "ENABLE_CPU_PINNING": False,
            },
        )

    def predict(self, chips: Iterable[Chip], stretch: Stretch) -> Iterator[Scores]:
        """See `Engine.predict`. Between calls the engine gives back the memory that it works in."""
        # One more than streams: the next chip waits ready while the last one's scores are blended.
        free = deque(self._compiled.create_infer_request() for _ in range(cores() + 1))
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
                # Empty chips need no request: without a bound they would all pile up, pixels and all, behind one that
                # is being scored, for nobody asks whether that one is done until the requests run out.
                while running and (running[0][1] is None or len(running) > cores() + 1):
                    yield from self._finish(running, free)
            while running:
                yield from self._finish(running, free)
        finally:  # whoever stops early must not leave a request running for the next scene to trip over
            for _, request in running:
                if request is not None:
                    request.wait()
            running.clear()
            free.clear()
            self._compiled.release_memory()

    def fetch(self, strips: Iterator[Strip]) -> Generator[Strip, None, None]:
        """See `Engine.fetch`."""
        yield from strips

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
