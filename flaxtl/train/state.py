"""Everything that decides the next training step, as one tree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from flaxtl import freeze


@struct.dataclass
class TrainState:
    """The state of a training phase.

    Attributes:
        step: int32, steps taken in this phase.
        trainable: the parameters that are trained; None where a leaf is frozen.
        frozen: the other parameters; None where a leaf is trained.
        stats: collections other than params, such as {'batch_stats': …}.
        opt_state: of the trainable partition alone.
        ema: exponential moving average of `trainable`, or None.
        rng: uint32 key data; the step's key is this folded with the step number.
    """

    step: jax.Array
    trainable: Any
    frozen: Any
    stats: Any
    opt_state: Any
    ema: Any
    rng: jax.Array

    @property
    def params(self) -> Any:
        """The whole parameter tree."""
        return freeze.merge(self.trainable, self.frozen)

    @property
    def averaged_params(self) -> Any:
        """The whole tree with the moving average in place of the trained leaves, if one is kept."""
        return self.params if self.ema is None else freeze.merge(self.ema, self.frozen)


def init_state(
    params: Any,
    tx: optax.GradientTransformation,
    labels: Any,
    *,
    stats: Any = None,
    seed: int = 0,
    ema: bool = False,
) -> TrainState:
    """Returns the state before the first step.

    The arrays are copied, so that a step that donates its state leaves the caller's arrays alone.

    Args:
        params: the whole parameter tree.
        tx: the optimizer, as `freeze.transform` makes it or any other.
        labels: `freeze.labels(params, …)`.
        stats: collections other than params.
        seed: of dropout and other draws in the step.
        ema: whether to keep a moving average of the trained parameters.

    Example:
        >>> labels = freeze.labels({'w': jnp.ones(2), 'b': jnp.ones(1)}, ['w'])
        >>> state = init_state({'w': jnp.ones(2), 'b': jnp.ones(1)}, optax.sgd(0.1), labels)
        >>> state.trainable['b'] is None, state.frozen['w'] is None
        (True, True)
    """
    copied = jax.tree.map(lambda a: jnp.array(a, copy=True), params)
    trainable, frozen = freeze.partition(copied, labels)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        frozen=frozen,
        stats=jax.tree.map(lambda a: jnp.array(a, copy=True), stats or {}),
        opt_state=tx.init(trainable),
        ema=jax.tree.map(lambda a: jnp.array(a, copy=True), trainable) if ema else None,
        rng=jax.random.key_data(jax.random.key(seed)),
    )
