"""The measures themselves, each for many sets of example weights at once, as the bootstrap needs them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Values(NamedTuple):
    """What each example contributes.

    Attributes:
        target: float [n, c], one-hot.
        predicted: float [n, c], one-hot.
        hit: float [n, c], their product.
        right: float [n].
        loss: float [n].
        brier: float [n].
        probabilities: float [n, c].
    """

    target: np.ndarray
    predicted: np.ndarray
    hit: np.ndarray
    right: np.ndarray
    loss: np.ndarray
    brier: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, logs: np.ndarray, targets: np.ndarray) -> Values:
        """Builds them from log-probabilities [n, c] and targets [n]."""
        p, c = np.exp(logs), logs.shape[1]
        predicted = logs.argmax(1)
        right = (predicted == targets).astype(np.float64)
        target, said = np.eye(c)[targets], np.eye(c)[predicted]
        loss = -logs[np.arange(len(logs)), targets]
        return cls(target, said, target * said, right, loss, np.square(p - target).sum(1), p)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divides; NaN where there is nothing to divide by."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def mean(rows: np.ndarray) -> np.ndarray:
    """Means of rows [b, c] over what is not NaN."""
    there = ~np.isnan(rows)
    return ratio(np.where(there, rows, 0.0).sum(1), there.sum(1))


def effective(target: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The effective number of examples (Kish 1965) of each class [c], for one-hot targets [n, c] and weights [n]."""
    return np.nan_to_num(ratio(np.square(w @ target), np.square(w) @ target))


def macro_f1(v: Values, w: np.ndarray) -> np.ndarray:
    """Mean F1 [b] of the classes that have examples or are predicted, for weights [b, n]."""
    return mean(ratio(2.0 * (w @ v.hit), w @ (v.target + v.predicted)))


def macro_f1_influence(v: Values, w: np.ndarray) -> np.ndarray:
    """How much each example moves the macro-F1 [n], to first order, for weights [n]."""
    there = w @ (v.target + v.predicted)
    f1 = ratio(2.0 * (w @ v.hit), there)
    counted = ~np.isnan(f1)
    moved = (2.0 * v.hit - f1 * (v.target + v.predicted))[:, counted] / there[counted]
    return np.asarray(w * moved.mean(1))


def confusion(v: Values, w: np.ndarray) -> np.ndarray:
    """Returns the weight [c, c] of examples by (target, prediction)."""
    return (v.target * w[:, None]).T @ v.predicted
