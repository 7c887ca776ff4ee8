"""The path language: names, patterns, rules and their coverage."""

import string

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaxtl import paths
from flaxtl.errors import PathError

KEYS = st.text(st.sampled_from("ab/\\:*. 1é"), min_size=1, max_size=4)
TREES = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3),
    max_leaves=12,
).filter(lambda t: isinstance(t, dict) and not paths.is_variables(t))
TREE = {"backbone": {"blocks_1": {"kernel": 1}, "blocks_11": {"kernel": 2, "bias": 3}}, "head": {"kernel": 4}}


@given(st.lists(KEYS, min_size=1, max_size=4))
def test_a_path_splits_into_the_keys_it_was_joined_from(keys):
    assert paths.split(paths.join(keys)) == tuple(keys)


@given(TREES)
def test_flatten_and_unflatten_are_inverse(tree):
    assert paths.unflatten(paths.flatten(tree)) == tree


@given(TREES)
def test_every_leaf_matches_its_own_name_and_the_double_star(tree):
    for leaf, _ in paths.leaves(tree):
        assert paths.matches(leaf.path, leaf)
        assert paths.matches(leaf.name, leaf)
        assert paths.matches("**", leaf)
        assert not paths.matches(leaf.path + "/x", leaf)


@given(TREES)
def test_rules_cover_every_leaf_once_and_the_first_match_wins(tree):
    found = paths.leaves(tree)
    first = found[0][0]
    rules = [(first.path, "first")] + ([("**", "rest")] if len(found) > 1 else [])
    values = jax.tree.leaves(paths.assign(rules, tree))
    assert values == ["first"] + ["rest"] * (len(found) - 1)


@given(TREES)
def test_select_keeps_the_structure(tree):
    chosen = paths.select("**", tree)
    assert jax.tree.structure(chosen) == jax.tree.structure(tree)
    assert all(jax.tree.leaves(chosen))


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("head/**", ["head/kernel"]),
        ("**/kernel", ["backbone/blocks_1/kernel", "backbone/blocks_11/kernel", "head/kernel"]),
        ("backbone/*/bias", ["backbone/blocks_11/bias"]),
        ("backbone/blocks_1*/kernel", ["backbone/blocks_1/kernel", "backbone/blocks_11/kernel"]),
        ("backbone/blocks_1/**", ["backbone/blocks_1/kernel"]),
        ("head", []),
        ("*/kernel", ["head/kernel"]),
        ("params:head/*", ["head/kernel"]),
        ("batch_stats:head/*", []),
        ("**/**", [leaf.path for leaf, _ in paths.leaves(TREE)]),
    ],
)
def test_patterns(pattern, matched):
    assert [leaf.path for leaf in paths.matching(pattern, TREE)] == matched


def test_a_collection_narrows_a_pattern():
    variables = {"params": {"bn": {"scale": 0}}, "batch_stats": {"bn": {"mean": 0}}}
    values = paths.assign([("batch_stats:bn/**", "stats"), ("bn/**", "rest")], variables)
    assert values == {"params": {"bn": {"scale": "rest"}}, "batch_stats": {"bn": {"mean": "stats"}}}


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ([("backbone/blocks_12/**", 0), ("**", 1)], "Did you mean .*backbone/blocks_1"),
        ([("**", 0), ("head/**", 1)], "never reached.*Move it up"),
        ([("head/**", 0)], "No rule covers .*backbone/blocks_1"),
    ],
)
def test_rules_that_do_not_fit_are_refused_with_a_sentence(rules, sentence):
    with pytest.raises(PathError, match=sentence):
        paths.assign(rules, TREE)


def test_a_place_that_does_not_exist_is_named():
    with pytest.raises(PathError, match="'blocks_2' is not among blocks_1, blocks_11"):
        paths.subtree(TREE, "backbone/blocks_2")


def test_one_path_for_two_things_is_refused():
    with pytest.raises(PathError, match="runs through 'a', which is a leaf"):
        paths.unflatten({("a",): 1, ("a", "b"): 2})


def test_lists_and_tuples_have_paths_too():
    assert [leaf.path for leaf, _ in paths.leaves({"blocks": [{"w": 1}, {"w": 2}]})] == [
        "blocks/0/w",
        "blocks/1/w",
    ]


def test_alphabet_needs_no_escape():
    word = string.ascii_letters + string.digits + "_-."
    assert paths.escape(word) == word
