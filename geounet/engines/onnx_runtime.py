"""The ONNX Runtime engine: bundles whose network is an ONNX file, and devices that only it reaches."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import onnxruntime as ort

from geounet.engines.convert import converted
from geounet.engines.engine import EngineSpec, Float32
from geounet.engines.machine import cores
from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle
from geounet.model.onnx_scorer import COUNTS
from geounet.model.stretch import Stretch
from tiles.chips.blend import Scores, Strip
from tiles.chips.cut import Chip

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""By device. TensorRT is never chosen by `auto`: it builds its engine for minutes before the first chip."""
_AUTO = ("cuda", "coreml", "directml", "cpu")


def best_device() -> str:
    """The first of CUDA, CoreML, DirectML and the CPU that the installed ONNX Runtime has."""
    there = ort.get_available_providers()
    return next(device for device in _AUTO if PROVIDERS[device] in there)


def resolve_precision(device: str, precision: str) -> str:
    """The precision for `auto`, or the one asked for. Raises EngineError where the device is absent or unfit."""
    kind = device.split(":")[0]
    if kind not in PROVIDERS:
        raise EngineError(f"ONNX Runtime knows no device '{device}': choose one of {', '.join(PROVIDERS)}")
    if PROVIDERS[kind] not in ort.get_available_providers():
        raise EngineError(
            f"--device {device}: the installed ONNX Runtime has no {PROVIDERS[kind]}; choose --device cpu"
        )
    if precision == "auto":
        return "fp16" if kind == "tensorrt" else "f32"
    if precision != "f32" and (kind, precision) != ("tensorrt", "fp16"):
        raise EngineError(f"ONNX Runtime computes in f32 on {kind}: choose --precision f32, or another --engine")
    return precision


class OnnxRuntimeEngine:
    """One chip a core, each on one thread: the same bytes for any number of cores. One at a time on other devices."""

    def __init__(self, bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float = 1.0) -> None:
        self.spec = spec
        self._at_once = cores() if spec.device == "cpu" else 1
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        model = converted(bundle, chip_size, upsample, "onnx")
        try:
            self._session = ort.InferenceSession(model, options, providers=_providers(spec))
        except Exception as error:  # every provider has errors of its own
            raise EngineError(f"{bundle.name}: ONNX Runtime cannot run the model: {_first_line(error)}") from error

    def predict(self, chips: Iterable[Chip], stretch: Stretch) -> Iterator[Scores]:
        """See `Engine.predict`."""
        running: deque[tuple[Chip, Future[Float32] | None]] = deque()
        with ThreadPoolExecutor(self._at_once, "geounet-onnx") as pool:
            try:
                for chip in chips:
                    counts = None if chip.empty else stretch.apply(chip.counts, chip.valid)
                    running.append((chip, None if counts is None else pool.submit(self._run, counts)))
                    # One more than cores: the next chip waits ready while the last one's scores are blended.
                    while len(running) > self._at_once + 1 or (running and running[0][1] is None):
                        yield _scores(*running.popleft())
                while running:
                    yield _scores(*running.popleft())
            finally:  # whoever stops early does not wait for chips that nobody will look at
                pool.shutdown(wait=True, cancel_futures=True)

    def fetch(self, strips: Iterator[Strip]) -> Generator[Strip, None, None]:
        """See `Engine.fetch`."""
        yield from strips

    def _run(self, counts: Float32) -> Float32:
        """Probabilities float32 (classes, chip, chip) of counts float32 (bands, chip, chip)."""
        found: Float32 = self._session.run(None, {COUNTS: counts[None]})[0][0]
        return found


def _scores(chip: Chip, future: "Future[Float32] | None") -> Scores:
    return Scores(chip.row, chip.col, chip.window, None if future is None else future.result(), chip.valid)


def _providers(spec: EngineSpec) -> list[str | tuple[str, dict[str, str]]]:
    kind, _, number = spec.device.partition(":")
    if kind == "cpu":
        return [PROVIDERS["cpu"]]
    options = {"device_id": number or "0"} if kind in ("cuda", "tensorrt", "directml") else {}
    if kind == "tensorrt":
        options["trt_fp16_enable"] = str(spec.precision == "fp16")
    # What a device cannot do, the CPU does: ONNX Runtime wants it named last.
    return [(PROVIDERS[kind], options), PROVIDERS["cpu"]]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
