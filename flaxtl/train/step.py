"""One training step: gradients of the trainable leaves, their update, the moving average, the metrics.

However an engine divides the batch (`division`), the loss is the weighted mean over the whole of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flaxtl import freeze
from flaxtl.train import division
from flaxtl.train.division import Division
from flaxtl.train.losses import LossFn
from flaxtl.train.mixing import Change
from flaxtl.train.state import TrainState

Array = jax.Array
Step = Callable[[TrainState, Mapping[str, Any]], tuple[TrainState, dict[str, Array]]]


def weighted_sum(values_B: Array, weight_B: Array) -> Array:
    """Returns Σ wᵢ vᵢ; rows of padding have weight 0 and do not count.

    Example:
        >>> float(weighted_sum(jnp.array([1.0, 3.0, jnp.inf]), jnp.array([1.0, 1.0, 0.0])))
        4.0
    """
    # A padded row may hold anything, infinity too, which a zero weight alone would not silence.
    return jnp.sum(jnp.where(weight_B > 0, values_B, 0.0) * weight_B)


def make_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    change: Change | None = None,
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
        change: (batch, rng) → batch, what is done to the whole of it before it is worked off (`mixing.mixer`).
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
        over = division.current()
        batch = batch if change is None else change(batch, rng)
        weight = jnp.maximum(over.total(jnp.sum(batch["weight"])), 1e-12)

        def objective(trainable: Any, stats: Any, part: Mapping[str, Any]) -> tuple[Array, tuple[Any, Any]]:
            params = over.whole(freeze.merge(trainable, state.frozen))
            losses, stats, metrics = loss_fn(params, stats, part, rng)
            means = {name: weighted_sum(values, part["weight"]) / weight for name, values in metrics.items()}
            return weighted_sum(losses, part["weight"]) / weight, (stats, means)

        gradient = jax.value_and_grad(objective, has_aux=True)
        if over.parts > 1:
            gradient = _accumulated(gradient, over)
        (loss, (stats, means)), grads = gradient(state.trainable, state.stats, batch)
        loss, means, grads = over.total((loss, means, grads))
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


def _accumulated(gradient: Callable[..., Any], over: Division) -> Callable[..., Any]:
    """Returns a gradient function that works off its batch in parts and adds up what they give."""

    def whole(trainable: Any, stats: Any, batch: Any) -> Any:
        parts = over.cut(batch)

        def one(carry: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], None]:
            stats, sums = carry
            (loss, (after, means)), grads = gradient(trainable, stats, part)
            # A part that is all padding has no statistics.
            real = over.total(jnp.sum(part["weight"])) > 0
            stats = jax.tree.map(lambda new, old: jnp.where(real, new, old), after, stats)
            return (stats, jax.tree.map(jnp.add, sums, (loss, means, grads))), None

        like = jax.eval_shape(gradient, trainable, stats, jax.tree.map(lambda a: a[0], parts))
        (loss, (_, means)), grads = like
        zeros = jax.tree.map(_zeros, (loss, means, grads))
        (stats, sums), _ = jax.lax.scan(one, (stats, zeros), parts)
        loss, means, grads = jax.tree.map(lambda a, like: a.astype(like.dtype), sums, (loss, means, grads))
        return (loss, (stats, means)), grads

    return whole


def _zeros(like: jax.ShapeDtypeStruct) -> Array:
    """Where many small numbers are added up, bfloat16 would lose them."""
    return jnp.zeros(like.shape, jnp.promote_types(like.dtype, jnp.float32))


def _average(ema: Any, params: Any, step: Array, decay: float | None) -> Any:
    if ema is None or decay is None:
        return ema
    t = step.astype(jnp.float32)
    now = jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    return jax.tree.map(lambda a, p: now * a + (1.0 - now) * p, ema, params)
