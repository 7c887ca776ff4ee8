"""The layers that transformers share say, and derive, what the plain formulas say and derive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxtl.nets.transformer import GatedMlp, SelfAttention, attend, gelu, padding_bias


def _drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _plain_attention(q, k, v, bias=0.0):
    scores = jnp.einsum("bhld,bhsd->bhls", q, k) / np.sqrt(q.shape[-1]) + bias
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    return jnp.einsum("bhls,bhsd->bhld", weights / weights.sum(-1, keepdims=True), v)


def test_gelu_and_its_derivatives_are_those_of_jax():
    x = np.linspace(-6, 6, 2001, dtype=np.float32)
    plain = lambda a: jax.nn.gelu(a, approximate=False)  # noqa: E731
    for ours, theirs in ((gelu, plain), (jax.vmap(jax.grad(gelu)), jax.vmap(jax.grad(plain)))):
        np.testing.assert_allclose(ours(x), theirs(x), atol=2e-6)
    second, wanted = (jax.vmap(jax.grad(jax.grad(f))) for f in (gelu, plain))
    np.testing.assert_allclose(second(x), wanted(x), atol=1e-5)
    assert np.isfinite(jax.vmap(jax.grad(gelu))(np.array([-1e4, 1e4], np.float32))).all()


@pytest.mark.parametrize("biased", [False, True])
def test_attention_and_its_gradients_are_those_of_the_plain_formula(biased):
    q, k, v = _drawn(2, 3, 5, 4), _drawn(2, 3, 7, 4, seed=1), _drawn(2, 3, 7, 4, seed=2)
    bias = _drawn(2, 1, 5, 7, seed=3) if biased else None
    weights = _drawn(2, 3, 5, 4, seed=4)

    def ours(q, k, v):
        return jnp.sum(weights * attend(q, k, v, bias))

    def plain(q, k, v):
        return jnp.sum(weights * _plain_attention(q, k, v, bias if biased else 0.0))

    np.testing.assert_allclose(attend(q, k, v, bias), _plain_attention(q, k, v, bias if biased else 0.0), atol=1e-5)
    for found, wanted in zip(jax.grad(ours, (0, 1, 2))(q, k, v), jax.grad(plain, (0, 1, 2))(q, k, v)):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_form_for_other_platforms_says_the_same():
    q, k, v = (_drawn(2, 3, 5, 8, seed=s) for s in range(3))
    bias = _drawn(2, 1, 5, 5, seed=3)
    fused = jax.nn.dot_product_attention(*(a.swapaxes(1, 2) for a in (q, k, v)), bias).swapaxes(1, 2)
    np.testing.assert_allclose(attend(q, k, v, bias), fused, atol=1e-5)


def test_a_hidden_key_changes_nothing_and_a_row_of_padding_gives_numbers():
    q, k, v = (_drawn(2, 1, 4, 4, seed=s) for s in range(3))
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
    y = attend(q, k, v, padding_bias(mask))
    np.testing.assert_allclose(y[0], attend(q[:1], k[:1, :, :2], v[:1, :, :2])[0], atol=1e-6)
    assert np.isfinite(y).all()


def test_heads_see_their_own_part_of_query_key_and_value():
    x, heads = _drawn(2, 5, 6), 2
    kernel, out = _drawn(6, 18, seed=1), _drawn(6, 6, seed=2)
    params = {"qkv": {"kernel": kernel}, "out": {"kernel": out}}
    y = SelfAttention(heads, qkv_bias=False, out_bias=False).apply({"params": params}, x)
    q, k, v = (np.stack(np.split(part, heads, -1), 1) for part in np.split(x @ kernel, 3, -1))
    joined = np.concatenate([np.asarray(_plain_attention(q, k, v))[:, h] for h in range(heads)], -1)
    np.testing.assert_allclose(y, joined @ out, atol=1e-5)


def test_the_gate_is_the_first_half():
    x, fc1, fc2 = _drawn(3, 4), _drawn(4, 10, seed=1), _drawn(5, 4, seed=2)
    params = {"fc1": {"kernel": fc1}, "fc2": {"kernel": fc2}}
    y = GatedMlp(5, use_bias=False).apply({"params": params}, x)
    gate, value = np.split(x @ fc1, 2, -1)
    np.testing.assert_allclose(y, (gate / (1 + np.exp(-gate)) * value) @ fc2, atol=1e-5)
