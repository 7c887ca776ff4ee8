"""Pure functions on parameter trees: graft, re-initialise, adapt channels, resize positions and patches.

Nothing is changed in place.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl import paths
from flaxtl.errors import ConfigError, PathError, did_you_mean, listed

Grid = tuple[int, int]
Interpolation = Literal["bilinear", "bicubic"]
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


def _bilinear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - distance, 0.0)


def _bicubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution with a = -1/2, as Pillow, PyTorch's antialiased resize and jax.image have it."""
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


_FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
}


def _sharp_bicubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution with a = -3/4, as PyTorch has it where nothing is antialiased."""
    near = (1.25 * distance - 2.25) * distance**2 + 1.0
    far = ((-0.75 * distance + 3.75) * distance - 6.0) * distance + 3.0
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


def sharp_matrix(old: int, new: int) -> np.ndarray:
    """Returns the matrix that resizes a line of numbers by bicubic interpolation without antialiasing.

    Each new number is made of the four old ones around its place, however many lie between two places; beyond the ends
    the last number is repeated. These are the numbers of PyTorch's `interpolate(mode="bicubic")`.

    Args:
        old: numbers before.
        new: numbers after.

    Returns:
        float64 [new, old]; each row sums to one.

    Example:
        >>> sharp_matrix(4, 2).round(3).tolist()
        [[0.5, 0.594, -0.094, 0.0], [0.0, -0.094, 0.594, 0.5]]
    """
    # In float32, as the source computes it: the last digit of a place decides the last digits of what lies there.
    centre = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5)
    taps = np.floor(centre).astype(int)[:, None] + np.arange(-1, 3)
    weights = _sharp_bicubic(np.abs(taps - centre[:, None].astype(np.float64)))
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], np.clip(taps, 0, old - 1)), weights)
    return matrix


def resize_matrix(old: int, new: int, how: Interpolation = "bicubic") -> np.ndarray:
    """Returns the matrix that resizes a line of numbers, antialiased.

    Where the line becomes shorter the filter is widened by old / new, so that it averages instead of skipping; at the
    ends the weights that fall outside are left out and the rest made to sum to one. These are the numbers of
    `jax.image.resize`, and of PyTorch's `interpolate(…, antialias=True)` too.

    Args:
        old: numbers before.
        new: numbers after.
        how: "bilinear" or "bicubic" (Keys 1981, a = -1/2).

    Returns:
        float64 [new, old]; each row sums to one.

    Example:
        >>> resize_matrix(4, 2, 'bilinear').round(3).tolist()
        [[0.429, 0.429, 0.143, 0.0], [0.0, 0.143, 0.429, 0.429]]
    """
    function, reach = _FILTERS[how]
    wider = max(old / new, 1.0)
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    distance = np.abs(np.arange(old) - centre[:, None]) / wider
    weights = np.where(distance < reach, function(distance), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def resize_positions(
    position: Any, old: Grid, new: Grid, *, prefix: int = 0, how: Interpolation = "bicubic", antialias: bool = True
) -> tuple[np.ndarray, str]:
    """Fits position embeddings of one grid of patches to another grid; those of other tokens stay as they are.

    Nothing is guessed: how many of the tokens are no patches, and how the rest lie in rows and columns, is said by
    the network's configuration.

    Args:
        position: float [tokens, features] or [1, tokens, features]: `prefix` tokens, then the grid row by row.
        old: rows and columns of the grid that they are for.
        new: rows and columns wanted.
        prefix: tokens before the grid: class, distillation, registers, as far as they have a position.
        how: "bicubic" or "bilinear".
        antialias: whether a smaller grid's positions are averages; without it (bicubic alone) they are samples.

    Returns:
        (the new positions, of the same number of axes and dtype; a phrase that says what was done).

    Raises:
        ConfigError: the tokens are not as many as grid and prefix say.

    Example:
        >>> new, said = resize_positions(np.ones((1, 5, 8), np.float32), (2, 2), (3, 4), prefix=1)
        >>> new.shape, said
        ((1, 13, 8), 'positions 2×2 → 3×4 by antialiased bicubic, 1 other token kept')
    """
    position = np.asarray(position)
    *ones, tokens, features = position.shape
    if tokens != prefix + old[0] * old[1] or ones not in ([], [1]):
        raise ConfigError(
            f"Position embeddings of shape {list(position.shape)} are not those of a grid of {old[0]}×{old[1]} patches "
            f"and {prefix} further tokens, which would be {prefix + old[0] * old[1]} tokens. Correct the "
            "configuration's grid, or its number of tokens before the grid."
        )
    if new == old:
        return position, f"positions {old[0]}×{old[1]} kept"
    flat = position.reshape(tokens, features)
    grid = flat[prefix:].reshape(*old, features).astype(np.float64)
    sides = zip(old, new, strict=True)
    rows, columns = (resize_matrix(o, n, how) if antialias else sharp_matrix(o, n) for o, n in sides)
    grid = np.einsum("ri,cj,ijf->rcf", rows, columns, grid, optimize=True).astype(position.dtype)
    made = np.concatenate([flat[:prefix], grid.reshape(-1, features)]).reshape(*ones, -1, features)
    kept = f", {prefix} other token{'s' if prefix > 1 else ''} kept" if prefix else ""
    by = f"antialiased {how}" if antialias else "bicubic"
    return made, f"positions {old[0]}×{old[1]} → {new[0]}×{new[1]} by {by}{kept}"


def resize_patches(kernel: Any, new: Grid, how: Interpolation = "bilinear") -> tuple[np.ndarray, str]:
    """Fits a patch embedding to another patch size, so that a resized patch gives the old token.

    With B the matrix that resizes a patch, the new kernel is the pseudo-inverse of Bᵀ times the old one, which makes
    ⟨Bx, ŵ⟩ = ⟨x, w⟩ for every patch x where patches grow, and as near to it as can be where they shrink (Beyer et al.,
    "FlexiViT", CVPR 2023, equation 5).

    Args:
        kernel: float [height, width, channels, features].
        new: height and width wanted.
        how: by which interpolation pictures would be resized; the paper's is "bilinear".

    Returns:
        (the new kernel, a phrase that says what was done).

    Example:
        >>> new, said = resize_patches(np.ones((4, 4, 3, 8), np.float32), (6, 6))
        >>> new.shape, said
        ((6, 6, 3, 8), 'patches 4×4 → 6×6 by pseudo-inverse of the bilinear resize')
    """
    kernel = np.asarray(kernel)
    old = kernel.shape[:2]
    if tuple(new) == old:
        return kernel, f"patches {old[0]}×{old[1]} kept"
    rows, columns = (np.linalg.pinv(resize_matrix(o, n, how).T) for o, n in zip(old, new, strict=True))
    made = np.einsum("ri,cj,ij...->rc...", rows, columns, kernel.astype(np.float64), optimize=True)
    said = f"patches {old[0]}×{old[1]} → {new[0]}×{new[1]} by pseudo-inverse of the {how} resize"
    return made.astype(kernel.dtype), said
