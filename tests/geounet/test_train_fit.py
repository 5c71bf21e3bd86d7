import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

from geounet.datasets.config import SourceConfig, SplitConfig
from geounet.datasets.labels import IGNORE, LabelCodes
from geounet.datasets.load import DataSet, Sample, Source
from geounet.errors import TrainingError
from geounet.evaluation.network_scores import score_samples
from geounet.model.bundle import Normalisation
from geounet.train.augment.class_mix import class_mixed
from geounet.train.augment.colours import Augmenter, blurred, tables
from geounet.train.augment.flood import flooded
from geounet.train.calibrate import fit_temperature
from geounet.train.config import AugmentConfig, SamplingConfig, ScheduleConfig, TrainConfig, check_config
from geounet.train.depthwise import depthwise_in_float32
from geounet.train.fit import CHECKPOINT, Moment, fit, rate_at
from geounet.train.sampler import CropSampler

NAMES = ("dark", "bright")
NORMALISATION = Normalisation(mean=(127.0,) * 3, std=(128.0,) * 3)


def config_of(**schedule: Any) -> TrainConfig:
    legend = [{"value": i + 1, "name": n, "color": (i, i, i)} for i, n in enumerate(NAMES)]
    source = {"name": "s", "images": "i", "labels": "l", "classes": {}, "gsd_m": (1, 1), "split": {"none": True}}
    return TrainConfig.model_validate(
        {
            "name": "t",
            "gsd_m": (1, 1),
            "legend": legend,
            "source": [source],
            "sampling": SamplingConfig(crop=32, batch=2),
            "augment": AugmentConfig(gamma=0.1, contrast=0.1, brightness=5, transfer=0, shadow=0, haze=0),
            "schedule": ScheduleConfig(**{"steps": 40, "warmup": 2, "validate_every": 10, "rate": 0.05} | schedule),
        }
    )


@pytest.fixture
def data() -> DataSet:
    """Dark and bright squares; whoever looks at brightness gets all of it."""
    rng = np.random.default_rng(1)
    samples = []
    for name in ("a", "b"):
        label = (rng.random((6, 6)) < 0.5).repeat(8, 0).repeat(8, 1)
        image = np.where(label, 200, 60)[None].repeat(3, 0) + rng.integers(-20, 20, (3, 48, 48))
        codes = torch.from_numpy(label.astype(np.uint8) + 1)
        samples.append(Sample(name, name, torch.from_numpy(image.astype(np.uint8)), codes, None))
    source = SourceConfig(name="s", images="i", labels="l", classes={}, gsd_m=(1, 1), split=SplitConfig(none=True))
    return DataSet(LabelCodes.of(NAMES), (Source(source, (samples[0],), (samples[1],)),))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def test_training_learns_what_is_there_to_learn(data: DataSet, tmp_path: Path) -> None:
    moments: list[Moment] = []
    run = fit(config_of(), data, network(), NORMALISATION, tmp_path, on_moment=moments.append)
    assert run.best > 0.9
    assert [m.step for m in moments] == list(range(1, 41))
    assert moments[-1].epoch == pytest.approx(40 * 2 * 32**2 / 48**2)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "step,loss,miou,s.miou,s.dark,s.bright"
    assert len(lines) == 5


class StopError(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_result(data: DataSet, tmp_path: Path) -> None:
    whole = fit(config_of(), data, network(), NORMALISATION, _new(tmp_path, "whole"))

    def stop(moment: Moment) -> None:
        if moment.step == 27:
            raise StopError

    cut = _new(tmp_path, "cut")
    with pytest.raises(StopError):
        fit(config_of(), data, network(), NORMALISATION, cut, on_moment=stop)
    again = fit(config_of(), data, network(), NORMALISATION, cut)
    assert again.log == whole.log
    for key, tensor in whole.best_state.items():
        assert torch.equal(tensor, again.best_state[key]), key


def test_a_checkpoint_of_another_configuration_is_refused(data: DataSet, tmp_path: Path) -> None:
    fit(config_of(steps=10), data, network(), NORMALISATION, tmp_path)
    assert (tmp_path / CHECKPOINT).is_file()
    with pytest.raises(TrainingError, match="another configuration"):
        fit(config_of(steps=20), data, network(), NORMALISATION, tmp_path)


def test_early_stopping_waits_for_its_patience(data: DataSet, tmp_path: Path) -> None:
    plan = config_of(steps=400, validate_every=5, patience=2, rate=1e-9, encoder_rate=1e-9, weight_decay=0)
    run = fit(plan, data, network(), NORMALISATION, tmp_path)
    assert run.step < 400
    assert run.step - run.best_step == 10


def test_a_loss_that_is_no_number_ends_the_run(data: DataSet, tmp_path: Path) -> None:
    broken = network()
    next(broken.parameters()).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"lower schedule\.rate"):
        fit(config_of(), data, broken, NORMALISATION, tmp_path)


def test_the_rate_warms_up_and_ends_at_nothing() -> None:
    plan = ScheduleConfig(steps=100, warmup=10)
    rates = [rate_at(step, plan) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


class Encoded(nn.Module):
    """A network with a part called encoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.encoder(x))
        return out


def test_a_frozen_encoder_does_not_move(data: DataSet, tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in Encoded().state_dict().items()}
    run = fit(config_of(steps=10, freeze_encoder=10), data, Encoded(), NORMALISATION, tmp_path)
    after = run.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("encoder"))
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_an_overconfident_network_is_calibrated(data: DataSet) -> None:
    class Boaster(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            grey = x.mean(1, keepdim=True) * self.scale * 6  # the margin of a right answer, made far too large
            noise = torch.sin(x[:, :1] * 900) * 12
            return torch.cat([-grey + noise, grey - noise], 1)

    samples = data.sources[0].val
    temperature = fit_temperature(Boaster(), [samples], data.codes, NORMALISATION, 0)
    assert temperature > 1.5
    before = score_samples(Boaster(), samples, data.codes, NORMALISATION, 1.0)
    after = score_samples(Boaster(), samples, data.codes, NORMALISATION, temperature)
    assert after.calibration.error < before.calibration.error


def test_depthwise_convolutions_in_float32_give_the_same_output_and_gradients() -> None:
    def make() -> nn.Sequential:
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Conv2d(4, 4, 3, stride=2, groups=4, bias=False), nn.Conv2d(4, 4, 5, padding=2, groups=4)
        )

    plain, fast = make(), depthwise_in_float32(make())
    x = torch.randn(2, 4, 22, 19)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [net(i) for net, i in zip((plain, fast), inputs, strict=True)]
    torch.testing.assert_close(*outputs)
    for out in outputs:
        out.square().sum().backward()
    assert inputs[0].grad is not None
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for a, b in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_augmentation_switched_off_changes_nothing(data: DataSet) -> None:
    off = AugmentConfig.off()
    sampler = CropSampler(data, SamplingConfig(crop=32, batch=3), off, 5)
    batch = sampler.batch(7)
    images, codes = Augmenter(off, sampler, 5)(batch.images, batch.codes, 7)
    assert torch.equal(images, batch.images.round())
    assert torch.equal(codes, batch.codes)


def test_a_share_of_the_crops_keeps_its_colours(data: DataSet) -> None:
    half = AugmentConfig(share=0.5, brightness=30, band_shift=10)
    sampler = CropSampler(data, SamplingConfig(crop=32, batch=40), half, 5)
    batch = sampler.batch(7)
    varied, _ = Augmenter(half, sampler, 5)(batch.images, batch.codes, 7)
    kept = [torch.equal(new, old.round()) for new, old in zip(varied, batch.images, strict=True)]
    assert 8 <= sum(kept) <= 32


def test_augmented_counts_stay_on_the_scale_and_repeat(data: DataSet) -> None:
    strong = AugmentConfig(transfer=1, haze=1, blur=1, noise=1, shadow=1, dropout=1)
    sampler = CropSampler(data, SamplingConfig(crop=64, batch=4), strong, 5)
    augmenter = Augmenter(strong, sampler, 5)
    batch = sampler.batch(1)
    (once, _), (again, _) = (augmenter(batch.images, batch.codes, 1) for _ in range(2))
    assert torch.equal(once, again)
    assert float(once.min()) >= 0
    assert float(once.max()) <= 255
    assert not torch.equal(once, augmenter(batch.images, batch.codes, 2)[0])


def test_a_painted_lake_changes_its_ground_and_labels_in_its_share_of_the_crops(data: DataSet) -> None:
    config = AugmentConfig.off().model_copy(update={"flood": 0.5, "flood_class": "bright"})
    sampler = CropSampler(data, SamplingConfig(crop=32, batch=40), config, 5)
    batch = sampler.batch(7)
    images, codes = batch.images.clone(), batch.codes.clone()
    painted, labels = Augmenter(config, sampler, 5)(batch.images, batch.codes, 7)
    changed = [not torch.equal(new, old.round()) for new, old in zip(painted, images, strict=True)]
    assert 8 <= sum(changed) <= 32
    assert torch.equal(batch.images, images)  # a batch of the sampler is not written to
    assert torch.equal(batch.codes, codes)
    for new, old, label, was, lake in zip(painted, images, labels, codes, changed, strict=True):
        assert lake or torch.equal(label, was)
        away = torch.nn.functional.max_pool2d((label == 2)[None].float(), 3, 1, 1)[0] == 0
        assert torch.equal(new[:, away], old[:, away].round())
        assert torch.equal(label[label != 2], was[label != 2])


@given(st.integers(0, 2**32), st.integers(3, 5), st.integers(32, 70), st.integers(32, 70))
def test_a_lake_is_painted_on_its_ground_alone_and_stays_on_the_scale(seed: int, bands: int, h: int, w: int) -> None:
    x = np.full((bands, h, w), 128.0, dtype=np.float32)
    out, ground = flooded(x, np.random.default_rng(seed))
    assert out.shape == x.shape
    assert ground.shape == (h, w)
    changed = (out != x).any(axis=0)
    assert changed[ground].all()
    assert not changed[~ndimage.binary_dilation(ground, np.ones((3, 3)))].any()  # the shore is soft by one pixel
    assert out.min() >= 0
    assert out.max() <= 255
    np.testing.assert_array_equal(out[3:], x[3:])  # a lake is painted in red, green and blue


def test_lakes_are_of_many_sizes_and_as_often_dark_as_bright() -> None:
    x = np.full((3, 256, 256), 128.0, dtype=np.float32)
    lakes = [flooded(x, np.random.default_rng(seed)) for seed in range(60)]
    shares = [float(ground.mean()) for _, ground in lakes]
    assert min(shares) > 0.2
    assert max(shares) > 0.95
    light = [float(out[:, ground].mean()) for out, ground in lakes]
    assert min(light) < 20
    assert 20 < np.median(light) < 80
    assert max(light) > 110


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"augment": {"flood": 0.5}}, "'water' is no class of the legend: dark, bright"),
        ({"augment": {"flood": 0.5, "flood_class": "dark"}, "bands": ("nir", "red")}, "needs red, green, blue"),
        ({"augment": {"flood": 2}}, "less than or equal to 1"),
    ],
)
def test_a_lake_of_no_class_or_without_colours_is_refused(change: dict[str, Any], told: str) -> None:
    record = config_of().model_dump(mode="json") | change
    with pytest.raises(TrainingError, match=told):
        check_config(record, "c.toml")


@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0, 1))
def test_class_mix_moves_pixels_with_their_labels_and_whole_classes_only(seed: int, count: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    classes = 3
    codes = torch.from_numpy(rng.integers(0, classes + 2, (count, 6, 6), dtype=np.uint8))  # ignored and either-or too
    codes[torch.from_numpy(rng.random(count) < 0.2)] = IGNORE  # and crops of which nothing is known
    images = torch.arange(count * 36.0).reshape(count, 1, 6, 6).repeat(1, 2, 1, 1)  # each pixel tells where it is from
    before = images.clone(), codes.clone()
    new_images, new_codes = class_mixed(images, codes, share, classes, rng)
    assert torch.equal(images, before[0])
    assert torch.equal(codes, before[1])
    assert torch.equal(codes.flatten()[new_images[:, 0].flatten().long()], new_codes.flatten())
    for index in range(count):
        came_from = new_images[index, 0].long() // 36
        pasted = came_from != index
        assert torch.equal(new_images[index, 0].long() % 36, torch.arange(36).reshape(6, 6))  # nothing is shifted
        if pasted.any():
            (other,) = torch.unique(came_from[pasted]).tolist()
            chosen, present = torch.unique(new_codes[index][pasted]), torch.unique(codes[other]).tolist()
            assert torch.equal(torch.isin(codes[other], chosen), pasted)
            assert len(chosen) == max(1, sum(0 < c <= classes for c in present) // 2)
            assert 0 < int(chosen.min()) <= int(chosen.max()) <= classes


def test_class_mix_takes_its_share_of_the_crops_and_repeats(data: DataSet) -> None:
    config = AugmentConfig.off().model_copy(update={"class_mix": 0.5})
    sampler = CropSampler(data, SamplingConfig(crop=32, batch=40), config, 5)
    batch = sampler.batch(7)
    (once, labels), (again, _) = (Augmenter(config, sampler, 5)(batch.images, batch.codes, 7) for _ in range(2))
    assert torch.equal(once, again)
    changed = [not torch.equal(new, old.round()) for new, old in zip(once, batch.images, strict=True)]
    assert 8 <= sum(changed) <= 32
    assert torch.equal(once[:, 0] > 130, labels == 2)  # bright pixels are labelled bright, pasted or not


def test_full_transfer_brings_the_other_histogram() -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 80, (1, 64, 64), dtype=np.uint8)
    bright = rng.integers(150, 250, (1, 64, 64), dtype=np.uint8)
    (table,) = tables(dark, bright, AugmentConfig.off().model_copy(update={"transfer": 1.0}), rng)
    moved = table[dark[0]]
    assert np.median(moved) > np.median(dark) + 0.25 * (200 - 40)


def test_blur_keeps_a_flat_image_flat_and_the_mean() -> None:
    flat = np.full((3, 20, 30), 77, dtype=np.float32)
    np.testing.assert_allclose(blurred(flat, 1.3), flat, rtol=1e-5)


def _new(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name
