"""The two figures that are watched while training."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import log_softmax

# The name of the second of the figures that are watched while training, by task.
WATCHED = {"classification": "accuracy", "multilabel": "accuracy", "regression": "r2"}


def loss_and_accuracy(logits: np.ndarray, targets: np.ndarray, task: str = "classification") -> tuple[float, float]:
    """Returns the two figures that are watched while training.

    Args:
        logits: float [n, c].
        targets: int [n]; float [n, c] for "multilabel" and "regression".
        task: "classification": log-loss and accuracy; "multilabel": summed binary losses and the share of
            right labels; "regression": mean squared error and R², NaN where the targets are all equal.

    Example:
        >>> loss_and_accuracy(np.array([[0.0, 0.0]]), np.array([0]))[1]
        1.0
    """
    z, y = np.asarray(logits, np.float64), np.asarray(targets)
    if task == "classification":
        y = y.astype(np.int64)
        loss = -log_softmax(z, axis=1)[np.arange(len(z)), y]
        return float(loss.mean()), float((z.argmax(1) == y).mean())
    y = y.astype(np.float64).reshape(z.shape)
    if task == "multilabel":
        loss = (np.logaddexp(0.0, z) - y * z).sum(1)
        return float(loss.mean()), float(((z > 0) == (y > 0.5)).mean())
    error, spread = np.square(z - y).mean(), np.square(y - y.mean(0)).mean()
    return float(error), float(1.0 - error / spread) if spread > 0 else math.nan
