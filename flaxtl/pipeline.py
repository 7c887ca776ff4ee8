"""What is compiled: the card's device-side preprocessing, the network's segments, the head's normalisation.

Training, feature extraction, evaluation and prediction all run this one function, so that none of them can
treat an input differently from the others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from flaxtl.card import Card
from flaxtl.data.preprocess import Preprocess, preprocess_for
from flaxtl.nets.mode import EVAL, Mode
from flaxtl.nets.network import Network

Array = jax.Array


def rms_normalise(features_BD: Array, epsilon: float = 1e-12) -> Array:
    """Divides each row by its root mean square: unit length, times the square root of its dimension.

    Args:
        features_BD: float [batch, features].
        epsilon: keeps a row of zeros at zero.

    Example:
        >>> rms_normalise(jnp.array([[3.0, 4.0]])).round(3).tolist()
        [[0.8489999771118164, 1.1310000419616699]]
    """
    square = jnp.mean(jnp.square(features_BD), axis=-1, keepdims=True)
    return features_BD * jax.lax.rsqrt(square + epsilon)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A network between its card's preprocessing and its head; hashable, so that compilations are shared.

    Attributes:
        network: the network.
        preprocess: the card's preprocessing; its device part runs before the first segment.
        normalise: what happens to features at the border before the head.
    """

    network: Network
    preprocess: Preprocess
    normalise: Literal["none", "rms"] = "none"

    @classmethod
    def of(cls, network: Network, card: Card) -> Pipeline:
        """Returns the pipeline of a network and its card."""
        return cls(network, preprocess_for(card.input), card.head.normalise)

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
        return self.network.forward({**variables, **state}, rms_normalise(x), border, stop, mode)


@functools.lru_cache(maxsize=64)
def compiled(pipeline: Pipeline, start: int, stop: int | None) -> Callable[[Mapping[str, Any], Any], Array]:
    """Returns the jitted inference function of a stretch of segments; the same object for equal arguments."""
    return jax.jit(lambda variables, inputs: pipeline(variables, inputs, start, stop)[0])
