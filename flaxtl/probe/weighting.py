"""Unequal classes: what each counts in the fit, for which class shares probabilities hold, and the step between.

A head that is fitted with a penalty pulls the logits of rare classes towards their share, so that with ten examples
of one class and two of another it may never answer the second. Weights of one over the root of a class's size, half
way between counting examples and counting classes, learn rare classes better; what they add to the bias is
known (Saerens, Latinne and Decaestecker 2002; Menon et al. 2021 for losses) and is taken back afterwards, as far as
held-out examples say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from flaxtl.errors import ConfigError, did_you_mean, listed

ClassWeight = Literal["auto"] | Mapping[int, float] | None

# Classes whose sizes differ by a larger factor are unequal: "auto" then counts each class the same.
UNEQUAL = 1.5
# Half of the way from counting examples (0) to counting classes (1).
_FITTED = 0.5
_EQUAL = 1e-9  # of an offset: rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Balance:
    """What classes count.

    Attributes:
        fitted: float64 [classes], the factor of an example's weight when the head is fitted.
        judged: float64 [classes], the factor when held-out examples are judged.
        shares: float64 [classes], for which class shares probabilities hold; they sum to 1.
        offset: float64 [classes], what brings logits from the fitted shares to these; its mean is 0.
    """

    fitted: np.ndarray
    judged: np.ndarray
    shares: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, targets: np.ndarray, classes: int, class_weight: ClassWeight, sample_weight: np.ndarray) -> Balance:
        """Returns the balance of a logistic head.

        Args:
            targets: int [n].
            classes: number of classes.
            class_weight: see `judged_factors`.
            sample_weight: float [n], not negative.

        Example:
            >>> balance = Balance.of(np.array([0, 0, 0, 0, 1]), 2, None, np.ones(5))
            >>> balance.fitted.round(2).tolist(), balance.shares.round(2).tolist(), balance.offset.round(2).tolist()
            ([0.83, 1.67], [0.8, 0.2], [0.35, -0.35])
        """
        mass = class_mass(targets, classes, sample_weight)
        judged = judged_factors(mass, class_weight)
        counted = mass * judged > 0
        fitted = np.where(counted, np.where(counted, mass, 1.0) ** -_FITTED, 0.0)
        fitted *= mass.sum() / max(float(fitted @ mass), 1e-30)
        shares, offset = _normalised(mass * judged), np.zeros(classes)
        offset[counted] = np.log(shares[counted] / _normalised(mass * fitted)[counted])
        offset[counted] -= offset[counted].mean() if counted.any() else 0.0
        offset[np.abs(offset) < _EQUAL] = 0.0
        return cls(fitted, judged, shares, offset)

    @classmethod
    def plain(cls, targets: np.ndarray, classes: int, class_weight: ClassWeight, sample_weight: np.ndarray) -> Balance:
        """Returns the balance of a head that is fitted as it is judged, such as one of class means."""
        mass = class_mass(targets, classes, sample_weight)
        judged = judged_factors(mass, class_weight)
        return cls(judged, judged, _normalised(mass * judged), np.zeros(classes))


def class_mass(targets: np.ndarray, classes: int, sample_weight: np.ndarray) -> np.ndarray:
    """Returns the summed weight of each class's examples, float64 [classes].

    Example:
        >>> class_mass(np.array([0, 0, 2]), 3, np.ones(3)).tolist()
        [2.0, 0.0, 1.0]
    """
    return np.bincount(np.asarray(targets), sample_weight, minlength=classes).astype(np.float64)


def unequal(mass: np.ndarray) -> bool:
    """Says whether the classes that have examples differ in size by more than the factor `UNEQUAL`.

    Example:
        >>> unequal(np.array([10.0, 3.0])), unequal(np.array([10.0, 8.0, 0.0]))
        (True, False)
    """
    there = mass[mass > 0]
    return bool(len(there) and there.max() > UNEQUAL * there.min())


def judged_factors(mass: np.ndarray, class_weight: ClassWeight) -> np.ndarray:
    """Returns the factor float64 [classes] that each example of a class counts; the total weight is kept by "auto".

    Args:
        mass: float [classes], summed weights.
        class_weight: None counts examples as they are; "auto" counts each class the same where classes are unequal
            by more than the factor `UNEQUAL`; a mapping gives factors by class number, 1 for the others.

    Raises:
        ConfigError: a class that is not there, or a negative weight.

    Example:
        >>> judged_factors(np.array([3.0, 1.0]), 'auto').round(3).tolist()
        [0.667, 2.0]
    """
    there = mass > 0
    if class_weight is None or (class_weight == "auto" and not unequal(mass)):
        return np.ones(len(mass))
    if isinstance(class_weight, Mapping):
        unknown = [k for k in class_weight if k not in range(len(mass))]
        if unknown or any(not 0 <= v < np.inf for v in class_weight.values()):
            raise ConfigError(
                f"The class weights are {dict(class_weight)}; expected class numbers from 0 to {len(mass) - 1} "
                "with weights that are not negative."
            )
        return np.array([float(class_weight.get(k, 1.0)) for k in range(len(mass))])
    return np.where(there, mass.sum() / (there.sum() * np.where(there, mass, 1.0)), 0.0)


def class_weights(
    targets: np.ndarray, classes: int, class_weight: ClassWeight, sample_weight: np.ndarray
) -> np.ndarray:
    """Returns the factor float64 [n] that each example gets from its class; see `judged_factors`.

    Example:
        >>> class_weights(np.array([0, 0, 0, 1]), 2, 'auto', np.ones(4)).round(3).tolist()
        [0.667, 0.667, 0.667, 2.0]
    """
    return judged_factors(class_mass(targets, classes, sample_weight), class_weight)[np.asarray(targets)]


def numbered(class_weight: Literal["none", "auto"] | Mapping[str, float], labels: Sequence[str]) -> ClassWeight:
    """Returns class weights by class number, of a setting that has them by class name.

    Args:
        class_weight: "none", "auto", or factors by class name.
        labels: the class names in order.

    Raises:
        ConfigError: a name that is no class.

    Example:
        >>> numbered({'rose': 2.0}, ['daisy', 'rose']), numbered('none', ['a']), numbered('auto', ['a'])
        ({1: 2.0}, None, 'auto')
    """
    if not isinstance(class_weight, Mapping):
        return None if class_weight == "none" else "auto"
    return {place_of(name, labels, "class_weight"): float(weight) for name, weight in class_weight.items()}


def place_of(name: str, labels: Sequence[str], setting: str) -> int:
    """Returns a class's number.

    Raises:
        ConfigError: there is no such class.
    """
    if name not in labels:
        near = did_you_mean(name, labels) or f" The classes are {listed(labels)}."
        raise ConfigError(f"The setting {setting!r} names the class {name!r}, which is not there.{near}")
    return list(labels).index(name)


def _normalised(values: np.ndarray) -> np.ndarray:
    return values / max(float(values.sum()), 1e-30)
