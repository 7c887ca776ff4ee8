"""Calibration: probabilities that mean what they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import expit, softmax

_COLDEST, _HOTTEST = 0.02, 50.0


def fit_temperature(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns what logits are to be divided by so that their probabilities are calibrated.

    Minimises the log-loss over the temperature (Guo et al. 2017). The n targets count as n / (n + 1) of
    themselves and 1 / (n + 1) of an even guess (after Platt 1999), so that a few right answers do not make
    it certain. n is the sum of the weights.

    Args:
        logits: float [n, c], of examples the head was not trained on.
        targets: int [n], or float [n, c] for a sigmoid a class.
        weights: float [n].

    Returns:
        A number from 0.02 to 50; 1 where the logits say nothing.

    Example:
        >>> z = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> fit_temperature(z, np.array([0, 0, 0, 1])) > 2
        True
    """
    z, y = np.asarray(logits, np.float64), np.asarray(targets)
    w = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    binary = y.ndim == 2
    turn: Callable[[np.ndarray], np.ndarray] = expit if binary else lambda v: softmax(v, axis=1)
    if not binary:  # what is common to all classes changes no probability
        z = z - z.mean(1, keepdims=True)
    if not np.abs(z[w > 0]).max(initial=0.0) > 0:
        return 1.0
    even = 0.5 if binary else 1.0 / z.shape[1]
    wanted = y if binary else np.eye(z.shape[1])[y.astype(np.int64)]
    wanted = (wanted * w.sum() + even) / (w.sum() + 1.0)
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(40):  # the loss is convex in 1 / temperature, so its slope changes sign once
        middle = 0.5 * (low + high)
        slope = (w[:, None] * (turn(z * math.exp(-middle)) - wanted) * z).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return math.exp(0.5 * (low + high))
