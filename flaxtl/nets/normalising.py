"""What a head may do to features before it: what `Head.normalise` of a card names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def rms_normalise(features_BD: Array, epsilon: float = 1e-12) -> Array:
    """Divides each row by its root mean square: unit length, times the square root of its dimension.

    Args:
        features_BD: float [batch, features].
        epsilon: keeps a row of zeros at zero.

    Example:
        >>> [round(float(v), 3) for v in rms_normalise(jnp.array([[3.0, 4.0]]))[0]]
        [0.849, 1.131]
    """
    square = jnp.mean(jnp.square(features_BD), axis=-1, keepdims=True)
    return features_BD * jax.lax.rsqrt(square + epsilon)


@jax.custom_jvp
def signed_root(x: Array) -> Array:
    """Takes the square root of each value's size and keeps its sign; the derivative is bounded, for values near zero.

    Example:
        >>> signed_root(jnp.array([9.0, -4.0, 0.0])).tolist()
        [3.0, -2.0, 0.0]
    """
    return jnp.sign(x) * jnp.sqrt(jnp.abs(x))


@signed_root.defjvp
def _signed_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (towards,) = primals, tangents
    return signed_root(x), 0.5 * jax.lax.rsqrt(jnp.maximum(jnp.abs(x), _SMALL)) * towards


# What the derivative of the root takes smaller values for: at 0 it would be infinite.
_SMALL = 1e-4
NORMALISE: dict[str, Callable[[Array], Array]] = {
    "rms": rms_normalise,
    "root": lambda features_BD: rms_normalise(signed_root(features_BD)),
}


def in_network(network: Any, how: str) -> tuple[Any, str]:
    """Returns a network that normalises its features as a card says, and what of that is left to do before its head.

    A network of flaxtl's own does it in its head's segment, so that its module computes all of what is predicted. A
    user's own module is as it is, and the pipeline does it.

    Example:
        >>> in_network(object(), 'none')[1]
        'none'
    """
    own = getattr(network, "normalising", None)
    return (network, how) if own is None else own(how)
