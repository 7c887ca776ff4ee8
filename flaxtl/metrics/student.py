"""Student's quantile for figures whose own variance is estimated, from few examples of a kind or from heavy tails."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit


def freedom(moved: np.ndarray, kinds: np.ndarray, w: np.ndarray, *, heavy_tails: bool = False) -> float:
    """Returns how many degrees of freedom Σ movedᵢ² has as an estimate of a figure's variance, at least 1.

    That is twice its square over its own variance (Satterthwaite 1946). As of normal distributions the sum vₖ of the
    nₖ examples of a kind has the variance 2vₖ²/(nₖ - 1): a rare kind that decides the figure leaves few.

    Args:
        moved: float [n], how far each example moves the figure, to first order.
        kinds: int [n], such as the classes; each kind has a variance of its own.
        w: float [n], the weights of the examples, not negative; examples without weight are not counted.
        heavy_tails: also by the fourth powers themselves, where a few examples move the figure and most do not.

    Example:
        >>> round(freedom(np.ones(10), np.zeros(10, int), np.ones(10)), 6)
        9.0
    """
    moved, kinds, w = (part[w > 0] for part in (moved, kinds, w))
    squares = np.bincount(kinds, np.square(moved))
    spread = np.bincount(kinds, np.square(w))
    sizes = np.square(np.bincount(kinds, w)) / np.where(spread > 0, spread, 1.0)
    total = squares.sum() ** 2
    own = 2.0 * (np.square(squares) / np.maximum(sizes - 1.0, 1.0)).sum()
    if heavy_tails:
        there = sizes > 0
        own = max(own, (moved**4).sum() - (np.square(squares[there]) / sizes[there]).sum())
    return max(1.0, float(2.0 * total / own)) if own > 0 else float(len(moved))


def quantile(share: float, degrees: float) -> float:
    """Returns the value below which a share of Student's (1908) distribution lies."""
    return float(stdtrit(degrees, share))
