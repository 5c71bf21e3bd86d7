"""Depthwise convolutions in float32 while training on a CPU.

The backward pass of a bfloat16 depthwise convolution takes oneDNN up to twenty times as long as the float32 one (179 ms
against 8 ms for 672 bands of 19 x 19, stride 2, batch 8); they made up half of a step. Under autocast everything else
stays bfloat16.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def depthwise_in_float32(network: nn.Module) -> nn.Module:
    """Make depthwise convolutions run in float32 on a CPU, whatever autocast says; weights are untouched."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            _wrap(module)
    return network


def _wrap(conv: nn.Conv2d) -> None:
    # The module's whole forward: layers with TensorFlow's padding do not pass through `_conv_forward`.
    inner: Callable[[Tensor], Tensor] = conv.forward

    def forward(x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return inner(x)
        with torch.autocast("cpu", enabled=False):
            return inner(x.float())

    conv.forward = forward  # type: ignore[assignment,method-assign]
