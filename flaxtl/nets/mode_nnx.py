"""How an NNX module is applied: the policy of `mode` for its BatchNorm and dropout layers, and its random streams.

Layers are governed by a class of their own for the pass, whose call sees the object that is called. A transform of NNX
(`nnx.remat`, `nnx.jit`, `nnx.scan`, `nnx.vmap`) makes objects of the same class anew inside, with its own values.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from flaxtl import paths
from flaxtl.nets.mode import BATCH_STATS, Mode, batch_statistics, counted, dropped, require_key

Array = jax.Array
M = TypeVar("M", bound=nnx.Module)


def called_as(module: nnx.Module, function: Callable[..., Any]) -> None:
    """Lets calls of a module, of this object alone, go through function(object, its own call, *args, **kwargs).

    The object is the one that is called: within a transform of NNX it is another than the given one.
    """

    class Called(type(module)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return function(self, super().__call__, *args, **kwargs)

    module.__class__ = Called


def governed(module: M, mode: Mode) -> M:
    """Returns a module, which is changed for it, whose BatchNorm and dropout layers follow a mode whatever it says.

    Args:
        module: merged for this one pass.
        mode: see `Mode`; layers are live by their attribute path.
    """
    if mode.rng is not None:
        module.train()
        _reseed(module, mode)
    else:
        module.eval()
    for keys, part in list(nnx.iter_modules(module)):
        path = paths.join(map(str, keys))
        if isinstance(part, nnx.BatchNorm):
            called_as(part, _batch_norm(mode, live=path in mode.live))
        elif isinstance(part, nnx.Dropout):
            called_as(part, _dropout(mode, path))
    return module


def _reseed(module: nnx.Module, mode: Mode) -> None:
    """Gives each random stream a key of the step and its place; streams stacked by `nnx.vmap` one for each layer."""
    nodes = {tuple(path): node for path, node in nnx.iter_graph(module)}
    for path, node in nodes.items():
        if not isinstance(node, nnx.RngStream):
            continue
        key = _keyed(mode, paths.join(map(str, path)))
        if not isinstance(nodes.get(path[:-1]), nnx.Dropout):
            key = mode.by_rows(key)
        shape = node.key.shape
        node.key.set_value(jax.random.split(key, shape) if shape else key)
        node.count.set_value(jnp.zeros(shape, jnp.uint32))


def _keyed(mode: Mode, name: str) -> Array:
    assert mode.rng is not None
    return jax.random.fold_in(mode.rng, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def _batch_norm(mode: Mode, *, live: bool) -> Callable[..., Array]:
    def normalise(layer: nnx.BatchNorm, call: Callable[..., Array], x: Array, *_: Any, **__: Any) -> Array:
        if not live:
            return call(x, use_running_average=True)
        fast = layer.use_fast_variance
        batch = batch_statistics(x, layer.axis, counted(x, mode), mode.axis_name, fast=fast)
        kept = (layer.mean, layer.var)
        stored = [variable[...] for variable in kept]
        for variable, value in zip(kept, batch):
            variable[...] = value
        y = call(x, use_running_average=True)
        for variable, old, new in zip(kept, stored, batch):
            variable[...] = layer.momentum * old + (1 - layer.momentum) * new
        return y

    return normalise


def _dropout(mode: Mode, path: str) -> Callable[..., Array]:
    calls = itertools.count(1)

    def drop(layer: nnx.Dropout, _: Callable[..., Array], x: Array, *__: Any, rngs: Any = None, **___: Any) -> Array:
        if not require_key(mode, layer.rate):
            return x
        source = layer.rngs if rngs is None else rngs
        if isinstance(source, nnx.Rngs):
            source = source[layer.rng_collection]
        if source is None:
            key = _keyed(mode, f"{path}#{next(calls)}")
        else:
            key = source() if isinstance(source, nnx.RngStream) else source
        return dropped(x, layer.rate, layer.broadcast_dims, mode, key)

    return drop


def collection_filters(module: nnx.Module) -> dict[str, Any]:
    """Returns the collections of a module's variables, by name, as filters of `nnx.split`.

    'params' are the `nnx.Param`s, 'batch_stats' the `nnx.BatchStat`s; variables of any other type that hold arrays have
    a collection by the type's name in NNX ('cache'), or by its class's. Random states and intermediates have none.

    Example:
        >>> list(collection_filters(nnx.BatchNorm(2, rngs=nnx.Rngs(0))))
        ['params', 'batch_stats']
    """
    found: dict[str, Any] = {paths.PARAMS: nnx.Param, BATCH_STATS: nnx.BatchStat}
    apart = (nnx.Param, nnx.BatchStat, nnx.RngState, nnx.Intermediate)
    kinds = {type(v) for _, v in nnx.iter_graph(module) if isinstance(v, nnx.Variable) and not isinstance(v, apart)}
    for kind in sorted(kinds, key=lambda k: k.__name__):
        found[_name_of(kind)] = _of_kind_with_arrays(kind)
    return found


def _name_of(kind: type[nnx.Variable[Any]]) -> str:
    try:
        return nnx.variable_name_from_type(kind)
    except ValueError:
        return kind.__name__


def _of_kind_with_arrays(kind: type[nnx.Variable[Any]]) -> Callable[[Any, Any], bool]:
    def holds(_: Any, value: Any) -> bool:
        return type(value) is kind and all(hasattr(a, "dtype") for a in jax.tree.leaves(value.get_value()))

    return holds


def with_string_keys(tree: Any) -> Any:
    """Returns nested dicts with their keys as texts.

    Example:
        >>> with_string_keys({0: {'w': 1}})
        {'0': {'w': 1}}
    """
    return {str(k): with_string_keys(v) for k, v in tree.items()} if isinstance(tree, Mapping) else tree


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """Returns a state of new variables, of the current trace, with values by their keys as texts."""
    fresh = jax.tree.map(lambda a: a, template)
    nnx.replace_by_pure_dict(fresh, _with_keys_of(nnx.to_pure_dict(template), values))
    return fresh


def _with_keys_of(template: Any, values: Any) -> Any:
    if not isinstance(template, Mapping):
        return values
    return {key: _with_keys_of(inner, values[str(key)]) for key, inner in template.items()}
