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
from flaxtl.nets.mode import DROPOUT, EVAL, Mode, Variables, kept
from flaxtl.nets.mode_linen import Watched, apply_watching, with_streams
from flaxtl.nets.mode_nnx import called_as, collection_filters, filled, governed, with_string_keys

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


def _at_border(module: str, head: str, watched: Watched, y: Any) -> tuple[Any, Any]:
    """Returns (features, logits): what the head took and returned, in the one call of it that there may be.

    Where the head is called inside a transform (a `__call__` under `nn.jit` or `nnx.remat`) what it returned leaves the
    transform beside the module's output, and stands for the logits.
    """
    if len(watched.calls) != 1:
        raise ConfigError(
            f"{module} called {head!r} {len(watched.calls)} times in one pass; expected once. "
            "Give `head` the path of the output layer in the parameter tree."
        )
    features, logits = watched.calls[0]
    inside = not watched.seen or watched.seen[0][1] is not logits
    if logits is not y and not (inside and getattr(y, "shape", None) == logits.shape):
        raise ConfigError(
            f"{module} changes what its head {head!r} returns. Let it return the logits "
            "themselves: flaxtl applies softmax and the like where they belong."
        )
    return features, logits


def _switches(module: type, mode: Mode) -> dict[str, Any]:
    """Returns the parameters of a module's call that say whether it is trained."""
    names = inspect.signature(module.__call__).parameters
    found: dict[str, Any] = {word: mode.trains for word in _TRAIN_WORDS if word in names}
    return found | ({"deterministic": not mode.trains} if "deterministic" in names else {})


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
    it says, also within lifted transforms. Every random stream that it draws from is given a key of the step. In
    training all collections may be written.

    Attributes:
        module: the module, built for the number of outputs that is wanted.
        head: the path of its output layer in the parameter tree, such as "classifier" or "top/dense".
        rebuild: makes the module for another number of outputs; needed only by `with_outputs`.
        streams: names of random streams that the module uses only where they are given (`self.has_rng("noise")`);
            those that it draws from anyway are found.

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
    streams: tuple[str, ...] = ()

    @property
    def segments(self) -> tuple[str, ...]:
        """("backbone", "head")."""
        return SEGMENTS

    @property
    def border(self) -> int:
        """The index of the head's segment."""
        return 1

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
        keys, switches = paths.split(self.head), _switches(type(self.module), mode)
        y, state, watched = apply_watching(self.module, variables, mode, keys, self.streams, x, **switches)
        features, logits = _at_border(type(self.module).__name__, self.head, watched, y)
        return (features if stop == 1 else logits), state

    def abstract(self, x: Any) -> dict[str, Any]:
        """Returns the variables' shapes and dtypes."""
        return dict(jax.eval_shape(self._init, jax.random.key(0), x))

    def init(self, seed: int, x: Any) -> dict[str, Any]:
        """Returns fresh variables by the module's own initialisers."""
        return dict(self._init(jax.random.key(seed), x))

    def _init(self, key: Any, x: Any) -> Any:
        def run(names: set[str]) -> Any:
            return self.module.init(dict.fromkeys(sorted(names), key), x, **_switches(type(self.module), EVAL))

        return with_streams(run, type(self.module).__name__, {paths.PARAMS, DROPOUT, *self.streams})

    def with_outputs(self, outputs: int) -> LinenModule:
        """Returns the same network with a head of another size, by `rebuild`."""
        return dataclasses.replace(self, module=_rebuilt(self.rebuild, self.module, self.head, outputs))

    def segment_of(self, path: str) -> int:
        """Returns 1 for paths within the head, else 0."""
        return _segment_of(self.head, path)


@dataclasses.dataclass(frozen=True)
class NnxModule:
    """A user's own NNX module, through `nnx.split` and `nnx.merge`.

    The module takes the inputs as its one positional argument; a parameter called train, training, is_training or
    deterministic is set for it. Parameters are the `nnx.Param` variables, 'batch_stats' the `nnx.BatchStat` ones;
    variables of other types that hold arrays are collections by their type's name, and what training writes into them
    is kept. Random streams, whatever their names, get keys of the step. The module may be made of NNX's transforms
    (remat, jit, scan, vmap).

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

    def variables(self) -> dict[str, Any]:
        """Returns the module's own values as a variables dict."""
        return self._values(self.module, collection_filters(self.module))

    def _values(self, module: nnx.Module, filters: Mapping[str, Any]) -> dict[str, Any]:
        parts: Any = nnx.split(module, *filters.values(), ...)
        states = parts[1:-1]
        found = {name: with_string_keys(nnx.to_pure_dict(state)) for name, state in zip(filters, states, strict=True)}
        return {name: tree for name, tree in found.items() if tree or name == paths.PARAMS}

    def _merged(self, variables: Variables, filters: Mapping[str, Any]) -> nnx.Module:
        parts: Any = nnx.split(self.module, *filters.values(), ...)
        own = [
            filled(state, variables[name]) if name in variables else jax.tree.map(lambda a: a, state)
            for name, state in zip(filters, parts[1:-1], strict=True)
        ]
        return nnx.merge(parts[0], *own, jax.tree.map(lambda a: a, parts[-1]))

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
        filters = collection_filters(self.module)
        module = governed(self._merged(variables, filters), mode)
        head = self._head(module)
        seen = _watch(head)
        y = module(x, **_switches(type(self.module), mode))
        watched = Watched(_calls(head), tuple(seen))
        features, logits = _at_border(type(self.module).__name__, self.head, watched, y)
        if mode.trains:
            state = kept(state, self._values(module, filters), mode.live)
        return (features if stop == 1 else logits), state

    def _head(self, module: nnx.Module) -> nnx.Module:
        found: Any = module
        try:
            for key in paths.split(self.head):
                found = found[int(key)] if key.isdigit() else getattr(found, key)
        except (AttributeError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{type(self.module).__name__} has no attribute {self.head!r} to be its head. Give `head` the path of "
                "the output layer, such as 'head' or 'layers/2'."
            ) from error
        return found

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


_SEEN = "flaxtl_calls"


def _watch(head: nnx.Module) -> list[tuple[Any, Any]]:
    """Lets a head note its calls, for this one pass, in a variable, which leaves NNX's transforms; returns them too."""
    seen: list[tuple[Any, Any]] = []

    def watched(layer: nnx.Module, call: Callable[..., Any], features: Any, *args: Any, **kwargs: Any) -> Any:
        y = call(features, *args, **kwargs)
        seen.append((features, y))
        setattr(layer, _SEEN, nnx.Intermediate((*_calls(layer), (features, y))))
        return y

    called_as(head, watched)
    return seen


def _calls(head: nnx.Module) -> tuple[tuple[Any, Any], ...]:
    noted = getattr(head, _SEEN, None)
    return () if noted is None else noted.get_value()
