"""Prediction sets that hold the truth as often as promised, from held-out probabilities (split conformal)."""

from __future__ import annotations

import math

import numpy as np

from flaxtl.card import Conformal
from flaxtl.errors import ConfigError
from flaxtl.metrics.checks import checked_probabilities


def fit_conformal(
    probabilities: np.ndarray, targets: np.ndarray, *, alpha: float = 0.1, method: str = "lac"
) -> tuple[Conformal | None, str]:
    """Finds how deep prediction sets must reach to hold the truth in a share 1 - alpha of cases.

    Split conformal prediction (Vovk, Gammerman and Shafer 2005): with s of n held-out examples, the set of all
    classes whose score is at most the ⌈(n + 1)(1 - alpha)⌉-th smallest s holds the truth of a new example from the
    same source with at least that probability, whatever the model. The promise is averaged over examples
    and classes. It is exact for a model that saw none of the n; out-of-fold probabilities of cross-validation, whose
    folds' models have a little less data than the final one, keep it in practice (cross-conformal, Vovk 2015).

    Args:
        probabilities: float [n, c], of examples the model was not trained on; rows with NaN are left out.
        targets: int [n].
        alpha: the share of sets that may miss the truth, between 0 and 1.
        method: "lac", one minus the class's probability, gives the smallest sets on average (Sadinle, Lei and
            Wasserman 2019); "aps", the probability of it and of all likelier classes, gives larger sets to harder
            examples (Romano, Sesia and Candès 2020).

    Returns:
        What the card keeps, or None where n < 1 / alpha - 1; and a sentence that says what is promised, or the
        smallest alpha that n allows.

    Raises:
        ConfigError: an impossible alpha or method.
        DataError: shapes that do not fit, numbers outside 0 to 1, or targets that are no class numbers.

    Example:
        >>> p = np.tile([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], (10, 1))
        >>> found, sentence = fit_conformal(p, np.tile([0, 1, 1], 10), alpha=0.2)
        >>> found.quantile, prediction_sets(p[:3], found).tolist()
        (0.6, [[True, False], [False, True], [True, True]])
        >>> print(fit_conformal(p[:3], np.array([0, 1, 1]))[1])
        Prediction sets that hold the truth in 90% of cases need 9 held-out examples; there are 3, which allow at \
most 75% (alpha 0.250).
    """
    if not 0 < alpha < 1 or method not in ("lac", "aps"):
        raise ConfigError(f"Found alpha {alpha} and method {method!r}; expected one between 0 and 1, and lac or aps.")
    p, y = checked_probabilities(probabilities, targets, unknown=True)
    known = ~np.isnan(p).any(1)
    p, y = p[known], y[known]
    n = len(p)
    place = math.ceil(round((n + 1) * (1.0 - alpha), 9))
    if place > n:
        least = math.ceil(round(1.0 / alpha - 1.0, 9))
        allowed = f"there are {n}, which allow at most {1.0 - 1.0 / (n + 1):.0%} (alpha {1.0 / (n + 1):.3f})"
        return None, (
            f"Prediction sets that hold the truth in {1.0 - alpha:.0%} of cases need {least} held-out examples; "
            f"{allowed if n else 'there are none'}."
        )
    scores = np.sort(_scores(p, method)[np.arange(n), y])
    # Rounded up, so that the example that set the quantile is in its own set whatever the arithmetic.
    quantile = math.ceil(float(scores[place - 1]) * 1e9 - 0.5) / 1e9
    found = Conformal(alpha=alpha, quantile=quantile, method="aps" if method == "aps" else "lac", examples=n)
    return found, f"Prediction sets hold the truth in at least {1.0 - alpha:.0%} of cases ({n} held-out examples)."


def prediction_sets(probabilities: np.ndarray, conformal: Conformal) -> np.ndarray:
    """Returns the classes that each set holds; the likeliest is always among them.

    Args:
        probabilities: float [n, c].
        conformal: as `fit_conformal` found it.

    Returns:
        bool [n, c].

    Raises:
        DataError: NaN, or numbers outside 0 to 1.
    """
    p, _ = checked_probabilities(probabilities)
    held = _scores(p, conformal.method) <= conformal.quantile + 1e-9
    held[np.arange(len(p)), p.argmax(1)] = True
    return held


def _scores(p: np.ndarray, method: str) -> np.ndarray:
    """Returns how strange each class would be [n, c], from 0 to 1."""
    if method == "lac":
        return 1.0 - p
    order = np.argsort(-p, axis=1, kind="stable")
    reached = np.cumsum(np.take_along_axis(p, order, 1), axis=1)
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, reached, 1)
    return scores
