"""An adapter in OpenVINO: its layers are put on the base's converted model, which serves every adapter of that base.

The same steps as `geounet.model.adapters.layers`, which torch and ONNX take; a test holds them together. Nothing is
converted for a new adapter, so its first map starts as fast as its second.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from geounet.engines.convert import converted
from geounet.errors import BundleError
from geounet.model.adapters.file import NEW_CLASS, Float32, read_adapter
from geounet.model.bundle import ModelBundle


def scoring_model(core: Any, bundle: ModelBundle, chip_size: int, upsample: float) -> Any:
    """The model that scores chips of one size: counts in, probabilities out; of an adapter, with its layers."""
    if bundle.base is None:
        return core.read_model(converted(bundle, chip_size, upsample))
    model = core.read_model(converted(bundle.base, chip_size, upsample, "stages"))
    *stages, logits = [result.input(0).get_source_output() for result in model.get_results()]
    scores = _adapted(bundle, stages, logits)
    probabilities = ops.softmax(scores, 1)
    if int(logits.get_shape()[2]) != chip_size:
        probabilities = _resized(probabilities.output(0), chip_size)
    return ov.Model([ops.result(probabilities)], model.get_parameters(), bundle.name)


def _adapted(bundle: ModelBundle, stages: Sequence[Any], logits: Any) -> Any:
    assert bundle.card.adapter is not None
    weight, bias = read_adapter(bundle.weights_path, len(bundle.card.legend))
    channels = [int(stage.get_shape()[1]) for stage in stages]
    if weight.shape[1] != sum(channels):
        raise BundleError(
            f"{bundle.weights_path} has {weight.shape[1]} values a class, the network of "
            f"'{bundle.card.adapter.base.name}' gives {sum(channels)}: it was made for another network"
        )
    ends = np.cumsum([0, *channels])
    added = [_one_by_one(stage, weight[:, a:b]) for stage, (a, b) in zip(stages, pairwise(ends), strict=True)]
    total = _enlarged_sum(added, int(logits.get_shape()[2]))
    start = _prior(logits, bundle.card.adapter.starts)
    scores = ops.add(start, ops.add(total, _constant(bias.reshape(1, -1, 1, 1))))
    return ops.divide(scores, _constant(np.array(bundle.card.temperature)))


def _one_by_one(stage: Any, weight: Float32) -> Any:
    kernel = _constant(weight[:, :, None, None])
    return ops.convolution(stage, kernel, [1, 1], [0, 0], [0, 0], [1, 1]).output(0)


def _enlarged_sum(parts: Sequence[Any], side: int) -> Any:
    """See `geounet.model.adapters.stages.enlarged_sum`."""
    ordered = sorted(parts, key=lambda part: int(part.get_shape()[2]))
    total = ordered[0]
    for part in ordered[1:]:
        total = ops.add(_resized(total, int(part.get_shape()[2])), part).output(0)
    return _resized(total, side)


def _resized(value: Any, side: int) -> Any:
    if int(value.get_shape()[2]) == side:
        return value
    sizes = ops.constant(np.array([side, side], dtype=np.int64))
    axes = ops.constant(np.array([2, 3], dtype=np.int64))
    return ops.interpolate(
        value, sizes, "linear_onnx", "sizes", coordinate_transformation_mode="half_pixel", axes=axes
    ).output(0)


def _prior(logits: Any, starts: Sequence[Sequence[int]]) -> Any:
    """See `geounet.model.adapters.layers.prior`."""
    classes = int(logits.get_shape()[1])
    if [list(start) for start in starts] == [[index] for index in range(classes)]:
        return logits
    return ops.concat([_start(logits, start or range(classes), new=not start) for start in starts], 1)


def _start(logits: Any, start: Sequence[int], *, new: bool) -> Any:
    axis = ops.constant(np.array(1, dtype=np.int64))
    chosen = ops.gather(logits, ops.constant(np.array(list(start), dtype=np.int64)), axis)
    if len(start) == 1:
        return chosen
    top = ops.reduce_max(chosen, axis, keep_dims=True)
    total = ops.reduce_sum(ops.exp(ops.subtract(chosen, top)), axis, keep_dims=True)
    summed = ops.add(ops.log(total), top)
    return ops.add(summed, _constant(np.array(NEW_CLASS))) if new else summed


def _constant(value: Any) -> Any:
    return ops.constant(np.ascontiguousarray(value, dtype=np.float32))
