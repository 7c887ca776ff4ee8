"""Subsets and folds keep every class, never divide a group, and are drawn by the seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxtl.data import Source, few_shot, folds, stratified_split
from flaxtl.errors import ConfigError, DataError

TARGETS = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(np.array)


@st.composite
def grouped(draw):
    targets = draw(TARGETS)
    groups = draw(st.lists(st.sampled_from("abcdefg"), min_size=len(targets), max_size=len(targets)))
    return targets, groups


def source(targets, groups=None):
    return Source.of("text", [""] * len(targets), [str(t) for t in targets], groups=groups)


def together(parts, groups):
    return all({groups[i] for i in a}.isdisjoint(groups[i] for i in b) for a, b in parts)


# Few shots


def test_so_many_of_each_class_are_drawn_and_small_classes_give_all():
    targets = np.array([0] * 10 + [1] * 3 + [2])
    chosen, rest = few_shot(source(targets), 3, seed=0)
    assert np.bincount(targets[chosen]).tolist() == [3, 3, 1]
    assert sorted([*chosen, *rest]) == list(range(14))
    assert np.array_equal(chosen, np.sort(chosen))


def test_the_seed_draws_and_smaller_draws_are_part_of_larger_ones():
    data = source(np.repeat(np.arange(5), 20))
    draws = {seed: few_shot(data, 4, seed)[0].tolist() for seed in range(10)}
    assert draws[3] == few_shot(data, 4, 3)[0].tolist()
    assert len({tuple(d) for d in draws.values()}) == 10
    for fewer in (1, 2, 3):
        assert set(few_shot(data, fewer, 7)[0]) < set(draws[7])


def test_each_example_is_as_likely_as_another():
    drawn = np.concatenate([few_shot(source([0] * 10 + [1] * 5), 2, seed)[0] for seed in range(500)])
    expected = np.array([100.0] * 10 + [200.0] * 5)
    assert np.abs(np.bincount(drawn, minlength=15) - expected).max() < 5 * np.sqrt(200)


def test_the_rest_shares_no_group_with_what_was_chosen():
    targets, groups = np.repeat([0, 1], 6), list("aabbcc") * 2
    chosen, rest = few_shot(source(targets, groups), 1, seed=0)
    assert len(chosen) == 2
    assert together([(chosen, rest)], groups)
    assert len(rest) >= 4


def test_the_unlabelled_are_never_drawn():
    data = Source("text", ["x"] * 4, np.array([0, -1, 1, -1], np.int32), ("a", "b"), tuple("1234"), np.ones(4))
    assert [part.tolist() for part in few_shot(data, 5, 0)] == [[0, 2], [1, 3]]
    with pytest.raises(DataError, match="no classes"):
        few_shot(Source.of("text", ["x"]), 1, 0)
    with pytest.raises(ConfigError, match="expected at least 1"):
        few_shot(data, 0, 0)


# Hold-outs


@settings(deadline=None, max_examples=50)
@given(TARGETS, st.floats(0, 1), st.integers(0, 3))
def test_a_hold_out_is_a_share_of_each_class_and_leaves_some(targets, fraction, seed):
    kept, held = stratified_split(targets, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(targets)))
    for label in np.unique(targets):
        count = (targets == label).sum()
        assert (targets[held] == label).sum() == min(round(fraction * count), count - 1)


def test_a_class_with_one_example_stays_in_training():
    for seed in range(20):
        kept, held = stratified_split(np.array([0] * 8 + [1]), 0.25, seed)
        assert 8 in kept
        assert len(held) == 2


def test_the_seed_draws_the_hold_out():
    targets = np.repeat([0, 1], 20)
    draws = [stratified_split(targets, 0.2, seed)[1].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@settings(deadline=None, max_examples=50)
@given(grouped(), st.floats(0, 1), st.integers(0, 3))
def test_a_hold_out_divides_no_group_and_keeps_every_class(drawn, fraction, seed):
    targets, groups = drawn
    kept, held = stratified_split(targets, fraction, seed, groups)
    assert sorted([*kept, *held]) == list(range(len(targets)))
    assert together([(kept, held)], groups)
    assert set(targets[kept]) == set(targets)


def test_groups_are_held_out_about_as_much_as_was_asked():
    targets = np.tile(np.arange(4), 50)
    groups = np.repeat([f"speaker {i}" for i in range(20)], 10)
    for seed in range(10):
        _, held = stratified_split(targets, 0.2, seed, list(groups))
        assert 30 <= len(held) <= 50


@pytest.mark.parametrize("fraction", [-0.1, 1.1, np.nan])
def test_a_share_that_is_none(fraction):
    with pytest.raises(ConfigError, match="expected 0 to 1"):
        stratified_split(np.array([0, 1]), fraction, 0)


# Folds


@settings(deadline=None, max_examples=50)
@given(TARGETS, st.integers(2, 6), st.integers(1, 2), st.integers(0, 3))
def test_folds_test_each_example_of_a_repeat_once_and_train_on_every_class(targets, k, repeats, seed):
    found = folds(targets, k, repeats, seed)
    tested = np.zeros(len(targets), int)
    for train, test in found:
        assert sorted([*train, *test]) == list(range(len(targets)))
        assert set(targets[train]) == set(targets)
        assert len(test)
        tested[test] += 1
    sizes = np.bincount(targets)[targets]
    assert np.array_equal(tested, np.where(sizes > 1, repeats, 0))


@settings(deadline=None, max_examples=50)
@given(grouped(), st.integers(2, 5), st.integers(0, 3))
def test_folds_divide_no_group_and_train_on_every_class(drawn, k, seed):
    targets, groups = drawn
    found = folds(targets, k, 1, seed, groups)
    assert together(found, groups)
    assert all(set(targets[train]) == set(targets) for train, _ in found)
    tested = np.concatenate([test for _, test in found]) if found else np.empty(0)
    assert len(np.unique(tested)) == len(tested)


def test_folds_are_even_and_drawn_by_the_seed():
    targets = np.repeat(np.arange(3), 10)
    found = folds(targets, 5, 2, seed=0)
    assert len(found) == 10
    for _, test in found:
        assert np.bincount(targets[test]).tolist() == [2, 2, 2]
    again, other = folds(targets, 5, 2, seed=0), folds(targets, 5, 2, seed=1)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(found, again, strict=True))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(found, other, strict=True))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(found[:5], found[5:], strict=True))


def test_no_folds_where_there_is_nothing_to_deal():
    assert folds(np.array([0, 1, 2]), 5, 3, 0) == []
    assert folds(np.array([0, 0, 1, 1]), 5, 1, 0, ["g", "g", "h", "h"]) == []
    assert folds(np.empty(0, int), 5, 1, 0) == []
    assert len(folds(np.array([0, 0, 1, 1, 1]), 10, 1, 0)) == 3
    with pytest.raises(ConfigError, match="at least 2 folds"):
        folds(np.array([0, 0]), 1, 1, 0)
