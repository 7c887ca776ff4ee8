"""The most confident errors of a classifier: often wrong labels, sometimes its worst failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flaxtl.metrics.checks import checked_probabilities


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
    """Returns the k wrong predictions with the highest probability, the most confident first.

    Args:
        probabilities: float [n, c].
        targets: int [n].
        keys: n names of the examples.
        k: how many at most.

    Raises:
        DataError: probabilities that are none, or targets that are no class numbers.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7]])
        >>> most_confident_mistakes(p, np.array([1, 1]), ['a.png', 'b.png'])
        [Mistake(row=0, key='a.png', target=1, predicted=0, probability=0.9)]
    """
    p, y = checked_probabilities(probabilities, targets)
    if not len(p):
        return []
    predicted = p.argmax(1)
    wrong = np.flatnonzero(predicted != y)
    worst = wrong[np.argsort(-p[wrong, predicted[wrong]], kind="stable")][:k]
    return [Mistake(int(i), str(keys[i]), int(y[i]), int(predicted[i]), float(p[i, predicted[i]])) for i in worst]
