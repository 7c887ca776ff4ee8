"""Student's quantile for figures whose own variance is estimated, from few examples of a kind or from heavy tails."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from flaxtl.metrics.measures import effective


def freedom(moved: np.ndarray, target: np.ndarray, w: np.ndarray, *, heavy_tails: bool = False) -> float:
    """Returns how many degrees of freedom Σ movedᵢ² has as an estimate of a figure's variance, at least 1.

    That is twice its square over its own variance (Satterthwaite 1946). As of normal distributions the sum vₖ of the
    nₖ examples of a class has the variance 2vₖ²/(nₖ - 1): a rare class that decides the figure leaves few.

    Args:
        moved: float [n], how far each example moves the figure, to first order; not all 0, and 0 without weight.
        target: float [n, c], one-hot; each class has a variance of its own.
        w: float [n], the weights of the examples, not negative.
        heavy_tails: also by the fourth powers themselves, where a few examples move the figure and most do not.

    Example:
        >>> round(freedom(np.ones(10), np.ones((10, 1)), np.ones(10)), 6)
        9.0
    """
    squares, sizes = np.square(moved) @ target, effective(target, w)
    own = 2.0 * (np.square(squares) / np.maximum(sizes - 1.0, 1.0)).sum()
    if heavy_tails:
        own = max(own, (moved**4).sum() - (np.square(squares) / np.maximum(sizes, 1.0)).sum())
    return max(1.0, float(2.0 * squares.sum() ** 2 / own))


def quantile(share: float, degrees: float) -> float:
    """Returns the value below which a share of Student's (1908) distribution lies."""
    return float(stdtrit(degrees, share))
