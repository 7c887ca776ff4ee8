"""Labels, partitions and the transformation they make."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_paths import TREES

from flaxtl import freeze, paths
from flaxtl.errors import ConfigError, PathError

TREE = {"head": {"w": jnp.ones((2, 2))}, "norm": {"scale": jnp.ones(2)}, "stem": {"w": jnp.ones(3)}}


@given(TREES, st.data())
def test_partition_and_merge_are_inverse(tree, data):
    names = [leaf.path for leaf, _ in paths.leaves(tree)]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True))
    labels = freeze.labels(tree, chosen)
    trainable, frozen = freeze.partition(tree, labels)
    assert len(jax.tree.leaves(trainable)) == len(chosen)
    assert freeze.merge(trainable, frozen) == tree


def test_groups_have_transformations_of_their_own():
    labels = freeze.labels(TREE, rules=[("head/**", "fast"), ("norm/**", "frozen"), ("**", "slow")])
    tx = freeze.transform({"fast": optax.sgd(1.0), "slow": optax.sgd(0.1)}, labels)
    updates, _ = tx.update(TREE, tx.init(TREE), TREE)
    assert [
        float(np.ravel(updates[k][j])[0]) for k, j in (("head", "w"), ("norm", "scale"), ("stem", "w"))
    ] == pytest.approx([-1.0, 0.0, -0.1])


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (lambda: freeze.labels(TREE, ["haed/**"]), PathError, "Did you mean"),
        (lambda: freeze.labels(TREE), ConfigError, "one of them"),
        (
            lambda: freeze.transform({}, freeze.labels(TREE, ["head/**"])),
            ConfigError,
            "No transformation .* trainable",
        ),
        (
            lambda: freeze.transform({"a": optax.sgd(1.0)}, freeze.labels(TREE, rules=[("**", "frozen")])),
            ConfigError,
            "No leaf has the labels a",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(call, kind, sentence):
    with pytest.raises(kind, match=sentence):
        call()


def test_live_layers_are_those_whose_parameters_are_trained():
    stats = {"norm": {"mean": 0, "var": 0}, "stem": {"bn": {"mean": 0}}}
    params = {"norm": {"scale": 0}, "stem": {"w": 0}, "head": {"w": 0}}
    assert freeze.live_statistics(freeze.labels(params, ["norm/**"]), stats) == {"norm"}
    # A normalisation layer without parameters of its own follows the module it is part of.
    assert freeze.live_statistics(freeze.labels(params, ["stem/**"]), stats) == {"stem/bn"}
    assert freeze.live_statistics(freeze.labels(params, ["head/**"]), stats) == frozenset()
