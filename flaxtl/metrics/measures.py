"""The measures themselves, each for many sets of example weights at once, as the bootstrap needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Measure = Callable[["Values", np.ndarray], np.ndarray]


class Values(NamedTuple):
    """What each example contributes.

    Attributes:
        target: float [n, c], one-hot.
        predicted: float [n, c], one-hot.
        hit: float [n, c], their product.
        right: float [n].
        loss: float [n].
        brier: float [n].
        excess: float [n, bins], confidence - right, in the column of the example's bin.
        probabilities: float [n, c].
    """

    target: np.ndarray
    predicted: np.ndarray
    hit: np.ndarray
    right: np.ndarray
    loss: np.ndarray
    brier: np.ndarray
    excess: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, logs: np.ndarray, targets: np.ndarray, w: np.ndarray, bins: int) -> Values:
        """Builds them from log-probabilities [n, c], targets [n] and weights [n]."""
        p, c = np.exp(logs), logs.shape[1]
        predicted = logs.argmax(1)
        right = (predicted == targets).astype(np.float64)
        target, said = np.eye(c)[targets], np.eye(c)[predicted]
        confidence = p.max(1)
        excess = np.eye(bins)[_equal_mass(confidence, w, bins)] * (confidence - right)[:, None]
        loss = -logs[np.arange(len(w)), targets]
        return cls(target, said, target * said, right, loss, np.square(p - target).sum(1), excess, p)


def _equal_mass(confidence: np.ndarray, w: np.ndarray, bins: int) -> np.ndarray:
    """Returns each example's bin; equal confidences share one, so that the order of examples cannot matter."""
    # Rounded: what is equal on paper differs in the last digits between logits and probabilities.
    _, group = np.unique(confidence.round(9), return_inverse=True)
    mass = np.bincount(group, w)
    middle = np.cumsum(mass) - mass / 2
    return np.minimum(middle / w.sum() * bins, bins - 1).astype(np.int64)[group]


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divides; NaN where there is nothing to divide by."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def mean(rows: np.ndarray) -> np.ndarray:
    """Means of rows [b, c] over what is not NaN."""
    there = ~np.isnan(rows)
    return ratio(np.where(there, rows, 0.0).sum(1), there.sum(1))


def macro_f1(v: Values, w: np.ndarray) -> np.ndarray:
    """Mean F1 [b] of the classes that have examples or are predicted, for weights [b, n]."""
    return mean(ratio(2.0 * (w @ v.hit), w @ (v.target + v.predicted)))


MEASURES: dict[str, Measure] = {
    "macro_f1": macro_f1,
    "log_loss": lambda v, w: ratio(w @ v.loss, w.sum(1)),
    "brier": lambda v, w: ratio(w @ v.brier, w.sum(1)),
}


def excesses(v: Values, w: np.ndarray) -> np.ndarray:
    """Each bin's share [b, bins] of confidence beyond what is right, for weights [b, n]; 0 if calibrated."""
    return ratio(w @ v.excess, w.sum(1, keepdims=True))


def aurocs(v: Values, w: np.ndarray) -> np.ndarray:
    """Returns the area [c, b] of each class against the rest, ties counted half, for weights [b, n]."""
    areas = []
    for k in range(v.target.shape[1]):
        scores = v.probabilities[:, k]
        order = np.argsort(scores, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
        yes = np.add.reduceat((w * v.target[:, k])[:, order], starts, axis=1)
        no = np.add.reduceat((w * (1.0 - v.target[:, k]))[:, order], starts, axis=1)
        below = np.cumsum(no, axis=1) - 0.5 * no
        areas.append(ratio((yes * below).sum(1), yes.sum(1) * no.sum(1)))
    return np.stack(areas)


def confusion(v: Values, w: np.ndarray) -> np.ndarray:
    """Returns the weight [c, c] of examples by (target, prediction)."""
    return (v.target * w[:, None]).T @ v.predicted
