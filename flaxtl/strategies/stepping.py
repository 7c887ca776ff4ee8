"""The step of a training phase: its loss, its gradients, its update; the same for training and for estimates."""

from __future__ import annotations

from typing import Any

import optax

from flaxtl import freeze
from flaxtl.model import Model
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.phases import Phase
from flaxtl.train import make_step, mixing, model_loss
from flaxtl.train.contrast import contrast_loss
from flaxtl.train.step import Step


def step_of(phase: Phase, model: Model, labels: Any, tx: optax.GradientTransformation) -> Step:
    """Returns the pure step of a phase on a model, for an engine to compile.

    Args:
        phase: a "train" phase.
        model: with the adapters, if the phase has any.
        labels: of its parameters, as `Chain.labels` gives them.
        tx: the optimizer.
    """
    training, start = phase.training, segment_named(model.network, phase.start)
    live: frozenset[str] = frozenset()
    if training.statistics == "batch":
        live = freeze.live_statistics(labels, model.variables.get("batch_stats", {}))
    if phase.contrast is not None:
        loss = contrast_loss(model.pipeline, temperature=phase.contrast.contrast_temperature, live=live, start=start)
        return make_step(loss, tx, ema_decay=training.ema, jit=False)
    loss = model_loss(
        model.pipeline,
        task=model.card.head.task,
        live=live,
        smoothing=training.label_smoothing,
        start=start,
    )
    augment = phase.augment
    mixed = mixing.mixer(mixup=augment.mixup, cutmix=augment.cutmix, outputs=len(model.card.labels))
    return make_step(loss, tx, change=None if start else mixed, ema_decay=training.ema, jit=False)
