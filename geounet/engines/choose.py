"""From `auto` to an engine: what is installed, what the machine has, what was asked for."""

from importlib.util import find_spec
from typing import Literal

from geounet.engines.engine import Engine, EngineSpec
from geounet.engines.machine import best_device
from geounet.engines.views import views_of
from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle
from geounet.options import TTA

ENGINES = ("auto", "torch", "openvino", "onnxruntime")
PRECISIONS = ("auto", "f32", "bf16", "fp16")


def resolve(engine: str = "auto", device: str = "auto", precision: str = "auto", *, onnx: bool = False) -> EngineSpec:
    """Turn every `auto` into a choice. Raises EngineError for what this machine does not have.

    The device: CUDA, then MPS, then the CPU. The engine: OpenVINO on the CPU where it is installed, else torch.
    The precision: fp16 on CUDA, f32 on MPS, and bf16 on a CPU with bf16 instructions (AMX or AVX-512), else f32.

    A network that is an ONNX file (`onnx`) is never run by torch: on the CPU OpenVINO where it is installed, else ONNX
    Runtime; on any other device ONNX Runtime, which is taken by `auto` where it has one.
    """
    if engine not in ENGINES:
        raise EngineError(f"no engine '{engine}', choose one of: {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"no precision '{precision}', choose one of: {', '.join(PRECISIONS)}")
    engine, device = _onnx_choice(engine, device) if onnx else (engine, chosen_device(engine, device))
    if engine == "auto":
        engine = "openvino" if device == "cpu" and find_spec("openvino") else "torch"
    if engine == "openvino":
        from geounet.engines.openvino_cpu import resolve_precision
    elif engine == "onnxruntime":
        if find_spec("onnxruntime") is None or find_spec("onnx") is None:
            raise EngineError("--engine onnxruntime needs the extra `onnx`: pip install 'geounet[onnx]'")
        from geounet.engines.onnx_runtime import resolve_precision
    else:
        from geounet.engines.torch_cpu import resolve_precision
    return EngineSpec(engine, device, resolve_precision(device, precision))


def _onnx_choice(engine: str, device: str) -> tuple[str, str]:
    """Engine and device for a network that is an ONNX file."""
    if engine == "torch":
        raise EngineError(
            "this model is an ONNX file, which torch does not run: choose --engine onnxruntime or openvino"
        )
    if engine == "auto":
        runtime = find_spec("onnxruntime") is not None
        if device == "auto" and runtime:
            device = chosen_device("onnxruntime", device)
        engine = "openvino" if device in ("auto", "cpu") and find_spec("openvino") else "onnxruntime"
    return engine, chosen_device(engine, device)


def chosen_device(engine: str, device: str) -> str:
    """The device for `auto`, or the one asked for, whether it is here or not."""
    if device != "auto":
        return device
    if engine == "onnxruntime" and find_spec("onnxruntime"):
        from geounet.engines.onnx_runtime import best_device as best_provider

        return best_provider()
    return "cpu" if engine in ("openvino", "onnxruntime") else best_device()


def open_engine(
    bundle: ModelBundle,
    spec: EngineSpec,
    chip_size: int,
    upsample: float = 1.0,
    tta: str = "none",
    context: float = 1.0,
    *,
    compiled: bool = False,
) -> Engine:
    """The engine for a resolved `spec`. `upsample` enlarges every chip for the network and its scores back.

    `tta`, one of `geounet.options.TTA`, has it score every chip in several views and average them; `context` adds a
    coarser view, at that scale. `compiled` lets a GPU run the network through `torch.compile`.
    """
    if tta == "none" and context == 1.0:
        return _open(bundle, spec, chip_size, upsample, compiled)
    from geounet.engines.tta import AugmentedEngine

    return AugmentedEngine(
        views_of(tta, context), lambda scale: _open(bundle, spec, chip_size, upsample * scale, compiled)
    )


def needs_preparing(
    bundle: ModelBundle,
    spec: EngineSpec,
    chip_size: int,
    upsample: float,
    tta: str,
    context: float,
    *,
    compiled: bool,
) -> bool:
    """Whether opening that engine takes long, half a minute or so: a first conversion, or a compilation."""
    if spec.engine == "torch":
        return compiled
    from geounet.engines.convert import kept_model

    form: Literal["openvino", "stages", "onnx"] = "onnx" if spec.engine == "onnxruntime" else "openvino"
    if form == "openvino" and bundle.base is not None:  # an adapter is put on its base's model
        bundle, form = bundle.base, "stages"
    scales = views_of(tta, context).scales
    return not all(kept_model(bundle, chip_size, upsample * scale, form).exists() for scale in scales)


def check_tta(tta: str) -> str:
    """`tta` itself. Raises EngineError where it is none of `TTA`."""
    if tta not in TTA:
        raise EngineError(f"no test-time augmentation '{tta}', choose one of: {', '.join(TTA)}")
    return tta


def _open(bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float, compiled: bool) -> Engine:
    if spec.engine == "openvino":
        from geounet.engines.openvino_cpu import OpenVinoEngine

        return OpenVinoEngine(bundle, spec, chip_size, upsample)
    if spec.engine == "onnxruntime":
        from geounet.engines.onnx_runtime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(bundle, spec, chip_size, upsample)
    if spec.device != "cpu":
        from geounet.engines.torch_device import DeviceEngine

        return DeviceEngine(bundle, spec, chip_size, upsample, compiled)
    from geounet.engines.torch_cpu import TorchEngine

    return TorchEngine(bundle, spec, chip_size, upsample)
