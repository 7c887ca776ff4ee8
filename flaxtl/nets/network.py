"""A network as the rest of flaxtl sees it: ordered segments and `forward(variables, x, start, stop)`.

Features are ``forward(v, x, 0, border)``; a cut at depth k is ``forward(v, x, 0, k)`` cached and
``forward(v, x, k)`` trained. Whether a BatchNorm uses batch statistics and whether dropout drops is decided
at this border by a `Mode`, not inside the modules: an interceptor sets it for every `nn.BatchNorm` and
`nn.Dropout`, ours or a user's, so that one policy holds everywhere.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl import paths
from flaxtl.nets import running
from flaxtl.nets.initialise import initialise
from flaxtl.nets.mode import EVAL, Mode, Variables
from flaxtl.nets.mode_linen import apply_linen
from flaxtl.nets.normalising import NORMALISE
from flaxtl.nets.running import Execution


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
    """A backbone and a dense head; without outputs it has no head and says its features.

    Attributes:
        backbone: with `segments` and `run`.
        outputs: of the head.
        normalise: what the head's segment does to features first, as the card says; see `nets.normalising`.
    """

    backbone: nn.Module
    outputs: int
    normalise: str = "none"

    def setup(self) -> None:
        if self.outputs:
            self.head = nn.Dense(self.outputs, kernel_init=nn.initializers.zeros_init())

    @property
    def segments(self) -> tuple[str, ...]:
        """The backbone's segments and then the head."""
        return (*self.backbone.segments, "head")

    def __call__(self, x: Any, start: int = 0, stop: int | None = None) -> Any:
        for segment in self.segments[start:stop]:
            if segment != "head":
                x = self.backbone.run(segment, x)
            elif self.outputs:
                x = self.head(x if self.normalise == "none" else self._normalised(x))
        return x

    def _normalised(self, x: Any) -> Any:
        return NORMALISE[self.normalise](x.astype(jnp.promote_types(x.dtype, jnp.float32))).astype(x.dtype)


@functools.lru_cache(maxsize=64)
def _initialising(module: nn.Module) -> Callable[[Any], Any]:
    """Returns the jitted `init`, one object a module, whose trace is then kept: a large network's takes a second."""
    # The key is made inside, so that nothing is computed and no device is started.
    return jax.jit(lambda x: module.init(jax.random.key(0), x))


@dataclasses.dataclass(frozen=True)
class LinenNetwork:
    """A network of one of flaxtl's own families.

    Example:
        >>> import jax.numpy as jnp
        >>> from flaxtl import nets
        >>> from flaxtl.card import NetworkSpec
        >>> net = nets.build(NetworkSpec('resnet', {'depths': (1,), 'widths': (8,), 'stem': 'cifar'}), outputs=3)
        >>> variables = net.init(0, jnp.zeros((1, 8, 8, 1)))
        >>> features, _ = net.forward(variables, jnp.zeros((2, 8, 8, 1)), 0, net.border)
        >>> features.shape
        (2, 8)
    """

    module: Classifier
    execution: Execution = Execution()

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
        stop = len(self.segments) if stop is None else stop
        if self.execution == Execution():
            return apply_linen(self.module, variables, mode, x, start, stop)
        return running.forward(self.module, self.execution, variables, x, (start, stop), mode)

    def abstract(self, x: Any) -> dict[str, Any]:
        """Returns the variables' shapes and dtypes."""
        # On which the normalisation has no bearing, so that a network with another one is not traced again.
        return jax.eval_shape(_initialising(Classifier(self.module.backbone, self.module.outputs)), x)

    def init(self, seed: int, x: Any) -> dict[str, Any]:
        """Returns fresh variables, drawn by `INITIALISERS`; the head is zero."""
        abstract = self.abstract(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x))
        return initialise(abstract, seed)

    def with_outputs(self, outputs: int) -> LinenNetwork:
        """Returns the same network with a head of another size."""
        return dataclasses.replace(self, module=Classifier(self.module.backbone, outputs, self.module.normalise))

    def normalising(self, how: str) -> tuple[LinenNetwork, str]:
        """Returns the same network whose head normalises features so, and that nothing is left to do of it."""
        if how == self.module.normalise:
            return self, "none"
        return dataclasses.replace(self, module=Classifier(self.module.backbone, self.module.outputs, how)), "none"

    def segment_of(self, path: str) -> int:
        """Returns the index of the segment that a parameter path belongs to."""
        keys = paths.split(path)
        return self.segments.index(keys[0] if keys[0] == "head" else keys[1])
