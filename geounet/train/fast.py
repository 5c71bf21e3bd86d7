"""Depthwise convolutions in float32 while training on a CPU.

The backward pass of a bfloat16 depthwise convolution takes oneDNN three to twenty times as long as the float32 one
(99 ms against 4 ms for 672 bands of 19 x 19, batch 8); they make up half of a step. Under autocast everything else
stays bfloat16. Strided 3 x 3 ones are slow in float32 too; there the weight's gradient is summed tap by tap.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Taps(torch.autograd.Function):
    """Depthwise convolution without padding whose weight gradient is one product and sum a tap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """(n, c, h, w), (c, 1, k, k) -> (n, c, h', w')."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, 0, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of input and weight."""
        x, weight = ctx.saved_tensors
        stride, k = ctx.stride, weight.shape[2]
        rows, cols = grad.shape[2:]
        extra = [n - ((m - 1) * stride + k) for n, m in zip(x.shape[2:], (rows, cols), strict=True)]
        of_x = F.conv_transpose2d(grad, weight, None, stride, 0, extra, weight.shape[0])
        of_w = torch.empty_like(weight)
        for i in range(k):
            for j in range(k):
                seen = x[:, :, i : i + (rows - 1) * stride + 1 : stride, j : j + (cols - 1) * stride + 1 : stride]
                of_w[:, 0, i, j] = (seen * grad).sum((0, 2, 3))
        return of_x, of_w, None


def depthwise_in_float32(network: nn.Module) -> nn.Module:
    """Make a network's depthwise convolutions run in float32 whatever autocast says; weights are untouched."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            _wrap(module)
    return network


def _wrap(conv: nn.Conv2d) -> None:
    inner = conv._conv_forward

    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x, weight = x.float(), weight.float()
            if conv.stride[0] > 1 and conv.kernel_size == (3, 3) and conv.padding == (0, 0) and bias is None:
                return cast("Tensor", _Taps.apply(x, weight, conv.stride[0]))
            return cast("Tensor", inner(x, weight, bias))

    conv._conv_forward = forward  # type: ignore[assignment,method-assign]
