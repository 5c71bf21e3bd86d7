"""Folding changes no answer, and does not happen where it would."""

import pytest
import torch
from torch import nn

from geounet.engines.fold import folded
from geounet.model.architectures import build_architecture
from geounet.model.bundle import Architecture


def seen(network: nn.Module) -> nn.Module:
    """With statistics as after training: neither zero nor one."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.weight, 0.5)):
                assert tensor is not None
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + low)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(arguments={"encoder_depth": 3, "decoder_channels": [16, 8, 8]}),
        Architecture(encoder="resnet18", arguments={"encoder_depth": 3, "decoder_channels": [16, 8, 8]}),
        Architecture(name="plain-unet", arguments={"filters": [4, 8]}),
    ],
)
def test_a_folded_network_answers_the_same_without_normalisations(architecture: Architecture) -> None:
    network = seen(build_architecture(architecture, 3, 4))
    found = folded(network, 3)
    assert norms(network) > 0
    assert norms(found) == 0
    x = torch.randn((2, 3, 64, 96), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(found(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


class Misleading(nn.Module):
    """The normalisation is defined behind the convolution and used before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(self.norm(x))
        return out


def test_a_network_whose_order_of_definition_misleads_is_left_as_it_was() -> None:
    network = seen(Misleading())
    assert folded(network, 3) is network
