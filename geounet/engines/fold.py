"""Batch normalisation folded into the convolutions before it: the same answers in fewer steps."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_PROBE_SIDE = 64
_TOLERANCE = 1e-3


def folded(network: nn.Module, bands: int) -> nn.Module:
    """A network in evaluation mode, (n, bands, rows, columns) to logits, without the normalisations that fold.

    A normalisation that is defined right behind a convolution of as many channels is taken to follow it. Whether that
    was so for all of them shows on a probe: where the logits differ, the network is returned as it was.
    """
    candidate = copy.deepcopy(network)
    for parent in candidate.modules():
        for (first, conv), (second, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _fit(conv, norm):
                setattr(parent, first, fuse_conv_bn_eval(conv, norm))
                # What timm's normalisation does besides, drop and activation, are its children.
                setattr(parent, second, nn.Sequential(*norm.children()))
    probe = torch.randn((1, bands, _PROBE_SIDE, _PROBE_SIDE), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = network(probe), candidate(probe)
    scale = float(before.abs().max().clamp(min=1.0))
    return candidate if float((before - after).abs().max()) <= _TOLERANCE * scale else network


def _fit(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return norm.track_running_stats and conv.out_channels == norm.num_features
