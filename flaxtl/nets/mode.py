"""How a Linen module is applied: one policy for BatchNorm and dropout, whoever wrote the module.

An interceptor decides for every `nn.BatchNorm` and `nn.Dropout`, so that a module's own switches do not matter.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl import paths

Array = jax.Array
Variables = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a forward pass treats randomness and normalisation.

    Attributes:
        rng: key for dropout; None switches dropout off.
        example_index: int32 [batch]; dropout masks depend on it, so that they do not depend on how a
            batch is divided among devices.
        weight: float32 [batch]; rows of weight 0 are padding and never touch batch statistics.
        live: paths of the normalisation layers that use and update batch statistics; all others
            normalise with their stored statistics and leave them as they are.
        axis_name: the mapped axis (of `jax.pmap`) that the batch is spread along; batch statistics are then
            those of all its devices' rows. None where the pass sees the whole batch.
    """

    rng: Array | None = None
    example_index: Array | None = None
    weight: Array | None = None
    live: frozenset[str] = frozenset()
    axis_name: str | None = None


EVAL = Mode()


def apply_linen(
    module: nn.Module,
    variables: Variables,
    mode: Mode,
    *args: Any,
    watch: Callable[..., Any] | None = None,
    rngs: dict[str, Array] | None = None,
    **kwargs: Any,
) -> tuple[Any, dict[str, Any]]:
    """Applies a Linen module under a mode; returns (output, the other collections afterwards).

    Args:
        module: any Linen module.
        variables: its variables.
        mode: how BatchNorm and dropout behave.
        *args: the module's inputs.
        watch: called as an interceptor before flaxtl's own, for capturing a head's input.
        rngs: keys for random layers other than `nn.Dropout`.
        **kwargs: the module's keyword arguments.
    """
    state = {k: v for k, v in variables.items() if k != paths.PARAMS}
    intercept = _interceptor(mode, watch)
    with nn.intercept_methods(intercept):
        if not mode.live:
            return module.apply(variables, *args, rngs=rngs, **kwargs), state
        y, updated = module.apply(variables, *args, rngs=rngs, mutable=list(state), **kwargs)
    return y, {**state, **updated}


def _interceptor(mode: Mode, watch: Callable[..., Any] | None) -> Callable[..., Any]:
    inside: list[nn.Module] = []
    calls: dict[str, int] = {}

    def intercept(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or inside:
            return next_function(*args, **kwargs)
        if isinstance(module, nn.BatchNorm):
            inside.append(module)
            try:
                return _batch_norm(module, args[0] if args else kwargs["x"], mode)
            finally:
                inside.pop()
        if isinstance(module, nn.Dropout):
            path = paths.join(module.path)
            calls[path] = calls.get(path, 0) + 1
            x = args[0] if args else kwargs["inputs"]
            return dropped(x, module.rate, module.broadcast_dims, mode, f"{path}#{calls[path]}")
        if watch is not None:
            return watch(next_function, args, kwargs, context)
        return next_function(*args, **kwargs)

    return intercept


def _batch_norm(module: nn.BatchNorm, x: Array, mode: Mode) -> Array:
    live = paths.join(module.path) in mode.live
    mask = counted(x, mode) if live else None
    # A copy on the same scope shares the variables but can be told anew which statistics to use.
    twin = module.clone(parent=module.scope, use_running_average=None, axis_name=None)
    if live and mode.axis_name is not None:
        return _with_spread_statistics(twin, x, mask, mode.axis_name)
    return twin(x, use_running_average=not live, mask=mask)


def counted(x: Array, mode: Mode) -> Array | None:
    """Returns which rows count for batch statistics, bool [batch, 1, …]; None where all do."""
    if mode.weight is None:
        return None
    real = mode.weight > 0
    # Statistics of no rows would be NaN, and so would the gradients of rows that do not count.
    real = real | ~jnp.any(real) if mode.axis_name is None else real
    return real.reshape((-1,) + (1,) * (x.ndim - 1))


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


def _with_spread_statistics(module: nn.BatchNorm, x: Array, mask: Array | None, axis_name: str) -> Array:
    """Applies BatchNorm with the statistics of all devices' rows."""
    mean, var = batch_statistics(x, module.axis, mask, axis_name, fast=module.use_fast_variance)
    scope, batch = module.scope, {"mean": mean, "var": var}
    assert scope is not None
    stored = {name: scope.get_variable("batch_stats", name) for name in batch}
    for name, value in batch.items():
        scope.put_variable("batch_stats", name, value)
    y = module(x, use_running_average=True)
    for name, value in batch.items():
        scope.put_variable("batch_stats", name, module.momentum * stored[name] + (1 - module.momentum) * value)
    return y


def dropped(x: Array, rate: float, broadcast: Sequence[int], mode: Mode, place: str) -> Array:
    """Inverted dropout (Srivastava et al. 2014) whose mask depends on the example, not on its row.

    Args:
        x: float [batch, …].
        rate: the share that is set to zero.
        broadcast: axes along which the mask is the same.
        mode: with the key and the examples' numbers.
        place: a name of the layer and of which of its calls this is.

    Example:
        >>> x, mode = jnp.ones((2, 3)), Mode(rng=jax.random.key(0), example_index=jnp.array([5, 7]))
        >>> turned = dataclasses.replace(mode, example_index=jnp.array([7, 5]))
        >>> bool((dropped(x, 0.5, (), mode, 'a')[::-1] == dropped(x, 0.5, (), turned, 'a')).all())
        True
    """
    if mode.rng is None or rate == 0.0:
        return x
    if rate == 1.0:
        return jnp.zeros_like(x)
    key = jax.random.fold_in(mode.rng, zlib.crc32(place.encode()) & 0x7FFFFFFF)
    index = mode.example_index if mode.example_index is not None else jnp.arange(x.shape[0])
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    shape = tuple(1 if axis in broadcast else size for axis, size in enumerate(x.shape))[1:]
    keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - rate, shape))(keys)
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)
