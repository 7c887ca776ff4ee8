"""What is compiled: the card's device-side preprocessing, the network's segments, the head's normalisation.

Training, feature extraction, evaluation and prediction all run this one function, so that none of them can
treat an input differently from the others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from flaxtl.card import Card
from flaxtl.data.preprocess import Preprocess, preprocess_for
from flaxtl.nets.mode import EVAL, Mode
from flaxtl.nets.network import Network
from flaxtl.nets.normalising import NORMALISE, in_network, rms_normalise, signed_root
from flaxtl.nets.rows import rows_over

__all__ = ["Pipeline", "compiled", "rms_normalise", "signed_root", "sliced", "spread"]
Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A network between its card's preprocessing and its head; hashable, so that compilations are shared.

    Attributes:
        network: the network.
        preprocess: the card's preprocessing; its device part runs before the first segment.
        normalise: what happens to features at the border before the head, where the network does not do it itself.
    """

    network: Network
    preprocess: Preprocess
    normalise: str = "none"

    @classmethod
    def of(cls, network: Network, card: Card, files: Mapping[str, Path] | None = None) -> Pipeline:
        """Returns the pipeline of a network, its card, and the files that travel with them, such as a tokenizer."""
        own, left = in_network(network, card.head.normalise)
        return cls(own, preprocess_for(card.input, files), left)

    def __call__(
        self,
        variables: Mapping[str, Any],
        inputs: Any,
        start: int = 0,
        stop: int | None = None,
        mode: Mode = EVAL,
    ) -> tuple[Any, dict[str, Any]]:
        """Applies segments start…stop-1 to a batch; returns (output, collections other than params).

        Args:
            variables: the network's variables.
            inputs: the batch as the loader gives it if start is 0, else what enters segment `start`.
            start: first segment.
            stop: one past the last segment; None for all.
            mode: how BatchNorm and dropout behave.
        """
        stop = len(self.network.segments) if stop is None else stop
        border = self.network.border
        x = self.preprocess.device(inputs) if start == 0 else inputs
        if self.normalise == "none" or not start <= border < stop:
            return self.network.forward(variables, x, start, stop, mode)
        x, state = self.network.forward(variables, x, start, border, mode)
        return self.network.forward({**variables, **state}, NORMALISE[self.normalise](x), border, stop, mode)


@functools.lru_cache(maxsize=64)
def compiled(pipeline: Pipeline, start: int, stop: int | None) -> Callable[[Mapping[str, Any], Any], Any]:
    """Returns the jitted inference function of a stretch of segments; the same object for equal arguments.

    On CPU a batch is worked off in slices inside the compiled program: what a slice needs in between then stays in the
    cache, and XLA does not take fresh memory for each call. No row's answer depends on the other rows.
    """

    def run(variables: Mapping[str, Any], inputs: Any) -> Any:
        whole = lambda part: pipeline(variables, part, start, stop)[0]  # noqa: E731
        if jax.default_backend() != "cpu":
            return whole(inputs)
        if jax.local_device_count() > 1:
            with rows_over(jax.local_device_count()):
                return whole(inputs)
        return sliced(whole, inputs)

    return jax.jit(run)


def spread(variables: Mapping[str, Any]) -> tuple[Mapping[str, Any], Callable[[Any], Any]]:
    """Puts variables on this process's devices, and returns them with a function that divides a batch among these.

    Args:
        variables: every device gets all of them.

    Returns:
        (variables on the devices, batch → batch on the devices; one that does not divide evenly is on each as a whole).

    Example:
        >>> variables, place = spread({'w': jnp.ones(2)})
        >>> place(jnp.zeros((8, 2))).shape
        (8, 2)
    """
    devices = jax.local_devices()
    if len(devices) == 1:
        return jax.device_put(variables), lambda batch: batch
    mesh = jax.make_mesh((len(devices),), ("data",), (jax.sharding.AxisType.Auto,), devices=devices)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    divided = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

    def place(batch: Any) -> Any:
        rows = jax.tree.leaves(batch)[0].shape[0]
        return jax.device_put(batch, divided if rows % len(devices) == 0 else everywhere)

    return jax.device_put(variables, everywhere), place


# About eight photographs of 224 × 224, or as much text: measured best between 4 and 8 for most networks.
_SLICE_ELEMENTS = 1_250_000
_ELEMENTS_A_TOKEN = 1_200


def sliced(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Applies a function of a batch to slices of it, one after the other, and puts the results together.

    Args:
        function: batch → tree of arrays [batch, …], row by row.
        inputs: a tree of arrays [batch, …].

    Example:
        >>> sliced(lambda x: x + 1, jnp.zeros((3, 2))).shape
        (3, 2)
    """
    leaves = jax.tree.leaves(inputs)
    rows = leaves[0].shape[0]
    each = max(a.size // rows * (_ELEMENTS_A_TOKEN if a.dtype == jnp.int32 else 1) for a in leaves)
    size = max(1, min(rows, _SLICE_ELEMENTS // max(each, 1)))
    count, rest = divmod(rows, size)
    if count <= 1:
        return function(inputs)
    cut = jax.tree.map(lambda a: a[: count * size].reshape(count, size, *a.shape[1:]), inputs)
    done = jax.tree.map(lambda a: a.reshape(count * size, *a.shape[2:]), jax.lax.map(function, cut))
    if not rest:
        return done
    last = function(jax.tree.map(lambda a: a[count * size :], inputs))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, last)
