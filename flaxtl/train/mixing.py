"""Pictures mixed in pairs on the device, and their labels with them: mixup and cutmix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flaxtl.train import division

Array = jax.Array
Change = Callable[[Mapping[str, Any], Array], Mapping[str, Any]]

# Sets the draws of mixing apart from those of dropout, which folds in checksums of names.
_MIXING = 0x6D6978


def partners(key: Array, weight_B: Array, index_B: Array) -> Array:
    """Draws for each row that counts another one that counts, for all others themselves.

    The rows that count are put in a random circle, and each is given the next: none meets itself where there are two.
    An example's place in it is drawn for the example, so that it does not depend on where in the batch the row is.

    Args:
        key: of the draw.
        weight_B: float [batch]; rows of weight 0 are padding.
        index_B: int [batch], which example a row is.

    Returns:
        int32 [batch], a permutation.

    Example:
        >>> partners(jax.random.key(0), jnp.array([1.0, 1.0, 0.0]), jnp.arange(3)).tolist()
        [1, 0, 2]
    """
    rows = weight_B.shape[0]
    real = weight_B > 0
    drawn = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(index_B)
    order = jnp.argsort(jnp.where(real, drawn, 2.0))
    place = jnp.arange(rows)
    after = jnp.where(place < real.sum(), (place + 1) % jnp.maximum(real.sum(), 1), place)
    return jnp.zeros(rows, jnp.int32).at[order].set(order[after].astype(jnp.int32))


def mix(
    key: Array,
    pictures_BHWC: Array,
    targets_BK: Array,
    weight_B: Array,
    index_B: Array,
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[Array, Array]:
    """Mixes each picture with another of its batch.

    mixup (Zhang et al. 2018): λ x + (1 - λ) x', λ from Beta(α, α). cutmix (Yun et al. 2019): a rectangle of the share
    1 - λ of the area is taken from x', and λ is what is left of x once the rectangle is cut off at the borders. The
    targets are mixed by λ. With both, each row gets one of them, evenly drawn. What is drawn depends on the example,
    and whom it meets on the whole batch, also where a mapped axis divides it among devices (`division`).

    Args:
        key: of all draws.
        pictures_BHWC: of any number type; 0…255 as the loader gives them, or normalised.
        targets_BK: float, rows that sum to 1.
        weight_B: float; rows of weight 0 neither change nor are mixed into others.
        index_B: int, which example a row is.
        mixup: α, 0 for none.
        cutmix: α, 0 for none.

    Returns:
        (pictures float32 [batch, height, width, channels], targets float32 [batch, classes]).

    Example:
        >>> x, y = jnp.stack([jnp.zeros((4, 4, 1)), jnp.ones((4, 4, 1))]), jnp.eye(2)
        >>> pictures, targets = mix(jax.random.key(0), x, y, jnp.ones(2), jnp.arange(2), mixup=1.0)
        >>> bool(jnp.allclose(pictures.mean((1, 2, 3)), targets[:, 1], atol=1e-6))
        True
    """
    height, width = pictures_BHWC.shape[1:3]
    over = division.current()
    everyones_x, everyones_y, weight, index = over.everyones((pictures_BHWC, targets_BK, weight_B, index_B))
    other = over.own(partners(jax.random.fold_in(key, 0), weight, index))
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, 1), i))(index_B)
    share_BHW = jax.vmap(lambda k: _shares(k, height, width, mixup, cutmix))(keys)
    lam_B = share_BHW.mean((1, 2))
    x, y = pictures_BHWC.astype(jnp.float32), targets_BK.astype(jnp.float32)
    # Written so that equal pictures stay as they are to the bit.
    pictures = x + (1.0 - share_BHW[..., None]) * (everyones_x[other].astype(jnp.float32) - x)
    return pictures, y + (1.0 - lam_B[:, None]) * (everyones_y[other].astype(jnp.float32) - y)


def _shares(key: Array, height: int, width: int, mixup: float, cutmix: float) -> Array:
    """Returns float [height, width]: how much of its own colour each pixel of one picture keeps."""
    one, two, which, place = jax.random.split(key, 4)
    blended = jnp.full((height, width), jax.random.beta(one, mixup, mixup)) if mixup else None
    pasted = _pasted(two, place, height, width, cutmix) if cutmix else None
    if blended is None or pasted is None:
        found = blended if pasted is None else pasted
        assert found is not None, "neither mixup nor cutmix was asked for"
        return found
    return jnp.where(jax.random.bernoulli(which), blended, pasted)


def _pasted(key: Array, place: Array, height: int, width: int, alpha: float) -> Array:
    side = jnp.sqrt(1.0 - jax.random.beta(key, alpha, alpha))
    row, column = jax.random.uniform(place, (2,)) * jnp.array([height, width])
    down, across = jnp.arange(height) + 0.5, jnp.arange(width) + 0.5
    inside = (jnp.abs(down - row) < side * height / 2)[:, None] & (jnp.abs(across - column) < side * width / 2)[None]
    return 1.0 - inside.astype(jnp.float32)


def rows_of(targets: Any, classes: int) -> Array:
    """Returns targets as rows: one-hot for class numbers, as they are for rows.

    Example:
        >>> rows_of(jnp.array([1]), 2).tolist()
        [[0.0, 1.0]]
    """
    return targets if jnp.ndim(targets) == 2 else jax.nn.one_hot(jnp.maximum(targets, 0), classes)


def mixer(*, mixup: float = 0.0, cutmix: float = 0.0, outputs: int) -> Change | None:
    """Returns what mixes a batch before it is worked off, as `make_step` takes it; None where nothing is to be mixed.

    Args:
        mixup: see `mix`.
        cutmix: likewise.
        outputs: of the head.

    Example:
        >>> batch = {'inputs': jnp.zeros((2, 4, 4, 1)), 'target': jnp.arange(2), 'weight': jnp.ones(2)}
        >>> mixed = mixer(mixup=0.2, outputs=2)({**batch, 'example_index': jnp.arange(2)}, jax.random.key(0))
        >>> mixed['target'].shape, mixer(outputs=2)
        ((2, 2), None)
    """
    if not mixup and not cutmix:
        return None

    def change(batch: Mapping[str, Any], rng: Array) -> Mapping[str, Any]:
        key, rows = jax.random.fold_in(rng, _MIXING), rows_of(batch["target"], outputs)
        weight, index = batch["weight"], batch["example_index"]
        inputs, target = mix(key, batch["inputs"], rows, weight, index, mixup=mixup, cutmix=cutmix)
        return {**batch, "inputs": inputs, "target": target}

    return change
