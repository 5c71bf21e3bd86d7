"""Estimates from a checked sample: the worked example of Olofsson et al. 2014, and what must hold of any."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geounet.statistics.estimate import stratified_estimates

NAMES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED = np.array([200_000.0, 150_000.0, 3_200_000.0, 6_450_000.0])
HECTARES = 0.09 * MAPPED.sum()


def test_the_worked_example_of_the_paper() -> None:
    """Section 5 and tables 8 to 10: areas in hectares with 95 % intervals, and the three accuracies."""
    found = stratified_estimates(NAMES, COUNTS, MAPPED)
    assert found is not None
    areas = [(c.share.value * HECTARES, c.share.half_width * HECTARES) for c in found.classes]
    told = [(21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282)]
    for (area, half_width), (area_told, half_width_told) in zip(areas, told, strict=True):
        assert area == pytest.approx(area_told, abs=1)
        assert half_width == pytest.approx(half_width_told, rel=2e-3)
    assert (found.overall.value, found.overall.half_width) == pytest.approx((0.95, 0.02), abs=0.005)
    users = [(c.users.value, c.users.half_width) for c in found.classes if c.users]
    assert np.allclose(users, [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)], atol=0.006)
    producers = [c.producers.value for c in found.classes if c.producers]
    assert np.allclose(producers, [0.75, 0.85, 0.93, 0.96], atol=0.006)


def test_intervals_of_producers_accuracy_are_those_of_repeated_sampling() -> None:
    """Sampling the paper's population again and again spreads the estimate as equation 7 says."""
    found = stratified_estimates(NAMES, COUNTS, MAPPED)
    assert found is not None
    rng = np.random.default_rng(1)
    size, share = COUNTS.sum(axis=1), COUNTS / COUNTS.sum(axis=1, keepdims=True)
    again = np.stack([rng.multinomial(n, p, 20_000) for n, p in zip(size, share, strict=True)], axis=1)
    proportion = (MAPPED / MAPPED.sum() / size)[:, None] * again
    spread = 1.96 * (np.einsum("kii->ki", proportion) / proportion.sum(axis=1)).std(axis=0)
    told = [c.producers.half_width for c in found.classes if c.producers]
    assert np.allclose(told, spread, rtol=0.08)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=3, max_size=3))
def test_shares_make_up_the_whole_and_a_perfect_map_is_its_own_estimate(rows: list[list[int]]) -> None:
    counts = np.array(rows) + 2 * np.eye(3, dtype=np.int64)
    mapped = np.array([1.0, 2.0, 5.0])
    found = stratified_estimates(("a", "b", "c"), counts, mapped)
    assert found is not None
    assert sum(c.share.value for c in found.classes) == pytest.approx(1)
    perfect = stratified_estimates(("a", "b", "c"), np.diag(counts.sum(axis=1)), mapped)
    assert perfect is not None
    assert [c.share.value for c in perfect.classes] == pytest.approx(list(mapped / 8))
    assert perfect.overall.value == pytest.approx(1)
    assert max(c.share.half_width for c in perfect.classes) == 0


def test_a_mapped_class_without_points_has_no_estimate() -> None:
    assert stratified_estimates(("a", "b"), np.array([[5, 1], [1, 0]]), np.array([1.0, 1.0])) is None
    assert stratified_estimates(("a", "b"), np.array([[5, 1], [0, 0]]), np.array([1.0, 0.0])) is not None
