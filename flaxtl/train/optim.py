"""Optimizers and schedules from settings, with a learning rate for each group of leaves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flaxtl import freeze, paths
from flaxtl.errors import ConfigError
from flaxtl.training_settings import FRESH_RATE, Optimizer

_LABEL = re.compile(r"(head|backbone)(?:-depth-(\d+))?(?:-since-\d+)?")


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


def group_labels(
    params: Any,
    trainable: tuple[str, ...],
    head: str,
    *,
    depth: Callable[[str], int] | None = None,
    since: Callable[[paths.Leaf], int] | None = None,
) -> Any:
    """Labels a tree for `build`: "head" and "backbone" where trained, "frozen" elsewhere.

    Args:
        params: the tree.
        trainable: patterns of the trained leaves.
        head: the head's path.
        depth: of a leaf's path, how many layers lie between it and the end of the network; with it every depth is a
            group of its own, for `Optimizer.layer_decay`.
        since: of a leaf, the number of the training phase that it is trained since; with it the leaves that joined
            together are a group of their own, whose moments begin when they do.

    Example:
        >>> tree = {'head': {'w': 1.}, 'a': {'w': 1.}, 'b': {'w': 1.}}
        >>> group_labels(tree, ('head/**', 'a/**'), 'head')
        {'a': {'w': 'backbone'}, 'b': {'w': 'frozen'}, 'head': {'w': 'head'}}
        >>> group_labels(tree, ('**',), 'head', depth=lambda path: 2)['b']
        {'w': 'backbone-depth-2'}
    """
    chosen = freeze.labels(params, trainable)

    def group(leaf: paths.Leaf, label: str) -> str:
        if label == freeze.FROZEN:
            return label
        if paths.matches(f"{head}/**", leaf):
            name = "head"
        else:
            name = "backbone" if depth is None else f"backbone-depth-{depth(leaf.path)}"
        return name if since is None or since(leaf) == 0 else f"{name}-since-{since(leaf)}"

    return paths.map_with_leaf(group, chosen)


def build(optimizer: Optimizer, labels: Any, steps: int, done: int = 0) -> optax.GradientTransformation:
    """Returns the optimizer of a phase for trees labelled by `group_labels`.

    Args:
        optimizer: the settings.
        labels: a tree of `group_labels`.
        steps: that the schedule is for.
        done: how many of them earlier phases have taken.

    Raises:
        ConfigError: nothing is trainable.
    """
    shape = schedule(optimizer, steps)
    return with_schedule(optimizer, labels, lambda count: shape(count + done))


def with_schedule(optimizer: Optimizer, labels: Any, rate: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer for trees labelled by `group_labels`, with any schedule.

    The groups' factors come first and the schedule last, for all at once.

    Args:
        optimizer: the settings; those of the schedule do not count.
        labels: a tree of `group_labels`.
        rate: step → learning rate.

    Raises:
        ConfigError: nothing is trainable.
    """
    used = set(jax.tree.leaves(labels)) - {freeze.FROZEN}
    if not used:
        raise ConfigError("Every parameter is frozen, so there is nothing to train. Name what to train.")
    grouped = freeze.transform({label: _one(optimizer, label) for label in used}, labels)
    clip = [] if optimizer.clip_norm is None else [optax.clip_by_global_norm(optimizer.clip_norm)]
    return optax.chain(*clip, grouped, optax.scale_by_schedule(rate))


def _one(optimizer: Optimizer, label: str) -> optax.GradientTransformation:
    """Returns what is done to one group's gradients, for the learning rate 1."""
    found = _LABEL.fullmatch(label)
    assert found is not None, label
    is_head = found[1] == "head"
    factor = optimizer.layer_decay ** int(found[2] or 0)
    if is_head and optimizer.head_rate is not None:
        factor = optimizer.head_rate
    decay = optax.add_decayed_weights(optimizer.weight_decay, mask=decayed)
    if optimizer.l2_sp and not is_head:
        decay = pull_to_start(optimizer.l2_sp)
    if optimizer.optimizer == "adamw":
        return optax.chain(optax.scale_by_adam(), decay, optax.scale(-factor))
    return optax.chain(decay, optax.trace(optimizer.momentum, nesterov=True), optax.scale(-factor))


def decayed(params: Any) -> Any:
    """Returns which leaves weight decay applies to: those of two or more axes."""
    return jax.tree.map(lambda p: jnp.ndim(p) >= 2, params)


class PullState(NamedTuple):
    """The parameters that `pull_to_start` pulls to."""

    start: Any


def pull_to_start(strength: float) -> optax.GradientTransformation:
    """Adds strength · (w - w₀) to each update, where w₀ is what the parameters were at `init`.

    It is the gradient of strength/2 · ‖w - w₀‖² (Li et al. 2018, L2-SP, equation 2). The state holds w₀, so that a
    run that is resumed is pulled to the same point. As with AdamW's weight decay, after Adam it is not scaled by the
    moments.

    Args:
        strength: of the pull.

    Example:
        >>> tx = pull_to_start(0.5)
        >>> state = tx.init({'w': jnp.ones(())})
        >>> float(tx.update({'w': jnp.zeros(())}, state, {'w': jnp.array(3.0)})[0]['w'])
        1.0
    """

    def init(params: Any) -> PullState:
        # A copy: a step that gives its state's memory away must not give the parameters' twice.
        return PullState(jax.tree.map(lambda a: jnp.array(a, copy=True), params))

    def update(updates: Any, state: PullState, params: Any = None) -> tuple[Any, PullState]:
        return jax.tree.map(lambda u, p, s: u + strength * (p - s), updates, params, state.start), state

    return optax.GradientTransformation(init, update)
