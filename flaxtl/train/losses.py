"""Losses that return one number an example; only the engine averages them, over the global batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flaxtl.nets.mode import Mode
from flaxtl.pipeline import Pipeline
from flaxtl.train import division, mixing

Array = jax.Array
Batch = Mapping[str, Any]
LossFn = Callable[[Any, Any, Batch, Any], tuple[Array, Any, dict[str, Array]]]


def per_example_loss(task: str, logits: Array, target: Array, smoothing: float = 0.0) -> Array:
    """Returns the loss of each example.

    Args:
        task: "classification" (softmax cross-entropy), "multilabel" (mean of sigmoid cross-entropies),
            or "regression" (mean squared error).
        logits: float [batch, outputs].
        target: int [batch] for classification, or rows that sum to 1; else float [batch, outputs].
        smoothing: the share of the target spread evenly over the classes (Szegedy et al. 2016, section 7).

    Returns:
        float32 [batch].

    Example:
        >>> per_example_loss('classification', jnp.zeros((1, 2)), jnp.array([1])).round(3).tolist()
        [0.6930000185966492]
    """
    logits = logits.astype(jnp.float32)
    if task == "classification":
        hot = mixing.rows_of(target, logits.shape[-1])
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(hot, smoothing))
    if task == "multilabel":
        spread = target * (1.0 - smoothing) + 0.5 * smoothing
        return optax.sigmoid_binary_cross_entropy(logits, spread).mean(-1)
    return jnp.square(logits - target).mean(-1)


def model_loss(
    pipeline: Pipeline,
    *,
    task: str = "classification",
    live: frozenset[str] = frozenset(),
    dropout: bool = True,
    smoothing: float = 0.0,
    start: int = 0,
) -> LossFn:
    """Returns the loss function of a flaxtl model for the engine.

    Args:
        pipeline: what is computed.
        task: see `per_example_loss`.
        live: normalisation layers that use batch statistics (`freeze.live_statistics`).
        dropout: whether dropout drops.
        smoothing: label smoothing.
        start: the segment that the batch's inputs enter; above 0 when activations were cached.

    Returns:
        loss_fn(params, state, batch, rng) → (losses [batch], new state, {'accuracy': [batch]} for
        classification).
    """

    def loss_fn(params: Any, state: Any, batch: Batch, rng: Any) -> tuple[Array, Any, dict[str, Array]]:
        mode = Mode(
            rng=rng if dropout else None,
            example_index=batch["example_index"],
            weight=batch["weight"],
            live=live,
            axis_name=division.current().axis_name,
        )
        inputs, target = batch["inputs"], batch["target"]
        logits, state = pipeline({"params": params, **state}, inputs, start, None, mode)
        losses = per_example_loss(task, logits, target, smoothing)
        if task != "classification":
            return losses, state, {}
        wanted = target.argmax(-1) if target.ndim == 2 else target
        return losses, state, {"accuracy": (logits.argmax(-1) == wanted).astype(jnp.float32)}

    return loss_fn
