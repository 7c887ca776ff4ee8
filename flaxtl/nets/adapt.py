"""A user's own module, Linen or NNX, as a `Network` of two segments: all before the named head, and the head.

The border is found by watching the head: features are what the module hands it. The names in the tree stay
the user's; which of them is the head is said by `head`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax import nnx

from flaxtl import paths
from flaxtl.errors import ConfigError, listed
from flaxtl.nets.mode import EVAL, Mode, Variables, apply_linen
from flaxtl.nets.mode_nnx import called_as, governed

SEGMENTS = ("backbone", "head")
_TRAIN_WORDS = ("train", "training", "is_training")


def _segment_of(head: str, path: str) -> int:
    keys = paths.split(head)
    return int(paths.split(path)[: len(keys)] == keys)


def dense(params: Mapping[str, Any], x: Any, head: str) -> Any:
    """Applies a user's head alone, which must be a dense layer.

    Args:
        params: the head's subtree: kernel [features, outputs] and perhaps bias [outputs].
        x: float [batch, features].
        head: its path, for the error message.

    Raises:
        ConfigError: the subtree is not a dense layer's.
    """
    if set(params) - {"kernel", "bias"} or params["kernel"].ndim != 2:
        raise ConfigError(
            f"The head {head!r} holds {listed(params)}; expected a dense layer with kernel [features, outputs] "
            "and perhaps a bias. Name the module's last dense layer as its head."
        )
    y = x @ params["kernel"]
    return y + params["bias"] if "bias" in params else y


def _check_border(module: str, head: str, seen: list[Any], y: Any) -> None:
    if len(seen) != 1:
        raise ConfigError(
            f"{module} called {head!r} {len(seen)} times in one pass; expected once. "
            "Give `head` the path of the output layer in the parameter tree."
        )
    if seen[0][1] is not y:
        raise ConfigError(
            f"{module} changes what its head {head!r} returns. Let it return the logits "
            "themselves: flaxtl applies softmax and the like where they belong."
        )


def _rebuilt(rebuild: Callable[[int], Any] | None, module: Any, head: str, outputs: int) -> Any:
    if rebuild is None:
        raise ConfigError(
            f"{type(module).__name__} has a fixed output layer {head!r}, but {outputs} outputs are needed. "
            "Build the module for that number, or give rebuild=lambda outputs: YourModule(outputs)."
        )
    return rebuild(outputs)


@dataclasses.dataclass(frozen=True)
class LinenModule:
    """A user's own Linen module.

    The module takes the inputs as its one positional argument. A parameter called train, training,
    is_training or deterministic is set for it; BatchNorm and dropout are governed by the `Mode` whatever
    it says.

    Attributes:
        module: the module, built for the number of outputs that is wanted.
        head: the path of its output layer in the parameter tree, such as "classifier" or "top/dense".
        rebuild: makes the module for another number of outputs; needed only by `with_outputs`.

    Example:
        >>> import jax.numpy as jnp
        >>> class Net(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return nn.Dense(3, name='top')(nn.relu(nn.Dense(4, name='body')(x)))
        >>> net = LinenModule(Net(), head='top')
        >>> variables = net.init(0, jnp.ones((1, 2)))
        >>> net.forward(variables, jnp.ones((5, 2)), 0, net.border)[0].shape
        (5, 4)
    """

    module: nn.Module
    head: str
    rebuild: Callable[[int], nn.Module] | None = None

    @property
    def segments(self) -> tuple[str, ...]:
        """("backbone", "head")."""
        return SEGMENTS

    @property
    def border(self) -> int:
        """The index of the head's segment."""
        return 1

    def _switches(self, mode: Mode) -> dict[str, Any]:
        names = inspect.signature(type(self.module).__call__).parameters
        train = mode.rng is not None or bool(mode.live)
        found = {word: train for word in _TRAIN_WORDS if word in names}
        return found | ({"deterministic": not train} if "deterministic" in names else {})

    def forward(
        self, variables: Variables, x: Any, start: int = 0, stop: int | None = None, mode: Mode = EVAL
    ) -> tuple[Any, dict[str, Any]]:
        """Applies the backbone (0, 1), the head (1, 2) or both; see `Network`."""
        state = {k: v for k, v in variables.items() if k != paths.PARAMS}
        stop = len(SEGMENTS) if stop is None else stop
        if start >= stop:
            return x, state
        if start == 1:
            return dense(paths.subtree(variables[paths.PARAMS], self.head), x, self.head), state
        keys = paths.split(self.head)
        seen: list[Any] = []

        def watch(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if tuple(context.module.path) != keys:
                return next_function(*args, **kwargs)
            features = args[0] if args else next(iter(kwargs.values()))
            y = next_function(*args, **kwargs)
            seen.append((features, y))
            return y

        rngs = {"dropout": mode.rng} if mode.rng is not None else None
        y, state = apply_linen(self.module, variables, mode, x, watch=watch, rngs=rngs, **self._switches(mode))
        _check_border(type(self.module).__name__, self.head, seen, y)
        return (seen[0][0] if stop == 1 else y), state

    def abstract(self, x: Any) -> dict[str, Any]:
        """Returns the variables' shapes and dtypes."""
        key = jax.random.key(0)
        init = lambda k, a: self.module.init({"params": k, "dropout": k}, a, **self._switches(EVAL))  # noqa: E731
        return dict(jax.eval_shape(init, key, x))

    def init(self, seed: int, x: Any) -> dict[str, Any]:
        """Returns fresh variables by the module's own initialisers."""
        key = jax.random.key(seed)
        return dict(self.module.init({"params": key, "dropout": key}, x, **self._switches(EVAL)))

    def with_outputs(self, outputs: int) -> LinenModule:
        """Returns the same network with a head of another size, by `rebuild`."""
        return dataclasses.replace(self, module=_rebuilt(self.rebuild, self.module, self.head, outputs))

    def segment_of(self, path: str) -> int:
        """Returns 1 for paths within the head, else 0."""
        return _segment_of(self.head, path)


def _with_string_keys(tree: Any) -> Any:
    return {str(k): _with_string_keys(v) for k, v in tree.items()} if isinstance(tree, Mapping) else tree


@dataclasses.dataclass(frozen=True)
class NnxModule:
    """A user's own NNX module, through `nnx.split` and `nnx.merge`.

    Parameters are the `nnx.Param` variables, 'batch_stats' the `nnx.BatchStat` ones; all others stay as
    they are in the given module.

    Attributes:
        module: the module; flaxtl reads it and never changes it.
        head: the attribute path of its output layer, such as "head" or "top/dense".
        rebuild: makes the module for another number of outputs; needed only by `with_outputs`.

    Example:
        >>> import jax.numpy as jnp
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.body, self.top = nnx.Linear(2, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)
        ...     def __call__(self, x):
        ...         return self.top(nnx.relu(self.body(x)))
        >>> net = NnxModule(Net(nnx.Rngs(0)), head='top')
        >>> net.forward(net.init(0, None), jnp.ones((5, 2)), 0, net.border)[0].shape
        (5, 4)
    """

    module: nnx.Module
    head: str
    rebuild: Callable[[int], nnx.Module] | None = None

    @property
    def segments(self) -> tuple[str, ...]:
        """("backbone", "head")."""
        return SEGMENTS

    @property
    def border(self) -> int:
        """The index of the head's segment."""
        return 1

    def _split(self) -> tuple[Any, ...]:
        return nnx.split(self.module, nnx.Param, nnx.BatchStat, ...)

    def variables(self) -> dict[str, Any]:
        """Returns the module's own values as a variables dict."""
        _, params, stats, _ = self._split()
        found = {paths.PARAMS: _with_string_keys(nnx.to_pure_dict(params))}
        stats_dict = _with_string_keys(nnx.to_pure_dict(stats))
        return found | ({"batch_stats": stats_dict} if stats_dict else {})

    def _merged(self, variables: Variables) -> nnx.Module:
        graph, params, stats, others = self._split()

        def fill(template: Any, values: Any) -> Any:
            fresh = jax.tree.map(lambda a: a, template)  # new Variables, of the current trace
            nnx.replace_by_pure_dict(fresh, nnx.restore_int_paths(dict(values)))
            return fresh

        return nnx.merge(
            graph,
            fill(params, variables[paths.PARAMS]),
            fill(stats, variables.get("batch_stats", {})),
            jax.tree.map(lambda a: a, others),
        )

    def forward(
        self, variables: Variables, x: Any, start: int = 0, stop: int | None = None, mode: Mode = EVAL
    ) -> tuple[Any, dict[str, Any]]:
        """Applies the backbone (0, 1), the head (1, 2) or both; see `Network`."""
        state = {k: v for k, v in variables.items() if k != paths.PARAMS}
        stop = len(SEGMENTS) if stop is None else stop
        if start >= stop:
            return x, state
        if start == 1:
            return dense(paths.subtree(variables[paths.PARAMS], self.head), x, self.head), state
        module = governed(self._merged(variables), mode)
        seen = self._watch(module)
        y = module(x)
        _check_border(type(self.module).__name__, self.head, seen, y)
        if mode.live:
            after: Any = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
            state = {**state, "batch_stats": _with_string_keys(nnx.to_pure_dict(after[2]))}
        return (seen[0][0] if stop == 1 else y), state

    def _watch(self, module: nnx.Module) -> list[Any]:
        """Wraps the head's call for this one pass, so that its input and output can be seen."""
        *folders, name = paths.split(self.head)
        parent: Any = module
        for key in folders:
            parent = parent[int(key)] if key.isdigit() else getattr(parent, key)
        head = getattr(parent, name, None)
        if head is None:
            raise ConfigError(f"{type(module).__name__} has no attribute {self.head!r} to be its head.")
        seen: list[Any] = []

        def watched(call: Callable[..., Any], features: Any) -> Any:
            y = call(features)
            seen.append((features, y))
            return y

        called_as(head, watched)
        return seen

    def abstract(self, x: Any) -> dict[str, Any]:
        """Returns the variables' shapes and dtypes."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), self.variables())

    def init(self, seed: int, x: Any) -> dict[str, Any]:
        """Returns the module's own values: an NNX module is made with its parameters, so the seed is its maker's."""
        return self.variables()

    def with_outputs(self, outputs: int) -> NnxModule:
        """Returns the same network with a head of another size, by `rebuild`."""
        return dataclasses.replace(self, module=_rebuilt(self.rebuild, self.module, self.head, outputs))

    def segment_of(self, path: str) -> int:
        """Returns 1 for paths within the head, else 0."""
        return _segment_of(self.head, path)
