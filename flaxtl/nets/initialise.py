"""Fresh parameters, drawn by NumPy: each leaf from a generator of its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from flaxtl import paths
from flaxtl.nets.mode import Variables


def _normal(std: float) -> Callable[..., np.ndarray]:
    return lambda rng, shape: std * rng.standard_normal(shape, dtype=np.float32)


def _kaiming(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """He normal by fan-out for convolutions, LeCun normal by fan-in for matrices."""
    fan = shape[-1] * int(np.prod(shape[:-2])) / 2 if len(shape) > 2 else shape[0]
    return np.float32(np.sqrt(1.0 / fan)) * rng.standard_normal(shape, dtype=np.float32)


def _depthwise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """He normal where each output sees one channel: the fan is the kernel's area."""
    return np.float32(np.sqrt(2.0 / np.prod(shape[:-2]))) * rng.standard_normal(shape, dtype=np.float32)


def _ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, np.float32)


def _zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32)


# NumPy draws a ResNet-18 in half a second; `module.init` spends sixteen compiling threefry for each shape.
INITIALISERS: list[tuple[str, Callable[..., np.ndarray]]] = [
    ("head/**", _zeros),
    ("**/bias", _zeros),
    ("batch_stats:**/mean", _zeros),
    ("batch_stats:**/var", _ones),
    ("**/scale", _ones),
    ("**/depthwise/**/kernel", _depthwise),
    ("**/kernel", _kaiming),
    ("**", _normal(0.02)),
]


def initialise(
    abstract: Variables, seed: int, rules: list[tuple[str, Callable[..., np.ndarray]]] | None = None
) -> dict[str, Any]:
    """Returns fresh variables for a tree of shapes.

    Each leaf is drawn from its own generator, seeded by `seed` and the leaf's name, so that one leaf's
    values do not depend on which others exist.

    Args:
        abstract: variables dict of `jax.ShapeDtypeStruct`.
        seed: any integer ≥ 0.
        rules: ordered (pattern, function(rng, shape) → array); `INITIALISERS` if None.

    Example:
        >>> import jax
        >>> tree = {'params': {'head': {'bias': jax.ShapeDtypeStruct((3,), 'float32')}}}
        >>> initialise(tree, 0)['params']['head']['bias']
        array([0., 0., 0.], dtype=float32)
    """
    table = rules or INITIALISERS

    def draw(leaf: paths.Leaf, struct: Any) -> np.ndarray:
        function = next(f for pattern, f in table if paths.matches(pattern, leaf))
        rng = np.random.default_rng([seed, zlib.crc32(leaf.name.encode())])
        return function(rng, struct.shape).astype(struct.dtype)

    return paths.map_with_leaf(draw, dict(abstract))
