"""What a network computes on its way to the logits: the outputs of its stages, which an adapter reads.

A linear layer on the stages' outputs, each enlarged to the pixel grid, is the sum of the enlarged outputs of one 1 x 1
convolution a stage. The enlargement goes from the coarsest stage to the finest, a step a time, so it costs next to
nothing in the graph, and `at_points` takes the very same way for single pixels: the features that an adapter is
fitted on are the ones it meets later.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geounet.model.plain_unet import PlainUnet

Float32 = npt.NDArray[np.float32]


def run_stages(network: Any, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The outputs of the stages, (n, channels, rows, columns) each, the input first, and the logits.

    Of a U-Net every stage of encoder and decoder; of any other network the encoder's stages and the decoder's output.
    """
    if isinstance(network, PlainUnet):
        return network.stages(x)
    encoded = list(network.encoder(x))
    decoded = _unet_decoder(network.decoder, encoded) if _is_unet(network) else [network.decoder(encoded)]
    logits: Tensor = network.segmentation_head(decoded[-1])
    stages = [t for t in encoded if t.shape[1] > 0]
    return ([*stages, *decoded] if stages[0] is x else [x, *stages, *decoded]), logits


def _is_unet(network: Any) -> bool:
    """Whether the decoder is the U-Net of segmentation-models-pytorch; by its module, which only one file imports."""
    return type(network).__module__.startswith("segmentation_models_pytorch.decoders.unet.")


def _unet_decoder(decoder: Any, encoded: list[Tensor]) -> list[Tensor]:
    """The output of every block of a U-Net's decoder; its own `forward` gives the last one only."""
    shapes = [tuple(t.shape[2:]) for t in encoded][::-1]
    head, *across = encoded[1:][::-1]
    x = decoder.center(head)
    out = []
    for index, block in enumerate(decoder.blocks):
        skip = across[index] if index < len(across) else None
        x = block(x, *shapes[index + 1], skip_connection=skip)
        out.append(x)
    return out


def enlarged_sum(parts: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The sum of maps (n, channels, rows, columns) of any sides, each enlarged bilinearly to `size`, step by step."""
    total: Tensor | None = None
    for part in sorted(parts, key=lambda part: part.shape[2]):  # stable: the order of a sum decides its last bit
        total = part if total is None else _enlarged(total, (int(part.shape[2]), int(part.shape[3]))) + part
    if total is None:
        raise ValueError("nothing to add up")
    return _enlarged(total, size)


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    if (x.shape[2], x.shape[3]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def at_points(
    stages: Sequence[Float32], rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], side: int
) -> Float32:
    """The stages' values at pixels of a square chip of `side`: float32 (points, channels of all stages, in order).

    `stages` are (channels, rows, columns) each; what is read is what `enlarged_sum` would enlarge them to.
    """
    weights = _ladder(tuple(sorted({s.shape[1] for s in stages})), side)
    out = []
    for stage in stages:
        matrix = weights[stage.shape[1]]
        out.append(_gathered(stage, matrix[rows], matrix[cols]))
    return np.concatenate(out, axis=1).astype(np.float32)


def _ladder(sizes: tuple[int, ...], side: int) -> dict[int, Float32]:
    """For every size of a stage, the weights (side, size) of its cells in each pixel along one axis."""
    steps = sorted({*sizes, side})
    found: dict[int, Float32] = {side: np.eye(side, dtype=np.float32)}
    for finer, coarser in zip(steps[::-1], steps[-2::-1], strict=False):
        step = F.interpolate(torch.eye(coarser)[None], size=finer, mode="linear", align_corners=False)[0].T
        found[coarser] = found[finer] @ step.numpy() if finer != side else np.ascontiguousarray(step.numpy())
    return found


def _gathered(stage: Float32, down: Float32, across: Float32) -> Float32:
    """Weighted sums over the few cells that touch each point: (points, channels)."""
    row_at, row_weight = _taps(down)
    col_at, col_weight = _taps(across)
    out = np.zeros((len(down), stage.shape[0]), dtype=np.float32)
    for i in range(row_at.shape[1]):
        for j in range(col_at.shape[1]):
            weight = row_weight[:, i] * col_weight[:, j]
            if weight.any():
                out += weight[:, None] * stage[:, row_at[:, i], col_at[:, j]].T.astype(np.float32)
    return out


def _taps(weights: Float32) -> tuple[npt.NDArray[np.int64], Float32]:
    """Where each row is not 0, as (indices, values) of equal width."""
    used = weights != 0
    width = max(1, int(used.sum(axis=1).max(initial=1)))
    first = used.argmax(axis=1)
    at = np.minimum(first[:, None] + np.arange(width), weights.shape[1] - 1)
    values = np.take_along_axis(weights, at, axis=1)
    beyond = first[:, None] + np.arange(width) > weights.shape[1] - 1
    values[beyond] = 0
    return at, values


def channels_of(network: nn.Module, bands: int, side: int = 64) -> tuple[int, ...]:
    """Channels of every stage, by a trial."""
    with torch.inference_mode():
        stages, _ = run_stages(network, torch.zeros(1, bands, side, side))
    return tuple(int(stage.shape[1]) for stage in stages)
