"""The UNet of Ronneberger et al. 2015 with its sizes as parameters, without a pretrained encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainUnet(nn.Module):
    """float32 (n, in_channels, h, w) to logits (n, classes, h, w) of the same h and w, whatever they are.

    `filters` a level, top to bottom; `kernel_size` odd; `stride` of every step down; `pooling` is `max`, `avg` or
    `conv` (a strided convolution); `skips=False` leaves out the connections across, which makes it a plain
    encoder-decoder (an FCN). Unlike the paper it pads, so that output and input agree, and normalises batches.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        filters: Sequence[int] = (32, 64, 128, 256),
        kernel_size: int = 3,
        stride: int = 2,
        pooling: str = "max",
        skips: bool = True,
    ) -> None:
        super().__init__()
        if len(filters) < 2 or min(filters) < 1:
            raise ValueError(f"filters needs two positive numbers or more, not {list(filters)}")
        if kernel_size % 2 == 0 or stride < 2 or pooling not in ("max", "avg", "conv"):
            raise ValueError("kernel_size must be odd, stride 2 or more, pooling one of max, avg, conv")
        self.skips = skips
        widths = (in_channels, *filters)
        self.down = nn.ModuleList(_block(a, b, kernel_size) for a, b in zip(widths, filters, strict=False))
        self.shrink = nn.ModuleList(_shrink(width, stride, pooling) for width in filters[:-1])
        pairs = [(filters[i + 1], filters[i]) for i in reversed(range(len(filters) - 1))]
        self.up = nn.ModuleList(_block(low + (high if skips else 0), high, kernel_size) for low, high in pairs)
        self.head = nn.Conv2d(filters[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.stages(x)[1]

    def stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The input, the output of every block on the way down and up, and the logits."""
        kept, passed = [], [x]
        for level, block in enumerate(self.down):
            x = block(x)
            passed.append(x)
            if level < len(self.shrink):
                kept.append(x)
                x = self.shrink[level](x)
        for block, across in zip(self.up, reversed(kept), strict=True):
            x = F.interpolate(x, size=across.shape[2:], mode="nearest")
            x = block(torch.cat([x, across], dim=1) if self.skips else x)
            passed.append(x)
        return passed, self.head(x)


def _block(before: int, after: int, kernel: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [nn.Conv2d(width, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def _shrink(width: int, stride: int, pooling: str) -> nn.Module:
    if pooling == "conv":
        return nn.Conv2d(width, width, stride, stride=stride)
    return nn.MaxPool2d(stride, ceil_mode=True) if pooling == "max" else nn.AvgPool2d(stride, ceil_mode=True)
