"""The wrong predictions that a classifier is surest of: often wrong labels, sometimes the worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Mistake(NamedTuple):
    """A wrong prediction: the row, its key, the two classes and the probability given to the wrong one."""

    row: int
    key: str
    target: int
    predicted: int
    probability: float


def most_confident_mistakes(
    probabilities: np.ndarray, targets: np.ndarray, keys: Sequence[str], k: int = 10
) -> list[Mistake]:
    """Returns the k wrong predictions with the highest probability, the surest first.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7]])
        >>> most_confident_mistakes(p, np.array([1, 1]), ['a.png', 'b.png'])
        [Mistake(row=0, key='a.png', target=1, predicted=0, probability=0.9)]
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(targets)
    said = p.argmax(1)
    wrong = np.flatnonzero(said != y)
    surest = wrong[np.argsort(-p[wrong, said[wrong]], kind="stable")][:k]
    return [Mistake(int(i), str(keys[i]), int(y[i]), int(said[i]), float(p[i, said[i]])) for i in surest]
