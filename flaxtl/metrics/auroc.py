"""The area under the ROC curve of each class against the rest, and the interval of their mean."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, logit

from flaxtl.metrics.figures import Figure, mean_of_shares
from flaxtl.metrics.student import freedom, quantile


def auroc(probabilities: np.ndarray, targets: np.ndarray, w: np.ndarray, level: float) -> tuple[Figure, np.ndarray]:
    """Returns the mean area of the classes that have examples of both kinds, and each class's own.

    The variance is DeLong's (1988), from how far each example moves the mean; the interval is symmetric on the scale
    of the logarithm of odds (Pepe 2003), which keeps it within 0 and 1, and reaches as far as Student's quantile says:
    a rare class, or a few misplaced examples among many right ones, tell little of the variance. Where every area is
    1 or every area 0 it is that of such a share, each class with as many trials as the smaller of its two kinds has
    examples.

    Args:
        probabilities: float [n, c].
        targets: int [n].
        w: float [n], not negative.
        level: of the interval, between 0 and 1.

    Returns:
        The mean, and the areas float [c], NaN where a class has none or all of the examples.
    """
    areas = np.full(probabilities.shape[1], math.nan)
    moved, smaller = np.zeros(len(targets)), []
    for k, scores in enumerate(probabilities.T):
        positive = targets == k
        if w[positive].sum() > 0 and w[~positive].sum() > 0:
            areas[k], part, least = _area(scores, positive, w)
            moved += part
            smaller.append(least)
    if not smaller:
        return Figure(math.nan, math.nan, math.nan), areas
    value = float(np.nanmean(areas))
    error = float(np.sqrt(np.square(moved).sum())) / len(smaller)
    if value > 1.0 - 1e-12:
        return Figure(value, mean_of_shares(smaller, smaller, level).low, 1.0), areas
    if value < 1e-12:
        return Figure(value, 0.0, 1.0 - mean_of_shares(smaller, smaller, level).low), areas
    if not error > 1e-12:
        return Figure(value, math.nan, math.nan), areas
    student = quantile(0.5 + level / 2.0, freedom(moved, np.eye(len(areas))[targets], w, heavy_tails=True))
    reach = student * error / (value * (1.0 - value))
    return Figure(value, float(expit(logit(value) - reach)), float(expit(logit(value) + reach))), areas


def _area(scores: np.ndarray, positive: np.ndarray, w: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Returns the area, how far each example moves it [n], and the effective number of the smaller kind."""
    _, place = np.unique(scores, return_inverse=True)
    yes, no = np.bincount(place, w * positive), np.bincount(place, w * ~positive)
    above = (np.cumsum(no) - 0.5 * no) / no.sum()  # the share of negatives below a score, ties counted half
    below = 1.0 - (np.cumsum(yes) - 0.5 * yes) / yes.sum()
    area = float(yes @ above / yes.sum())
    beats = np.where(positive, above[place], below[place])
    moved, sizes = np.zeros(len(w)), []
    for kind, total in ((positive, yes.sum()), (~positive, no.sum())):
        size = total**2 / np.square(w[kind]).sum()
        unbiased = math.sqrt(size / (size - 1.0)) if size > 1.5 else 1.0
        moved[kind] = w[kind] * (beats[kind] - area) / total * unbiased
        sizes.append(float(size))
    return area, moved, min(sizes)
