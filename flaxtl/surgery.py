"""Pure functions on parameter trees: graft, re-initialise, adapt channels. Nothing is changed in place."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl import paths
from flaxtl.errors import ConfigError, PathError, did_you_mean, listed

Initialiser = Callable[[jax.Array, tuple[int, ...], Any], Any]

_INITIALISERS: dict[str, Callable[[], Initialiser]] = {
    "zeros": lambda: jax.nn.initializers.zeros,
    "lecun_normal": jax.nn.initializers.lecun_normal,
    "he_normal": jax.nn.initializers.he_normal,
    "xavier_uniform": jax.nn.initializers.glorot_uniform,
    "normal": lambda: jax.nn.initializers.normal(0.02),
    "truncated_normal": lambda: jax.nn.initializers.truncated_normal(0.02),
}


def initialiser(name: str | Initialiser) -> Initialiser:
    """Returns the initialiser of a name, or the given one.

    Raises:
        ConfigError: the name is unknown.

    Example:
        >>> initialiser('zeros')(jax.random.key(0), (2,), jnp.float32).tolist()
        [0.0, 0.0]
    """
    if callable(name):
        return name
    if name not in _INITIALISERS:
        near = did_you_mean(name, _INITIALISERS) or f" Known: {listed(_INITIALISERS)}."
        raise ConfigError(f"There is no initialiser {name!r}.{near}")
    return _INITIALISERS[name]()


def reinit(
    tree: Any,
    patterns: str | Iterable[str],
    init: str | Initialiser = "zeros",
    *,
    seed: int = 0,
    like: Any = None,
) -> Any:
    """Returns the tree with the matched leaves initialised anew and every other leaf as it is.

    Args:
        tree: a nested dict of arrays.
        patterns: which leaves; each pattern must match something.
        init: an initialiser's name, or a function (key, shape, dtype) → array. Leaves of fewer than two
            axes (biases, scales) become zeros unless a function is given.
        seed: the key's seed; each leaf draws from a key of its own.
        like: a tree that says the new shapes of the matched leaves; by default they keep theirs.

    Raises:
        PathError: a pattern matches nothing.

    Example:
        >>> reinit({'head': {'w': jnp.ones(2)}, 'stem': 1.}, 'head/**')['head']['w'].tolist()
        [0.0, 0.0]
    """
    chosen = paths.select(patterns, tree)
    draw = initialiser(init)

    def new(leaf: paths.Leaf, yes: bool, old: Any, shape_of: Any) -> Any:
        if not yes:
            return old
        shape, dtype = jnp.shape(shape_of), jnp.result_type(shape_of)
        if len(shape) < 2 and not callable(init):
            return jnp.zeros(shape, dtype)
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(leaf.name.encode()) & 0x7FFFFFFF)
        return draw(key, shape, dtype)

    return paths.map_with_leaf(new, chosen, tree, tree if like is None else like)


def graft(tree: Mapping[str, Any], path: str, branch: Any) -> dict[str, Any]:
    """Returns the tree with what is at `path` replaced by `branch`.

    Raises:
        PathError: there is nothing at `path`.

    Example:
        >>> graft({'head': {'w': 1}, 'stem': 2}, 'head', {'w': 3})
        {'head': {'w': 3}, 'stem': 2}
    """
    first, *rest = paths.split(path)
    if not isinstance(tree, Mapping) or first not in tree:
        there = listed(tree) if isinstance(tree, Mapping) and tree else "no keys"
        raise PathError(f"Nothing to replace at {path!r}: {first!r} is not among {there}.")
    return {k: (graft(v, paths.join(rest), branch) if rest else branch) if k == first else v for k, v in tree.items()}


def adapt_channels(
    kernel: Any, channels: int, how: Literal["sum", "average"] | None = None, *, axis: int = -2
) -> tuple[np.ndarray, str]:
    """Fits the first layer's kernel to another number of input channels.

    To fewer channels the kernels are summed, so that a grey picture gives what the same picture would
    give in colour; to more channels they are repeated and scaled so that equal channels give the old
    answer. "average" divides a sum by the old number of channels.

    Args:
        kernel: float [..., channels, outputs], for instance HWIO.
        channels: the new number of input channels.
        how: "sum" or "average"; None chooses "sum" for one channel and repetition otherwise.
        axis: the axis of input channels.

    Returns:
        (the new kernel, a phrase that says what was done).

    Example:
        >>> new, said = adapt_channels(np.ones((1, 1, 3, 2), np.float32), 1)
        >>> new.ravel().tolist(), said
        ([3.0, 3.0], '3 → 1 input channels by sum')
    """
    kernel = np.asarray(kernel)
    old = kernel.shape[axis]
    if channels == old:
        return kernel, f"{old} input channels kept"
    if channels == 1:
        how = how or "sum"
        new = kernel.sum(axis, keepdims=True) / (old if how == "average" else 1)
        return new.astype(kernel.dtype), f"{old} → 1 input channels by {how}"
    index = np.arange(channels) % old
    scale = 1.0 if how == "sum" else old / channels
    new = np.take(kernel, index, axis) * scale
    return new.astype(kernel.dtype), f"{old} → {channels} input channels by repetition, times {scale:.3g}"
