"""Optimizers and schedules from settings, with a learning rate for each group of leaves."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flaxtl import freeze, paths
from flaxtl.config import FRESH_RATE, Optimizer
from flaxtl.errors import ConfigError


def peak_rate(optimizer: Optimizer) -> float:
    """Returns the learning rate at the schedule's peak: the one set, or the optimizer's for training from scratch."""
    return FRESH_RATE[optimizer.optimizer] if optimizer.learning_rate is None else optimizer.learning_rate


def schedule(optimizer: Optimizer, steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    Args:
        optimizer: the settings.
        steps: of the whole phase.

    Example:
        >>> rate = schedule(Optimizer(learning_rate=1.0, warmup=0.5, schedule='linear'), 4)
        >>> [float(rate(i)) for i in range(5)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    peak = peak_rate(optimizer)
    rise = min(math.ceil(optimizer.warmup * steps), steps)
    rest = max(steps - rise, 1)
    down = {
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "constant": optax.constant_schedule(peak),
    }[optimizer.schedule]
    if rise == 0:
        return down
    # The first step of a warm-up of one step would otherwise have the rate zero and be lost.
    start = 0.0 if rise > 1 else peak
    return optax.join_schedules([optax.linear_schedule(start, peak, rise), down], [rise])


def group_labels(params: Any, trainable: tuple[str, ...], head: str) -> Any:
    """Labels a tree for `build`: "head" and "backbone" where trained, "frozen" elsewhere.

    Example:
        >>> group_labels({'head': {'w': 1.}, 'a': {'w': 1.}, 'b': {'w': 1.}}, ('head/**', 'a/**'), 'head')
        {'a': {'w': 'backbone'}, 'b': {'w': 'frozen'}, 'head': {'w': 'head'}}
    """
    chosen = freeze.labels(params, trainable)

    def group(leaf: paths.Leaf, label: str) -> str:
        if label == freeze.FROZEN:
            return label
        return "head" if paths.matches(f"{head}/**", leaf) else "backbone"

    return paths.map_with_leaf(group, chosen)


def build(optimizer: Optimizer, labels: Any, steps: int) -> optax.GradientTransformation:
    """Returns the optimizer of a phase for trees labelled by `group_labels`.

    Args:
        optimizer: the settings.
        labels: a tree of "head", "backbone" and "frozen".
        steps: of the whole phase.

    Raises:
        ConfigError: nothing is trainable.
    """
    used = set(jax.tree.leaves(labels)) - {freeze.FROZEN}
    if not used:
        raise ConfigError("Every parameter is frozen, so there is nothing to train. Name what to train.")
    scale = {"head": 1.0 if optimizer.head_rate is None else optimizer.head_rate, "backbone": 1.0}
    transforms = {group: _one(optimizer, scale[group], steps) for group in used}
    grouped = freeze.transform(transforms, labels)
    if optimizer.clip_norm is None:
        return grouped
    return optax.chain(optax.clip_by_global_norm(optimizer.clip_norm), grouped)


def _one(optimizer: Optimizer, factor: float, steps: int) -> optax.GradientTransformation:
    shape = schedule(optimizer, steps)
    rate = lambda count: factor * shape(count)  # noqa: E731
    if optimizer.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=optimizer.weight_decay, mask=decayed)
    return optax.chain(
        optax.add_decayed_weights(optimizer.weight_decay, mask=decayed),
        optax.sgd(rate, momentum=optimizer.momentum, nesterov=True),
    )


def decayed(params: Any) -> Any:
    """Returns which leaves weight decay applies to: those of two or more axes."""
    return jax.tree.map(lambda p: jnp.ndim(p) >= 2, params)
