"""Class shares: how often each class is expected, and what brings probabilities from some shares to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from flaxtl.errors import ConfigError, did_you_mean, listed

Prior = Literal["equal"] | Mapping[str, float]

# A class that is not expected at all keeps this share, so that its logarithm is finite.
_LEAST = 1e-9


def shares_of(prior: Prior, labels: Sequence[str]) -> tuple[float, ...]:
    """Returns the expected share of each class; they sum to 1.

    Args:
        prior: "equal", or a number for each class by name; they count against each other.
        labels: the class names in order.

    Raises:
        ConfigError: a class that is missing or unknown, or numbers that are no shares.

    Example:
        >>> shares_of({'rose': 3, 'daisy': 1}, ('daisy', 'rose')), shares_of('equal', ('daisy', 'rose'))
        ((0.25, 0.75), (0.5, 0.5))
    """
    if prior == "equal":
        return (1.0 / len(labels),) * len(labels)
    if not isinstance(prior, Mapping):
        raise ConfigError(f"The setting `prior` is {prior!r}; expected 'equal' or a share for each class by name.")
    for name in prior:
        if name not in labels:
            near = did_you_mean(str(name), labels) or f" The classes are {listed(labels)}."
            raise ConfigError(f"The setting `prior` names the class {name!r}, which is not there.{near}")
    missing = [name for name in labels if name not in prior]
    values = np.array([prior.get(name, 0.0) for name in labels], np.float64)
    if missing or not (np.isfinite(values) & (values >= 0)).all() or not values.sum() > 0:
        found = f"lacks {listed(missing)}" if missing else f"is {dict(prior)}"
        raise ConfigError(
            f"The setting `prior` {found}; expected a number for each class that is not negative, not all 0."
        )
    return tuple(float(share) for share in values / values.sum())


def log_ratio(wanted: Sequence[float], held: Sequence[float]) -> np.ndarray:
    """Returns what is added to logits whose probabilities hold for some class shares, so that they hold for others.

    Bayes' rule where what a class looks like stays the same (Saerens, Latinne and Decaestecker 2002, eq. 2.4). A class
    that was never seen stays as it is.

    Args:
        wanted: float [classes], the shares to hold for.
        held: float [classes], those that the logits hold for.

    Returns:
        float64 [classes].

    Example:
        >>> log_ratio((0.5, 0.5), (0.8, 0.2)).round(2).tolist()
        [-0.47, 0.92]
    """
    new, old = np.asarray(wanted, np.float64), np.asarray(held, np.float64)
    seen = old > 0
    return np.where(seen, np.log(np.maximum(new, _LEAST)) - np.log(np.where(seen, old, 1.0)), 0.0)
