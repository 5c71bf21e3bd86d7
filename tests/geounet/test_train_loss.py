import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from geounet.datasets.labels import LabelCodes
from geounet.train.config import LossConfig, LossTerm
from geounet.train.loss import SetLoss, dice, lovasz, weights_of_classes

NAMES = ("a", "b", "c", "d")
CODES = LabelCodes.of(NAMES).with_sets(["a|b", "!d"])


def loss_of(kind: str, gamma: float = 2.0, smoothing: float = 0.0) -> SetLoss:
    term = LossTerm(kind=kind, gamma=gamma)  # type: ignore[arg-type]
    config = LossConfig(terms=(term,), class_weights="none", label_smoothing=smoothing)
    return SetLoss(config, CODES, torch.ones(4))


def case(seed: int, low: int, high: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    return logits, torch.randint(low, high, (2, 5, 6), generator=generator), torch.ones(2)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_single_classes_give_plain_cross_entropy(seed: int) -> None:
    logits, codes, weights = case(seed, 1, 5)
    torch.testing.assert_close(loss_of("ce")(logits, codes, weights), F.cross_entropy(logits, codes - 1))


@pytest.mark.parametrize("kind", ["ce", "focal", "dice", "lovasz"])
def test_ignored_pixels_pull_at_nothing(kind: str) -> None:
    logits, codes, weights = case(3, 1, 5)
    codes[:, :3] = 0
    logits.requires_grad_()
    loss_of(kind)(logits, codes, weights).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :3].any()
    assert logits.grad[:, :, 3:].any()


@pytest.mark.parametrize("kind", ["ce", "focal", "dice", "lovasz"])
def test_nothing_but_ignored_pixels_costs_nothing(kind: str) -> None:
    logits, codes, weights = case(4, 0, 1)
    assert float(loss_of(kind)(logits, codes, weights)) == 0.0


def test_either_or_scores_the_summed_probability() -> None:
    logits, _, weights = case(5, 1, 5)
    codes = torch.full((2, 5, 6), CODES.code("a|b"))
    p = logits.softmax(1)
    torch.testing.assert_close(loss_of("ce")(logits, codes, weights), -(p[:, 0] + p[:, 1]).log().mean())


def test_not_this_scores_all_the_others() -> None:
    logits, _, weights = case(6, 1, 5)
    codes = torch.full((2, 5, 6), CODES.code("!d"))
    torch.testing.assert_close(
        loss_of("ce")(logits, codes, weights), -(1 - logits.softmax(1)[:, 3]).log().mean(), rtol=1e-4, atol=1e-5
    )


def test_focal_with_gamma_zero_is_cross_entropy() -> None:
    logits, codes, weights = case(7, 1, 5)
    torch.testing.assert_close(loss_of("focal", 0.0)(logits, codes, weights), loss_of("ce")(logits, codes, weights))


@pytest.mark.parametrize("measure", [dice, lovasz])
def test_overlap_losses_are_zero_for_the_truth_and_larger_for_anything_else(measure: object) -> None:
    _, codes, _ = case(8, 1, 5)
    allowed = torch.from_numpy(CODES.allowed)
    truth = F.one_hot(codes - 1, 4).permute(0, 3, 1, 2).float()
    assert callable(measure)
    assert float(measure(truth, codes, allowed)) == pytest.approx(0.0, abs=1e-6)
    assert float(measure(truth.roll(1, 1), codes, allowed)) > 0.5


def test_a_sample_without_weight_pulls_at_nothing() -> None:
    logits, codes, _ = case(9, 1, 5)
    logits.requires_grad_()
    loss_of("ce")(logits, codes, torch.tensor([1.0, 0.0])).backward()
    assert logits.grad is not None
    assert logits.grad[0].any()
    assert not logits.grad[1].any()


@pytest.mark.parametrize("kind", ["none", "inverse", "inverse_sqrt", "effective"])
def test_class_weights_have_mean_one_and_favour_the_rare(kind: str) -> None:
    weights = weights_of_classes(torch.tensor([1000, 10_000, 1_000_000, 0]), kind)
    assert float(weights[:3].mean()) == pytest.approx(1.0)
    assert float(weights[3]) == 0.0
    if kind != "none":
        assert weights[0] > weights[1] > weights[2]
