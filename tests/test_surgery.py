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


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new", "prefix"), [((14, 14), (24, 24), 1), ((5, 8), (3, 9), 5), ((4, 4), (2, 2), 0)])
def test_resized_positions_are_those_of_an_antialiased_resize_and_other_tokens_are_kept(how, old, new, prefix):
    position = np.random.default_rng(0).normal(size=(1, prefix + old[0] * old[1], 6)).astype(np.float32)
    made, said = surgery.resize_positions(position, old, new, prefix=prefix, how=how)
    grid = position[0, prefix:].reshape(*old, 6)
    wanted = jax.image.resize(grid, (*new, 6), {"bilinear": "linear", "bicubic": "cubic"}[how], antialias=True)
    np.testing.assert_allclose(made[0, prefix:].reshape(*new, 6), wanted, atol=1e-5)
    assert np.array_equal(made[:, :prefix], position[:, :prefix])
    assert how in said
    flat, _ = surgery.resize_positions(position[0], old, new, prefix=prefix, how=how)
    assert np.array_equal(flat, made[0])


def test_positions_are_not_guessed():
    """196 tokens are a grid of 14×14, or a class token and 195 patches; who asks must know."""
    with pytest.raises(ConfigError, match=r"\[1, 196, 4\] are not those of a grid of 14×14 patches and 1 further"):
        surgery.resize_positions(np.zeros((1, 196, 4)), (14, 14), (7, 7), prefix=1)
    kept, _ = surgery.resize_positions(tokens := np.zeros((196, 4)), (14, 14), (14, 14))
    assert kept is tokens


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(["bilinear", "bicubic"]))
def test_a_resize_keeps_what_is_constant(old, new, how):
    matrix = surgery.resize_matrix(old, new, how)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix @ np.ones(old), np.ones(new), atol=1e-12)
    assert new != old or np.allclose(matrix, np.eye(old), atol=1e-12)


@pytest.mark.parametrize("new", [(6, 6), (4, 7), (8, 5)])
def test_a_patch_resized_with_its_kernel_gives_the_old_token(new):
    rng = np.random.default_rng(0)
    kernel, patch = rng.normal(size=(4, 4, 3, 5)), rng.normal(size=(4, 4, 3))
    made, _ = surgery.resize_patches(kernel, new)
    rows, columns = (surgery.resize_matrix(4, n, "bilinear") for n in new)
    larger = np.einsum("ri,cj,ijk->rck", rows, columns, patch)
    np.testing.assert_allclose(np.tensordot(larger, made, 3), np.tensordot(patch, kernel, 3), atol=1e-10)
