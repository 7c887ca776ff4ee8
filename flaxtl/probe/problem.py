"""What a head is solved for, checked: features, targets, weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from flaxtl.errors import ConfigError, DataError, did_you_mean, listed
from flaxtl.probe.simple_heads import SCALINGS
from flaxtl.probe.solve import one_hot
from flaxtl.probe.weighting import Balance, ClassWeight

Task = Literal["classification", "multilabel", "regression"]
HeadKind = Literal["logistic", "mean", "ridge"]


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Labelled features and what is asked of a head.

    Attributes:
        features: float32 [n, d].
        targets: int64 [n], or float32 [n, outputs].
        outputs: number of outputs.
        task: what the head says.
        sample_weight: float64 [n]; calibration counts these.
        weight: float64 [n], what examples count when the head is fitted.
        judged: float64 [n], what they count when they are held out.
        balance: of the classes; None where there are none.
        smoothing: of the labels.
        groups: int64 [n], one number a group, or None.
        kind: how a classifier is solved.
    """

    features: np.ndarray
    targets: np.ndarray
    outputs: int
    task: Task
    sample_weight: np.ndarray
    weight: np.ndarray
    judged: np.ndarray
    balance: Balance | None
    smoothing: float
    groups: np.ndarray | None
    kind: HeadKind = "logistic"

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        targets: np.ndarray,
        outputs: int,
        *,
        task: Task,
        sample_weight: np.ndarray | None,
        class_weight: ClassWeight,
        smoothing: float,
        groups: Sequence[str] | None,
        kind: HeadKind = "logistic",
    ) -> Problem:
        """Checks and converts what `solve_head` is given.

        Raises:
            DataError: data that no head can be solved for.
            ConfigError: an impossible setting.
        """
        features = np.asarray(features, np.float32)
        _check_features(features, targets)
        wanted = _targets(np.asarray(targets), outputs, task)
        own = np.ones(len(features)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if own.shape != (len(features),) or not ((own >= 0) & np.isfinite(own)).all():
            raise DataError(f"Found weights {own.shape} for {len(features)} examples; expected one each, not negative.")
        balance = None
        weight = judged = own
        if task == "classification":
            make = Balance.of if kind == "logistic" else Balance.plain
            balance = make(wanted, outputs, class_weight, own)
            weight, judged = own * balance.fitted[wanted], own * balance.judged[wanted]
        if not judged.sum() > 0:
            raise DataError("All examples have the weight 0; expected some with a weight above 0.")
        numbered = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        if numbered is not None and numbered.shape != (len(features),):
            raise DataError(f"Found {len(numbered)} groups for {len(features)} examples; expected one each.")
        return cls(features, wanted, outputs, task, own, weight, judged, balance, smoothing, numbered, kind)


def check_settings(
    scalings: Sequence[str],
    strengths: Sequence[float] | None,
    task: str,
    class_weight: ClassWeight,
    smoothing: float,
    repeats: int,
    kind: str = "logistic",
) -> None:
    """Refuses impossible settings of `solve_head`.

    Raises:
        ConfigError: one of them is impossible.
    """
    if isinstance(scalings, str) or len(scalings) == 0 or len(set(scalings)) < len(scalings):
        raise ConfigError(f"The scalings are {scalings!r}; expected some of {listed(SCALINGS)}, each once.")
    for scaling in scalings:
        if scaling not in SCALINGS:
            raise ConfigError(f"There is no scaling {scaling!r}.{did_you_mean(scaling, SCALINGS)}")
    if strengths is not None and (len(strengths) == 0 or not all(0 < s < np.inf for s in strengths)):
        raise ConfigError(f"The strengths are {list(strengths)}; expected numbers above 0.")
    if task not in get_args(Task):
        raise ConfigError(f"The task is {task!r}; expected one of {listed(get_args(Task))}.")
    if kind not in get_args(HeadKind) or (kind != "logistic" and task != "classification"):
        raise ConfigError(
            f"The head is {kind!r} for {task}; expected one of {listed(get_args(HeadKind))}, "
            "and other than logistic only for classification."
        )
    known = class_weight is None or class_weight == "auto" or isinstance(class_weight, Mapping)
    if not known or (class_weight is not None and task != "classification"):
        raise ConfigError(
            f"The class weight is {class_weight!r} for {task}; expected 'auto' or weights by class number, "
            "and only for classification."
        )
    if not 0.0 <= smoothing < 1.0 or repeats < 1:
        raise ConfigError(
            f"Label smoothing is {smoothing} and repeats {repeats}; expected a share below 1 and at least 1."
        )


def _check_features(features: np.ndarray, targets: np.ndarray) -> None:
    if features.ndim != 2 or len(features) != len(targets) or len(features) == 0:
        raise DataError(f"Found features {features.shape} and {len(targets)} targets; expected [n, d] and n.")
    if not np.isfinite(features).all():
        raise DataError("The features hold NaN or infinite numbers. Leave those examples out.")


def _targets(targets: np.ndarray, outputs: int, task: Task) -> np.ndarray:
    """Returns int64 [n] for classification, else float32 [n, outputs]."""
    if task == "classification":
        if targets.ndim != 1:
            raise DataError(f"The targets have the shape {targets.shape}; expected one class number an example.")
        return one_hot(targets, outputs).argmax(1)
    if task == "regression":
        targets = targets.reshape(len(targets), -1)
    if targets.ndim != 2 or not np.isfinite(targets).all():
        raise DataError(
            f"The targets have the shape {targets.shape} or hold NaN; expected {outputs} numbers an example for {task}."
        )
    return one_hot(targets, outputs)
