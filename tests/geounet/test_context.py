"""A second, coarser view of fine scenes: where it applies, that it is the mean of both, and what it costs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from geounet.engines.choose import open_engine
from geounet.engines.engine import EngineSpec
from geounet.engines.views import views_of
from geounet.mapping.cost import Pixels, cost_of
from geounet.mapping.planner import make_plan
from geounet.mapping.preflight import _resolution
from geounet.model.bundle import ModelBundle, ModelCard
from geounet.model.scorer import Scorer, shrinking
from geounet.model.stretch import Stretch
from tiles.chips.cut import Chip
from tiles.window import Window

SPEC = EngineSpec("torch", "cpu", "f32")


CARD = ModelBundle.load("overhead-rgb").card


def card_with(context: float | None) -> ModelCard:
    return CARD.model_copy(update={"context_gsd_m": context})


@settings(deadline=None)
@given(st.floats(0.05, 5.0))
def test_only_scenes_clearly_finer_are_scored_twice(gsd: float) -> None:
    assert card_with(0.8).context_scale(gsd) == (gsd / 0.8 if gsd <= 0.7 * 0.8 else 1.0)
    assert card_with(None).context_scale(gsd) == 1.0


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 40))
def test_shrinking_is_the_antialiased_resampling(size: int, smaller: int) -> None:
    smaller = min(size, smaller)
    matrix = shrinking(size, smaller)
    assert matrix.sum(dim=1).tolist() == pytest.approx([1.0] * smaller, abs=1e-5)
    image = torch.from_numpy(np.random.default_rng(size).random((1, 2, size, size), dtype=np.float32))
    wanted = F.interpolate(image, (smaller, smaller), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(matrix @ image @ matrix.T, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_engine_with_a_context_gives_the_mean_of_both_views(engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    bundle = ModelBundle.load("overhead-rgb")
    counts = np.random.default_rng(0).integers(0, 255, (3, 16, 16), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    chip = Chip(0, 0, Window(0, 0, 128, 128), counts, np.ones((128, 128), dtype=bool))
    spec = EngineSpec(engine, "cpu", "f32")
    (score,) = open_engine(bundle, spec, 128, context=0.5).predict([chip], Stretch("none"))
    with torch.inference_mode():
        x = torch.from_numpy(counts)[None].float()
        views = [Scorer(bundle, 128, scale).eval()(x)[0].numpy() for scale in (1.0, 0.5)]
    assert score.probabilities is not None
    np.testing.assert_allclose(score.probabilities, (views[0] + views[1]) / 2, atol=2e-3)
    assert np.abs(views[0] - views[1]).max() > 0.05


def test_a_second_view_is_counted_in_the_cost() -> None:
    bundle = ModelBundle.load("overhead-rgb")
    pixels = Pixels(3, 1, 6)
    seconds = []
    for context in (1.0, 0.5):
        plan = make_plan((4000, 4000), bundle, SPEC, pixels, 2, context=context, chip_size=512)
        assert plan.views == views_of("none", context)
        seconds.append(cost_of(plan, (4000, 4000), pixels, 2, 2).seconds)
    assert seconds[1] > 1.1 * seconds[0]


@pytest.mark.parametrize(("gsd", "told"), [(0.5, "; scored at 0.5 m and at 0.8 m"), (0.6, "")])
def test_preflight_says_that_a_scene_is_scored_twice(gsd: float, told: str) -> None:
    bundle = ModelBundle(Path("nowhere"), card_with(0.8))
    scene = SimpleNamespace(georef=SimpleNamespace(gsd=gsd), source=SimpleNamespace(gsd=gsd), notices=())
    row = _resolution(scene, bundle)  # type: ignore[arg-type]
    assert row.status == "ok"
    assert row.text.startswith(f"{gsd} m a pixel")
    assert (told in row.text) if told else ("scored" not in row.text)
