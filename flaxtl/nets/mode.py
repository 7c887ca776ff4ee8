"""One policy for BatchNorm and dropout, whoever wrote the module: what a pass is told, and the arithmetic of both.

`mode_linen` and `mode_nnx` see to it that the layers of a module follow it.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flaxtl import paths
from flaxtl.errors import ConfigError

Array = jax.Array
Variables = Mapping[str, Any]
DROPOUT = "dropout"
BATCH_STATS = "batch_stats"


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a forward pass treats randomness and normalisation.

    The mask of a dropout layer depends on the step's key, the layer, the call and the example, so that it is the same
    however a batch is divided among devices. That holds wherever the batch is the first axis of what the layer sees, or
    the outer part of it ([batch · time, …]), also inside `scan`, `remat` and `jit`. Where a transform hides the batch
    (a `vmap` over examples) or another axis comes first (time), the mask is drawn by row, as Flax draws it: as random,
    but another one when the batch is divided otherwise. So is what a module draws itself (`self.make_rng("noise")`,
    `rngs.noise()`): these streams depend on the step's key and on the first example of the rows computed together.

    Batch statistics leave rows of padding out by the same rule: where the batch is not the first axis, or the outer
    part of it, all rows count.

    Attributes:
        rng: key for dropout and all other random streams; None switches dropout off.
        example_index: int32 [batch]; dropout masks depend on it, so that they do not depend on how a
            batch is divided among devices.
        weight: float32 [batch]; rows of weight 0 are padding and never touch batch statistics.
        live: paths of the normalisation layers that use and update batch statistics; all others
            normalise with their stored statistics and leave them as they are.
        axis_name: the mapped axis (of `jax.pmap`) that the batch is spread along; batch statistics are then
            those of all its devices' rows. None where the pass sees the whole batch.
        require_rng: whether a dropout layer that is reached without a key is an error instead of being off.
    """

    rng: Array | None = None
    example_index: Array | None = None
    weight: Array | None = None
    live: frozenset[str] = frozenset()
    axis_name: str | None = None
    require_rng: bool = False

    @property
    def trains(self) -> bool:
        """Whether modules are told that this is training: something is drawn, or statistics are live."""
        return self.rng is not None or bool(self.live) or self.require_rng

    def stream(self, name: str) -> Array:
        """Returns the key of a random stream: of the step and the name and, but for dropout, of the first example."""
        assert self.rng is not None
        key = jax.random.fold_in(self.rng, zlib.crc32(name.encode()) & 0x7FFFFFFF)
        return key if name == DROPOUT else self.by_rows(key)

    def by_rows(self, key: Array) -> Array:
        """Returns a key for what is drawn by row: that of other rows of the same step is another."""
        return key if self.example_index is None else jax.random.fold_in(key, self.example_index[0])


EVAL = Mode()


def counted(x: Array, mode: Mode) -> Array | None:
    """Returns which rows count for batch statistics, bool [rows, 1, …]; None where all do."""
    if mode.weight is None or x.ndim == 0 or x.shape[0] % mode.weight.shape[0]:
        return None
    real = mode.weight > 0
    # Statistics of no rows would be NaN, and so would the gradients of rows that do not count.
    real = real | ~jnp.any(real) if mode.axis_name is None else real
    return jnp.repeat(real, x.shape[0] // len(real)).reshape((-1,) + (1,) * (x.ndim - 1))


def batch_statistics(
    x: Array, axis: int | Sequence[int], mask: Array | None, axis_name: str | None, *, fast: bool
) -> tuple[Array, Array]:
    """Returns mean and variance of the rows that count, of all devices' where they are spread along a mapped axis.

    Flax's own `axis_name` takes the mean of the devices' means, which is another one where a device has padding.

    Args:
        x: what is normalised.
        axis: of the features.
        mask: which rows count; None for all.
        axis_name: the mapped axis, if there is one.
        fast: whether the variance is E[x²] - E[x]², as `use_fast_variance` of Flax.

    Example:
        >>> x = jnp.array([[1.0], [3.0], [9.0]])
        >>> mean, var = batch_statistics(x, -1, jnp.array([[True], [True], [False]]), None, fast=False)
        >>> mean.tolist(), var.tolist()
        ([2.0], [1.0])
    """
    kept = {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
    reduced = tuple(a for a in range(x.ndim) if a not in kept)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    shown = jnp.broadcast_to(jnp.ones((), bool) if mask is None else mask, x.shape)

    def total(values: Array) -> Array:
        own = jnp.sum(values, reduced, where=shown)
        return own if axis_name is None else jax.lax.psum(own, axis_name)

    count = jnp.maximum(total(jnp.ones_like(wide)), 1.0)
    mean = total(wide) / count
    if fast:
        return mean, jnp.maximum(0.0, total(jnp.square(wide)) / count - jnp.square(mean))
    return mean, total(jnp.square(wide - jnp.expand_dims(mean, reduced))) / count


def dropped(x: Array, rate: float, broadcast: Sequence[int], mode: Mode, key: Array) -> Array:
    """Inverted dropout (Srivastava et al. 2014) whose mask depends on the example, not on its row, as `Mode` says.

    Args:
        x: float [batch, …].
        rate: the share that is set to zero.
        broadcast: axes along which the mask is the same.
        mode: with the examples' numbers.
        key: of the layer and of which of its calls this is.

    Example:
        >>> x, mode, key = jnp.ones((2, 3)), Mode(example_index=jnp.array([5, 7])), jax.random.key(0)
        >>> turned = dataclasses.replace(mode, example_index=jnp.array([7, 5]))
        >>> bool((dropped(x, 0.5, (), mode, key)[::-1] == dropped(x, 0.5, (), turned, key)).all())
        True
    """
    if rate == 0.0:
        return x
    if rate == 1.0:
        return jnp.zeros_like(x)
    same = {axis % x.ndim for axis in broadcast} if x.ndim else set()
    shape = tuple(1 if axis in same else size for axis, size in enumerate(x.shape))
    keys = None if 0 in same else _keys_of_rows(x, mode, key)
    if keys is None:
        keep = jax.random.bernoulli(mode.by_rows(key), 1.0 - rate, shape)
    else:
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - rate, shape[1:]))(keys)
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def _keys_of_rows(x: Array, mode: Mode, key: Array) -> Array | None:
    """Returns a key a row, by its example and its place within that; None where rows are not known to be examples."""
    if x.ndim == 0:
        return None
    index = jnp.arange(x.shape[0]) if mode.example_index is None else mode.example_index
    if x.shape[0] % len(index):
        return None
    each = x.shape[0] // len(index)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    if each == 1:
        return keys
    inner = jax.vmap(lambda k: jax.vmap(lambda j: jax.random.fold_in(k, j))(jnp.arange(each)))(keys)
    return inner.reshape(-1)


def require_key(mode: Mode, rate: float) -> bool:
    """Says whether a dropout layer of this rate drops in a pass.

    Raises:
        ConfigError: it should, and there is no key.
    """
    if mode.rng is None and mode.require_rng and rate > 0.0:
        raise ConfigError(
            "The module has dropout layers and is to be trained, but has no key for them. Give one: "
            "rngs={'dropout': jax.random.key(step)} to a Linen module's apply, rngs=nnx.Rngs(…) to as_nnx."
        )
    return mode.rng is not None and rate > 0.0


def kept(state: Variables, updated: Variables, live: frozenset[str]) -> dict[str, Any]:
    """Returns collections after a pass: values of the same shape and dtype, batch statistics at live paths alone.

    Args:
        state: the collections before.
        updated: those that the pass wrote, as far as it did.
        live: paths of the layers whose 'batch_stats' are kept.

    Example:
        >>> before = {'batch_stats': {'bn': {'mean': jnp.zeros(2)}}, 'count': {'n': jnp.zeros(())}}
        >>> after = {'batch_stats': {'bn': {'mean': jnp.ones(2)}}, 'count': {'n': jnp.ones(())}}
        >>> found = kept(before, after, frozenset())
        >>> found['batch_stats']['bn']['mean'].tolist(), found['count']['n'].tolist()
        ([0.0, 0.0], 1.0)
    """
    return {name: _kept(tree, updated.get(name, {}), name, live, ()) for name, tree in state.items()}


def _kept(old: Any, new: Any, collection: str, live: frozenset[str], keys: tuple[str, ...]) -> Any:
    if isinstance(old, Mapping):
        there = new if isinstance(new, Mapping) else {}
        return {k: _kept(v, there[k], collection, live, (*keys, str(k))) if k in there else v for k, v in old.items()}
    if collection == BATCH_STATS and paths.join(keys[:-1]) not in live:
        return old
    return new if _form(new) == _form(old) else old


def _form(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(a), jnp.result_type(a)) for a in leaves]
