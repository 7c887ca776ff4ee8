"""Option 1 on a model: its features once, the head solved on them and put in place."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from flaxtl import paths, surgery
from flaxtl.data import Source
from flaxtl.errors import ConfigError, DataError, listed
from flaxtl.model import Model
from flaxtl.probe.results import SolvedHead
from flaxtl.probe.search import solve_head


def solve_and_attach(
    model: Model, source: Source, *, smoothing: float = 0.0, seed: int = 0
) -> tuple[Model, dict[str, Any]]:
    """Computes features once, solves the head, and returns the model with it and what was found.

    Args:
        model: with a head of the right number of outputs; its values do not matter.
        source: labelled training data.
        smoothing: label smoothing.
        seed: of the cross-validation's folds.

    Raises:
        DataError: fewer than two classes, or features that are not finite.
    """
    targets, task = np.asarray(source.targets), model.card.head.task
    if task == "classification" and len(np.unique(targets)) < 2:
        raise DataError(
            f"The training data holds {len(np.unique(targets))} class; at least two are needed to tell apart."
        )
    features = model.features(source)
    if features.ndim != 2:
        raise ConfigError(f"The head's input has shape {features.shape[1:]} an example; expected one vector.")
    if not np.isfinite(features).all():
        bad = [source.keys[i] for i in np.flatnonzero(~np.isfinite(features).all(1))]
        raise DataError(
            f"The features of {listed(bad)} are not finite numbers. The parameters hold NaN or the input is extreme."
        )
    head = solve_head(
        features,
        targets,
        len(model.card.labels),
        task=task,
        sample_weight=np.asarray(source.weights, np.float32),
        label_smoothing=smoothing,
        seed=seed,
        groups=source.groups,
    )
    return attach(model, head), found_by(head, features)


def attach(model: Model, head: SolvedHead) -> Model:
    """Returns the model with a solved head in place of its own.

    Args:
        model: its head is a dense layer with a bias, of the solved head's shape.
        head: what was solved on the model's features.

    Raises:
        ConfigError: the model's head is another layer.
    """
    path = model.card.head.path
    old = paths.subtree(model.params, path)
    kernel, bias = np.asarray(head.kernel, np.float32), np.asarray(head.bias, np.float32)
    unit = head.normalise == "unit"
    if unit:  # the pipeline divides by the root mean square, which is the length over the square root of d
        kernel = kernel / math.sqrt(kernel.shape[0])
    if set(old) != {"kernel", "bias"}:
        raise ConfigError(f"The head {path!r} holds {listed(old)}; expected a dense layer's kernel and bias.")
    params = surgery.graft(model.params, path, {"kernel": kernel, "bias": bias})
    card = model.card.with_head(normalise="rms" if unit else "none", temperature=float(head.temperature))
    note = f"head {path!r} solved on {kernel.shape[0]} frozen features"
    return dataclasses.replace(
        model, variables={**model.variables, paths.PARAMS: params}, card=card, notes=(*model.notes, note)
    )


def found_by(head: SolvedHead, features: np.ndarray) -> dict[str, Any]:
    """Returns what solving found out, as plain data."""
    return {
        "features": int(features.shape[1]),
        "scaling": head.scaling,
        "strength": float(head.strength),
        "temperature": float(head.temperature),
        "converged": head.converged,
        **head.cv.to_dict(),
    }
