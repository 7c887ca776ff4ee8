"""One training step: gradients of the trainable leaves, their update, the moving average, the metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flaxtl import freeze
from flaxtl.train.losses import LossFn
from flaxtl.train.state import TrainState

Array = jax.Array
Step = Callable[[TrainState, Mapping[str, Any]], tuple[TrainState, dict[str, Array]]]


def weighted_mean(values_B: Array, weight_B: Array) -> Array:
    """Returns Σ wᵢ vᵢ / Σ wᵢ; rows of padding have weight 0 and do not count.

    Example:
        >>> float(weighted_mean(jnp.array([1.0, 3.0, 99.0]), jnp.array([1.0, 1.0, 0.0])))
        2.0
    """
    # A padded row may hold anything, infinity too, which a zero weight alone would not silence.
    kept = jnp.where(weight_B > 0, values_B, 0.0)
    return jnp.sum(kept * weight_B) / jnp.maximum(jnp.sum(weight_B), 1e-12)


def make_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    ema_decay: float | None = None,
    jit: bool = True,
    donate: bool = True,
) -> Step:
    """Returns the function that takes one training step.

    Gradients are taken of `state.trainable` alone: frozen leaves are plain inputs, for which no backward
    pass, no optimizer state and no share in a gradient norm exists.

    Args:
        loss_fn: (params, stats, batch, rng) → (losses [batch], new stats, metrics {name: [batch]}).
        tx: the optimizer of the trainable partition.
        ema_decay: decay of the moving average per step; early on min(decay, (1 + t) / (10 + t)) is used,
            so that the start is forgotten (TensorFlow's ExponentialMovingAverage does likewise).
        jit: whether to compile; False for use inside a larger compiled function.
        donate: whether the old state's memory is reused.

    Returns:
        step(state, batch) → (new state, metrics): 'loss', 'grad_norm' and those of loss_fn, float32
        scalars. The batch needs 'weight' [batch]; the weighted mean over the global batch is taken here
        and nowhere else.

    Example:
        >>> from flaxtl.train.state import init_state
        >>> def loss_fn(params, stats, batch, rng):
        ...     return jnp.square(batch['x'] * params['w'] - 2.0), stats, {}
        >>> tx = optax.sgd(0.25)
        >>> state = init_state({'w': jnp.zeros(())}, tx, {'w': 'trainable'})
        >>> batch = {'x': jnp.ones(3), 'weight': jnp.ones(3)}
        >>> state, metrics = make_step(loss_fn, tx)(state, batch)
        >>> float(state.trainable['w']), float(metrics['loss'])
        (1.0, 4.0)
    """

    def step(state: TrainState, batch: Mapping[str, Any]) -> tuple[TrainState, dict[str, Array]]:
        rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)

        def objective(trainable: Any) -> tuple[Array, tuple[Any, dict[str, Array]]]:
            params = freeze.merge(trainable, state.frozen)
            losses, stats, metrics = loss_fn(params, state.stats, batch, rng)
            means = {name: weighted_mean(values, batch["weight"]) for name, values in metrics.items()}
            return weighted_mean(losses, batch["weight"]), (stats, means)

        (loss, (stats, means)), grads = jax.value_and_grad(objective, has_aux=True)(state.trainable)
        updates, opt_state = tx.update(grads, state.opt_state, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        new = dataclasses.replace(
            state,
            step=state.step + 1,
            trainable=trainable,
            stats=stats,
            opt_state=opt_state,
            ema=_average(state.ema, trainable, state.step, ema_decay),
        )
        return new, {"loss": loss, "grad_norm": optax.tree.norm(grads), **means}

    return jax.jit(step, donate_argnums=0 if donate else ()) if jit else step


def _average(ema: Any, params: Any, step: Array, decay: float | None) -> Any:
    if ema is None or decay is None:
        return ema
    t = step.astype(jnp.float32)
    now = jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    return jax.tree.map(lambda a, p: now * a + (1.0 - now) * p, ema, params)
