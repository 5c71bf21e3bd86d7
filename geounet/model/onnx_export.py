"""A torch network as an ONNX file."""

import contextlib
import io
import warnings
from pathlib import Path

import torch
from torch import nn

from geounet.errors import EngineError
from geounet.model.onnx_scorer import COUNTS, PROBABILITIES

OPSET = 18


def export(module: nn.Module, shape: tuple[int, int], target: Path) -> None:
    """Write `module` as one file of standard operators; `shape` is (bands, side) of the image it takes, one a call.

    Input and output are called `counts` and `probabilities`. Raises EngineError where the exporter is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EngineError("writing ONNX needs the extra `onnx`: pip install 'geounet[onnx]'") from error
    bands, side = shape
    example = torch.zeros(1, bands, side, side)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own helpers
        torch.onnx.export(
            module.eval(),
            (example,),
            target,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=[COUNTS],
            output_names=[PROBABILITIES],
            verbose=False,
        )
