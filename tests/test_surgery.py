"""Surgery on trees: what is asked changes, everything else stays the same object."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_paths import TREES

from flaxtl import paths, surgery
from flaxtl.errors import ConfigError, PathError

TREE = {
    "head": {"kernel": np.ones((4, 3), np.float32), "bias": np.ones(3, np.float32)},
    "stem": np.arange(2.0),
}


def test_reinit_zeros_by_default_and_leaves_the_rest_alone():
    new = surgery.reinit(TREE, "head/**")
    assert not np.any(new["head"]["kernel"])
    assert not np.any(new["head"]["bias"])
    assert new["stem"] is TREE["stem"]


def test_a_named_initialiser_draws_by_the_seed_and_keeps_biases_at_zero():
    a, b, c = (surgery.reinit(TREE, "head/**", "lecun_normal", seed=s)["head"] for s in (0, 0, 1))
    assert np.array_equal(a["kernel"], b["kernel"])
    assert not np.array_equal(a["kernel"], c["kernel"])
    assert np.std(a["kernel"]) > 0.1
    assert not np.any(a["bias"])


def test_reinit_can_take_new_shapes():
    like = {
        "head": {
            "kernel": jax.ShapeDtypeStruct((4, 7), jnp.float32),
            "bias": jax.ShapeDtypeStruct((7,), jnp.float32),
        }
    }
    new = surgery.reinit(TREE, "head/**", like={**like, "stem": TREE["stem"]})
    assert new["head"]["kernel"].shape == (4, 7)


def test_what_is_not_there_is_named():
    with pytest.raises(PathError, match=r"matches none of the 3 leaves.*Did you mean"):
        surgery.reinit(TREE, "haed/**")
    with pytest.raises(PathError, match="'top' is not among head, stem"):
        surgery.graft(TREE, "top", {})
    with pytest.raises(ConfigError, match=r"no initialiser 'lecun'.*lecun_normal"):
        surgery.initialiser("lecun")


@given(TREES, st.data())
def test_graft_changes_one_branch_only(tree, data):
    path = data.draw(st.sampled_from([leaf.path for leaf, _ in paths.leaves(tree)]))
    new = surgery.graft(tree, path, "new")
    assert paths.subtree(new, path) == "new"
    old = {leaf: v for leaf, v in paths.leaves(tree) if leaf.path != path}
    assert {leaf: v for leaf, v in paths.leaves(new) if leaf.path != path} == old


@given(st.integers(1, 5), st.integers(1, 9))
def test_adapted_channels_answer_equal_channels_alike(old, new):
    kernel = np.random.default_rng(0).normal(size=(3, 3, old, 2)).astype(np.float32)
    adapted, said = surgery.adapt_channels(kernel, new)
    assert adapted.shape == (3, 3, new, 2)
    assert str(old) in said
    if new % old == 0 or new == 1:
        np.testing.assert_allclose(adapted.sum(2), kernel.sum(2), rtol=1e-4, atol=1e-5)
