"""How an NNX module is applied: the policy of `mode` for its BatchNorm and dropout layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

from flaxtl import paths
from flaxtl.nets.mode import Mode, batch_statistics, counted, dropped

Array = jax.Array
M = TypeVar("M", bound=nnx.Module)


def called_as(module: nnx.Module, function: Callable[..., Any]) -> None:
    """Lets calls of a module, of this object alone, go through function(the module's own call, *args, **kwargs)."""

    class Called(type(module)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return function(super().__call__, *args, **kwargs)

    module.__class__ = Called


def governed(module: M, mode: Mode) -> M:
    """Returns a module, which is changed for it, whose BatchNorm and dropout layers follow a mode whatever it says.

    Args:
        module: merged for this one pass.
        mode: see `Mode`; layers are live by their attribute path.
    """
    if mode.rng is not None:
        module.train()
        nnx.reseed(module, default=mode.rng, dropout=mode.rng)
    else:
        module.eval()
    for keys, part in list(nnx.iter_modules(module)):
        path = paths.join(map(str, keys))
        if isinstance(part, nnx.BatchNorm):
            called_as(part, _batch_norm(part, mode, live=path in mode.live))
        elif isinstance(part, nnx.Dropout):
            called_as(part, _dropout(part, mode, path))
    return module


def _batch_norm(part: nnx.BatchNorm, mode: Mode, *, live: bool) -> Callable[..., Array]:
    def normalise(call: Callable[..., Array], x: Array, *_: Any, **__: Any) -> Array:
        if not live:
            return call(x, use_running_average=True)
        fast = part.use_fast_variance
        batch = batch_statistics(x, part.axis, counted(x, mode), mode.axis_name, fast=fast)
        kept = (part.mean, part.var)
        stored = [variable[...] for variable in kept]
        for variable, value in zip(kept, batch):
            variable[...] = value
        y = call(x, use_running_average=True)
        for variable, old, new in zip(kept, stored, batch):
            variable[...] = part.momentum * old + (1 - part.momentum) * new
        return y

    return normalise


def _dropout(part: nnx.Dropout, mode: Mode, path: str) -> Callable[..., Array]:
    calls = itertools.count(1)

    def drop(_: Callable[..., Array], x: Array, *__: Any, **___: Any) -> Array:
        return dropped(x, part.rate, part.broadcast_dims, mode, f"{path}#{next(calls)}")

    return drop
