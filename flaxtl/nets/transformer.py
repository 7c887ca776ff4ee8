"""Layers that transformers share: attention, feed-forward, GELU, in the forms that are fast on each platform.

On CPU attention is written out in (batch, head, token, dimension), which XLA runs faster than its fused form; GPU and
TPU take `jax.nn.dot_product_attention`, chosen at lowering by `jax.lax.platform_dependent`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array

_MASKED = -1e30  # finite, so that a row of padding alone gives no NaN


@jax.custom_jvp
def gelu(x: Array) -> Array:
    """Returns x · Φ(x), exactly (Hendrycks and Gimpel 2016); its derivative reuses Φ.

    Example:
        >>> gelu(jnp.array([0.0, 100.0])).tolist()
        [0.0, 100.0]
    """
    return x * _normal_cdf(x)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    phi = _normal_cdf(x)
    density = jnp.exp(-0.5 * jnp.square(x)) * (1.0 / math.sqrt(2.0 * math.pi))
    return x * phi, dx * (phi + x * density)


def gelu_tanh(x: Array) -> Array:
    """Returns the tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2)."""
    return jax.nn.gelu(x, approximate=True)


def quick_gelu(x: Array) -> Array:
    """Returns x · σ(1.702 x), which CLIP uses in place of GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


def attend(q_BHLD: Array, k_BHSD: Array, v_BHSD: Array, bias: Array | None = None, scale: float | None = None) -> Array:
    """Returns softmax(q kᵀ · scale + bias) v (Vaswani et al. 2017, equation 1).

    Args:
        q_BHLD: float [batch, heads, queries, dimension].
        k_BHSD: float [batch, heads, keys, dimension].
        v_BHSD: float [batch, heads, keys, dimension].
        bias: added to the scores; broadcasts to [batch, heads, queries, keys].
        scale: by default 1 / √dimension.

    Returns:
        float [batch, heads, queries, dimension].

    Example:
        >>> attend(jnp.ones((1, 1, 2, 4)), jnp.ones((1, 1, 3, 4)), jnp.ones((1, 1, 3, 4))).shape
        (1, 1, 2, 4)
    """
    factor = q_BHLD.shape[-1] ** -0.5 if scale is None else scale

    def plain(q: Array, k: Array, v: Array, *bias: Array) -> Array:
        scores = jnp.einsum("bhld,bhsd->bhls", q * factor, k)
        scores = scores + bias[0] if bias else scores
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(v.dtype)
        return jnp.einsum("bhls,bhsd->bhld", weights, v)

    def fused(q: Array, k: Array, v: Array, *bias: Array) -> Array:
        q, k, v = (a.swapaxes(1, 2) for a in (q, k, v))
        added = bias[0].astype(q.dtype) if bias else None
        return jax.nn.dot_product_attention(q, k, v, added, scale=factor).swapaxes(1, 2)

    extra = () if bias is None else (bias,)
    return jax.lax.platform_dependent(q_BHLD, k_BHSD, v_BHSD, *extra, cpu=plain, default=fused)


def padding_bias(mask_BS: Array, dtype: jnp.dtype = jnp.float32) -> Array:
    """Returns the bias [batch, 1, 1, keys] that hides keys whose mask is 0.

    Example:
        >>> padding_bias(jnp.array([[1, 0]]))[0, 0, 0, 0].item()
        0.0
    """
    return jnp.where(mask_BS[:, None, None, :] > 0, 0.0, _MASKED).astype(dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one product for query, key and value.

    The parameters are qkv/kernel [features, 3 · features] (query, key, value side by side) and out/kernel.

    Attributes:
        heads: number of heads.
        qkv_bias: whether query, key and value have a bias.
        out_bias: whether the output has one.
        dropout: of the attention's output.
    """

    heads: int
    qkv_bias: bool = True
    out_bias: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x_BLF: Array, bias: Array | None = None) -> Array:
        batch, length, features = x_BLF.shape
        qkv = nn.Dense(3 * features, use_bias=self.qkv_bias, name="qkv")(x_BLF)
        qkv = qkv.reshape(batch, length, 3, self.heads, features // self.heads).transpose(2, 0, 3, 1, 4)
        y = attend(qkv[0], qkv[1], qkv[2], bias)
        y = y.swapaxes(1, 2).reshape(batch, length, features)
        y = nn.Dense(features, use_bias=self.out_bias, name="out")(y)
        return nn.Dropout(self.dropout, deterministic=True)(y) if self.dropout else y


class Mlp(nn.Module):
    """Two dense layers with an activation between them: fc1, fc2."""

    hidden: int
    activation: str = "gelu"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        y = nn.Dense(self.hidden, name="fc1")(x_BLF)
        y = nn.Dense(x_BLF.shape[-1], name="fc2")(ACTIVATIONS[self.activation](y))
        return nn.Dropout(self.dropout, deterministic=True)(y) if self.dropout else y


class GatedMlp(nn.Module):
    """Two dense layers, fc1 and fc2; of fc1's halves the first, activated, multiplies the second (Shazeer 2020)."""

    hidden: int
    activation: str = "silu"
    dropout: float = 0.0
    use_bias: bool = True

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        gate, value = jnp.split(nn.Dense(2 * self.hidden, use_bias=self.use_bias, name="fc1")(x_BLF), 2, axis=-1)
        y = nn.Dense(x_BLF.shape[-1], use_bias=self.use_bias, name="fc2")(ACTIVATIONS[self.activation](gate) * value)
        return nn.Dropout(self.dropout, deterministic=True)(y) if self.dropout else y
