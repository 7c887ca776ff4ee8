"""A network as the rest of flaxtl sees it: ordered segments and `forward(variables, x, start, stop)`.

Features are ``forward(v, x, 0, border)``; a cut at depth k is ``forward(v, x, 0, k)`` cached and
``forward(v, x, k)`` trained. Whether a BatchNorm uses batch statistics and whether dropout drops is decided
at this border by a `Mode`, not inside the modules: an interceptor sets it for every `nn.BatchNorm` and
`nn.Dropout`, ours or a user's, so that one policy holds everywhere.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
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
    """

    rng: Array | None = None
    example_index: Array | None = None
    weight: Array | None = None
    live: frozenset[str] = frozenset()


EVAL = Mode()


class Network(Protocol):
    """What the engine needs from any network, whoever wrote it."""

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of the parts in order; the last is the head."""

    @property
    def border(self) -> int:
        """The index of the head's segment: features are what enters it."""

    def forward(
        self, variables: Variables, x: Any, start: int = 0, stop: int | None = None, mode: Mode = EVAL
    ) -> tuple[Any, dict[str, Any]]:
        """Applies segments start…stop-1; returns (output, the collections other than params afterwards)."""

    def abstract(self, x: Any) -> dict[str, Any]:
        """Returns the variables' shapes and dtypes without computing anything; x may be abstract."""

    def init(self, seed: int, x: Any) -> dict[str, Any]:
        """Returns fresh variables."""

    def with_outputs(self, outputs: int) -> Network:
        """Returns the same network with a head of another size."""

    def segment_of(self, path: str) -> int:
        """Returns the index of the segment that a parameter path belongs to."""


class Classifier(nn.Module):
    """A backbone and a dense head."""

    backbone: nn.Module
    outputs: int

    def setup(self) -> None:
        self.head = nn.Dense(self.outputs, kernel_init=nn.initializers.zeros_init())

    @property
    def segments(self) -> tuple[str, ...]:
        """The backbone's segments and then the head."""
        return (*self.backbone.segments, "head")

    def __call__(self, x: Any, start: int = 0, stop: int | None = None) -> Any:
        for segment in self.segments[start:stop]:
            x = self.head(x) if segment == "head" else self.backbone.run(segment, x)
        return x


@dataclasses.dataclass(frozen=True)
class LinenNetwork:
    """A network of one of flaxtl's own families.

    Example:
        >>> from flaxtl import nets
        >>> from flaxtl.card import NetworkSpec
        >>> net = nets.build(NetworkSpec('resnet', {'depths': (1,), 'widths': (8,), 'stem': 'cifar'}), outputs=3)
        >>> variables = net.init(0, jnp.zeros((1, 8, 8, 1)))
        >>> features, _ = net.forward(variables, jnp.zeros((2, 8, 8, 1)), 0, net.border)
        >>> features.shape
        (2, 8)
    """

    module: Classifier

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of the parts in order; the last is the head."""
        return self.module.segments

    @property
    def border(self) -> int:
        """The index of the head's segment."""
        return len(self.segments) - 1

    def forward(
        self, variables: Variables, x: Any, start: int = 0, stop: int | None = None, mode: Mode = EVAL
    ) -> tuple[Any, dict[str, Any]]:
        """Applies segments start…stop-1; see `Network`."""
        return apply_linen(self.module, variables, mode, x, start, stop)

    def abstract(self, x: Any) -> dict[str, Any]:
        """Returns the variables' shapes and dtypes."""
        return jax.eval_shape(self.module.init, jax.random.key(0), x)

    def init(self, seed: int, x: Any) -> dict[str, Any]:
        """Returns fresh variables, drawn by `INITIALISERS`; the head is zero."""
        abstract = self.abstract(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x))
        return initialise(abstract, seed)

    def with_outputs(self, outputs: int) -> LinenNetwork:
        """Returns the same network with a head of another size."""
        return LinenNetwork(Classifier(self.module.backbone, outputs))

    def segment_of(self, path: str) -> int:
        """Returns the index of the segment that a parameter path belongs to."""
        keys = paths.split(path)
        return self.segments.index(keys[0] if keys[0] == "head" else keys[1])


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
            return _dropout(module, args[0] if args else kwargs["inputs"], mode, f"{path}#{calls[path]}")
        if watch is not None:
            return watch(next_function, args, kwargs, context)
        return next_function(*args, **kwargs)

    return intercept


def _batch_norm(module: nn.BatchNorm, x: Array, mode: Mode) -> Array:
    live = paths.join(module.path) in mode.live
    mask = None
    if live and mode.weight is not None:
        mask = (mode.weight > 0).reshape((-1,) + (1,) * (x.ndim - 1))
    # A copy on the same scope shares the variables but can be told anew which statistics to use.
    twin = module.clone(parent=module.scope, use_running_average=not live)
    return twin(x, mask=mask)


def _dropout(module: nn.Dropout, x: Array, mode: Mode, place: str) -> Array:
    """Inverted dropout (Srivastava et al. 2014) whose mask depends on the example, not on its row."""
    if mode.rng is None or module.rate == 0.0:
        return x
    if module.rate == 1.0:
        return jnp.zeros_like(x)
    key = jax.random.fold_in(mode.rng, zlib.crc32(place.encode()) & 0x7FFFFFFF)
    index = mode.example_index if mode.example_index is not None else jnp.arange(x.shape[0])
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    shape = tuple(1 if axis in module.broadcast_dims else size for axis, size in enumerate(x.shape))[1:]
    keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - module.rate, shape))(keys)
    return jnp.where(keep, x / (1.0 - module.rate), 0.0).astype(x.dtype)


def _normal(std: float) -> Callable[..., np.ndarray]:
    return lambda rng, shape: std * rng.standard_normal(shape, dtype=np.float32)


def _kaiming(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """He normal by fan-out for convolutions, LeCun normal by fan-in for matrices."""
    fan = shape[-1] * int(np.prod(shape[:-2])) / 2 if len(shape) > 2 else shape[0]
    return np.float32(np.sqrt(1.0 / fan)) * rng.standard_normal(shape, dtype=np.float32)


def _ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, np.float32)


def _zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32)


# NumPy draws a ResNet-18 in half a second; `module.init` spends sixteen compiling threefry for each shape.
INITIALISERS: list[tuple[str, Callable[..., np.ndarray]]] = [
    ("head/**", _zeros),
    ("**/bias", _zeros),
    ("batch_stats:**/mean", _zeros),
    ("batch_stats:**/var", _ones),
    ("**/scale", _ones),
    ("**/kernel", _kaiming),
    ("**", _normal(0.02)),
]


def initialise(
    abstract: Variables, seed: int, rules: list[tuple[str, Callable[..., np.ndarray]]] | None = None
) -> dict[str, Any]:
    """Returns fresh variables for a tree of shapes.

    Each leaf is drawn from its own generator, seeded by `seed` and the leaf's name, so that one leaf's
    values do not depend on which others exist.

    Args:
        abstract: variables dict of `jax.ShapeDtypeStruct`.
        seed: any integer ≥ 0.
        rules: ordered (pattern, function(rng, shape) → array); `INITIALISERS` if None.

    Example:
        >>> tree = {'params': {'head': {'bias': jax.ShapeDtypeStruct((3,), jnp.float32)}}}
        >>> initialise(tree, 0)['params']['head']['bias']
        array([0., 0., 0.], dtype=float32)
    """
    table = rules or INITIALISERS

    def draw(leaf: paths.Leaf, struct: Any) -> np.ndarray:
        function = next(f for pattern, f in table if paths.matches(pattern, leaf))
        rng = np.random.default_rng([seed, zlib.crc32(leaf.name.encode())])
        return function(rng, struct.shape).astype(struct.dtype)

    return paths.map_with_leaf(draw, dict(abstract))
