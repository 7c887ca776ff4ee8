"""How a Linen module is applied under a `Mode`.

An interceptor decides for every `nn.BatchNorm` and `nn.Dropout`, so that a module's own switches do not matter. It acts
where the layer itself runs, inside whatever lifted transforms (`nn.scan`, `nn.vmap`, `nn.remat`, `nn.jit`, …) there
are, and takes the layer's key from Flax, so that `split_rngs` means what it means there.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
from flax import errors as flax_errors
from flax import linen as nn

from flaxtl import paths
from flaxtl.errors import ConfigError
from flaxtl.nets.mode import DROPOUT, Mode, Variables, batch_statistics, counted, dropped, kept, require_key

Array = jax.Array
# The collection in which a watched layer leaves what went in and what came out, so that it leaves transforms too.
_WATCHED = "flaxtl_watched"
_CALLS = "calls"
_PASSES = itertools.count()


@dataclasses.dataclass(frozen=True)
class Watched:
    """The calls of a watched layer.

    Attributes:
        calls: (input, output) of each, as they leave the transforms that the layer is called in.
        seen: the same as the layer itself had them; none where a compiled call came out of a cache.
    """

    calls: tuple[tuple[Any, Any], ...] = ()
    seen: tuple[tuple[Any, Any], ...] = ()


def apply_linen(
    module: nn.Module, variables: Variables, mode: Mode, *args: Any, **kwargs: Any
) -> tuple[Any, dict[str, Any]]:
    """Applies a Linen module under a mode; returns (output, the other collections afterwards).

    Args:
        module: any Linen module.
        variables: its variables.
        mode: how BatchNorm and dropout behave.
        *args: the module's inputs.
        **kwargs: the module's keyword arguments.
    """
    y, state, _ = apply_watching(module, variables, mode, None, (), *args, **kwargs)
    return y, state


def apply_watching(
    module: nn.Module,
    variables: Variables,
    mode: Mode,
    watch: tuple[str, ...] | None,
    streams: Iterable[str],
    *args: Any,
    **kwargs: Any,
) -> tuple[Any, dict[str, Any], Watched]:
    """Applies a Linen module as `apply_linen` does, and watches one of its layers.

    In training every collection may be written; of 'batch_stats' what lies at live paths is kept, and of the others
    what keeps its shape and dtype.

    Args:
        module: any Linen module.
        variables: its variables.
        mode: how BatchNorm and dropout behave.
        watch: the path of the layer; None for none.
        streams: names of random streams that the module asks for only where they are given (`has_rng`); those that it
            draws from are found.
        *args: the module's inputs.
        **kwargs: the module's keyword arguments.

    Returns:
        (output, the other collections afterwards, the watched layer's calls).

    Raises:
        ConfigError: the module draws random numbers, and the mode has no key.
    """
    state = {k: v for k, v in variables.items() if k != paths.PARAMS}
    writable = list(state) if mode.trains else []
    mutable = [*writable, *([_WATCHED] if watch is not None else []), *_not_cached(mode)]

    def run(names: set[str]) -> tuple[Any, Mapping[str, Any], Watched]:
        seen: list[tuple[Any, Any]] = []
        rngs = {name: mode.stream(name) for name in sorted(names)} if mode.rng is not None else None
        with nn.intercept_methods(_interceptor(mode, watch, seen)):
            if not mutable:
                return module.apply(variables, *args, rngs=rngs, **kwargs), {}, Watched()
            y, updated = module.apply(variables, *args, rngs=rngs, mutable=mutable, **kwargs)
        calls = _at(updated.get(_WATCHED, {}), watch or ()).get(_CALLS, ())
        return y, updated, Watched(tuple(calls), tuple(seen))

    y, updated, watched = with_streams(run, type(module).__name__, {DROPOUT, *streams}, drawing=mode.rng is not None)
    return y, kept(state, updated, mode.live) if writable else state, watched


def with_streams(run: Callable[[set[str]], Any], module: str, names: set[str], *, drawing: bool = True) -> Any:
    """Calls run(names of random streams), again with one more each time that Flax misses one.

    Raises:
        ConfigError: one is missing though nothing is to be drawn in this pass.
    """
    while True:
        try:
            return run(names)
        except flax_errors.InvalidRngError as error:
            found = re.search(r'needs PRNG for "([^"]*)"', str(error))
            if found is None or (drawing and found.group(1) in names):
                raise
            if not drawing:
                raise ConfigError(
                    f"{module} draws from the random stream {found.group(1)!r} in a pass that has no key, such as "
                    "evaluation. Let it draw only in training: give its __call__ a parameter `train`, or ask "
                    f"self.has_rng({found.group(1)!r}) first."
                ) from error
            names = names | {found.group(1)}


def _not_cached(mode: Mode) -> list[str]:
    """Returns the name of a collection that is nowhere, if the pass must not be taken from the cache of `nn.jit`.

    That cache goes by the module and by which collections are mutable. What the interceptor brings into the compiled
    function, the mode's arrays and paths, would be those of an earlier pass.
    """
    arrays = (mode.rng, mode.example_index, mode.weight)
    return [f"flaxtl_pass_{next(_PASSES)}"] if mode.live or any(a is not None for a in arrays) else []


def _at(tree: Any, keys: Sequence[str]) -> Mapping[str, Any]:
    for key in keys:
        tree = tree.get(key, {}) if isinstance(tree, Mapping) else {}
    return tree


def _interceptor(mode: Mode, watch: tuple[str, ...] | None, seen: list[tuple[Any, Any]]) -> Callable[..., Any]:
    inside: list[nn.Module] = []
    watching: list[nn.Module] = []

    def within(stack: list[nn.Module], module: nn.Module, call: Callable[[], Any]) -> Any:
        stack.append(module)
        try:
            return call()
        finally:
            stack.pop()

    def intercept(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or inside:
            return next_function(*args, **kwargs)
        if watch is not None and not watching and tuple(module.path) == watch:
            y = within(watching, module, lambda: intercept(next_function, args, kwargs, context))
            call = (args[0] if args else next(iter(kwargs.values())), y)
            seen.append(call)
            _note(module, call)
            return y
        if _is_own_call(nn.BatchNorm, context):
            x = args[0] if args else kwargs["x"]
            return within(inside, module, lambda: _batch_norm(module, x, mode))
        if _is_own_call(nn.Dropout, context):
            given = kwargs.get("rng", args[2] if len(args) > 2 else None)
            return _dropout(module, args[0] if args else kwargs["inputs"], mode, given)
        return next_function(*args, **kwargs)

    return intercept


def _is_own_call(kind: type[nn.Module], context: Any) -> bool:
    """Says whether the layer itself is called, and not a transform (`nn.vmap(nn.Dropout)`) or a user's override of it.

    These come to the layer's own call, which is then intercepted.
    """
    if not isinstance(context.module, kind):
        return False
    return getattr(context.orig_method, "func", None) is inspect.unwrap(kind.__call__)


def _note(module: nn.Module, call: tuple[Any, Any]) -> None:
    scope = module.scope
    assert scope is not None
    if not scope.is_mutable_collection(_WATCHED):
        raise ConfigError(
            f"The layer {paths.join(module.path)!r} is called inside a transform that repeats it or hides what it "
            "returns (nn.scan, nn.vmap, …). Call the output layer outside of it."
        )
    scope.put_variable(_WATCHED, _CALLS, (*scope.get_variable(_WATCHED, _CALLS, ()), call))


def _batch_norm(module: nn.BatchNorm, x: Array, mode: Mode) -> Array:
    live = paths.join(module.path) in mode.live
    mask = counted(x, mode) if live else None
    # A layer on the same scope shares the variables but can be told anew which statistics to use.
    own = {f.name: getattr(module, f.name) for f in dataclasses.fields(nn.BatchNorm) if f.init}
    own |= {"parent": module.scope, "name": None, "use_running_average": None, "axis_name": None}
    twin = nn.BatchNorm(**own)
    if live and mode.axis_name is not None:
        return _with_spread_statistics(twin, x, mask, mode.axis_name)
    return twin(x, use_running_average=not live, mask=mask)


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


def _dropout(module: nn.Dropout, x: Array, mode: Mode, given: Array | None) -> Array:
    if not require_key(mode, module.rate):
        return x
    key = module.make_rng(module.rng_collection) if given is None else given
    return dropped(x, module.rate, module.broadcast_dims, mode, key)
