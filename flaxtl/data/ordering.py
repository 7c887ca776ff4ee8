"""Orders in which training goes through examples, of one epoch each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def balanced(targets: np.ndarray, size: int, rng: np.random.Generator, together: int) -> np.ndarray:
    """Returns an epoch of full batches in which every class comes as often as any other, some examples at a time.

    All classes take turns, in an order that is drawn anew each round; whose turn it is gives its next examples, and
    begins anew when it has given all. Of a class of few examples fewer come at a time, and none twice.

    Args:
        targets: int [n], the class of each example.
        size: of a batch.
        rng: of the epoch.
        together: how many examples of a class come at a time.

    Returns:
        int [batches · size], with as many batches as hold n examples.

    Example:
        >>> order = balanced(np.array([0, 0, 0, 0, 1, 1]), 4, np.random.default_rng(0), 2)
        >>> [sorted(np.array([0, 0, 0, 0, 1, 1])[batch].tolist()) for batch in order.reshape(2, 4)]
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    wanted = size * -(-len(targets) // size)
    members = [np.flatnonzero(targets == k) for k in np.unique(targets)]
    turns = [_turns(of, together, rng) for of in members]
    found: list[int] = []
    while len(found) < wanted:
        for k in rng.permutation(len(members)):
            found += next(turns[k])
    return np.array(found[:wanted])


def _turns(members: np.ndarray, together: int, rng: np.random.Generator) -> Iterator[list[int]]:
    while True:
        order = rng.permutation(members)
        # What does not fill a turn is left for another round, so that an example always comes with others of its class.
        for first in range(0, max(len(order) - together, 0) + 1, together):
            yield order[first : first + together].tolist()
