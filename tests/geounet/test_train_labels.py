import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geounet.datasets.labels import IGNORE, LabelCodes
from geounet.errors import TrainingError

NAMES = ("building", "road", "bare", "tree", "low_vegetation", "water")


def test_what_labels_may_say() -> None:
    codes = LabelCodes.of(NAMES)
    assert codes.parse("tree") == {3}
    assert codes.parse("tree | low_vegetation") == {3, 4}
    assert codes.parse("!building") == {1, 2, 3, 4, 5}
    assert codes.parse("ignore") == set(range(6))


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(TrainingError, match=r"'lawn' is no class of the legend: building, road"):
        LabelCodes.of(NAMES).parse("tree|lawn")


def test_single_classes_have_the_codes_after_ignore() -> None:
    allowed = LabelCodes.of(NAMES).allowed
    assert allowed[IGNORE].all()
    np.testing.assert_array_equal(allowed[1:], np.eye(6, dtype=bool))


@settings(deadline=None)
@given(st.lists(st.sets(st.sampled_from(NAMES), min_size=1), max_size=6))
def test_every_set_gets_one_code_and_is_described_in_words_that_parse(sets: list[set[str]]) -> None:
    texts = ["|".join(sorted(s)) for s in sets]
    codes = LabelCodes.of(NAMES).with_sets(texts)
    assert len(set(codes.sets)) == len(codes.sets)
    for text in texts:
        assert codes.sets[codes.code(text)] == codes.parse(text)
        assert codes.parse(codes.describe(codes.code(text))) == codes.parse(text)


@settings(deadline=None)
@given(st.lists(st.sets(st.sampled_from(NAMES), min_size=1, max_size=6), max_size=4))
def test_scored_groups_part_the_classes_and_hold_every_either_or(sets: list[set[str]]) -> None:
    codes = LabelCodes.of(NAMES).with_sets(["|".join(sorted(s)) for s in sets])
    groups = codes.scored_groups(range(len(NAMES) + 1, len(codes.sets)))
    assert sorted(i for _, members in groups for i in members) == list(range(6))
    for members in codes.sets:
        if len(members) <= 3:
            assert any(members <= set(group) for _, group in groups)


def test_dubai_joins_tree_and_low_vegetation_only() -> None:
    codes = LabelCodes.of(NAMES).with_sets(["tree|low_vegetation", "!building"])
    names = [name for name, _ in codes.scored_groups([1, codes.code("tree|low_vegetation"), codes.code("!building")])]
    assert names == ["building", "road", "bare", "tree|low_vegetation", "water"]
