"""Evaluating a classifier: every figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from scipy.special import log_softmax

from flaxtl.errors import ConfigError, DataError, listed
from flaxtl.metrics.auroc import auroc
from flaxtl.metrics.bootstrap import Bootstrap
from flaxtl.metrics.calibration import Calibration
from flaxtl.metrics.figures import ClassRow, Figure, Metrics, mean_of_shares, wilson
from flaxtl.metrics.measures import Values, confusion, effective, ratio

# A probability of 0 counts as this, as in scikit-learn, so that a log-loss is finite.
_LEAST = float(np.finfo(np.float64).eps)
_LARGEST = 1e60  # whose squares are finite
Kind = Literal["auto", "logits", "probabilities"]


def evaluate(
    outputs: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    weights: np.ndarray | None = None,
    *,
    kind: Kind = "auto",
    level: float = 0.95,
    resamples: int = 1000,
    stratified: bool = False,
    bins: int = 10,
    seed: int = 0,
) -> Metrics:
    """Measures a classifier.

    Accuracy has Wilson's interval and balanced accuracy that of `mean_of_shares`; both count weighted
    examples by their effective number (Kish 1965), (Σ wᵢ)² / Σ wᵢ². Log-loss and Brier score have the
    bootstrap's Studentised means, which allow for their skewness (Efron 1981; Hall 1988), and macro-F1 its
    bias-corrected and accelerated percentiles (BCa, Efron 1987). AUROC has DeLong's (1988) on the scale of
    log-odds. These two use Student's quantile, since a rare class says little of its variance
    (`student.freedom`). The calibration error has the errors it is compatible with (`Calibration.interval`).
    How often each holds the truth is measured in docs/benchmarks/intervals.md. Where the data cannot tell, as
    with one example, the interval is NaN.

    Args:
        outputs: float [n, c], logits or probabilities.
        targets: int [n].
        labels: c class names; classes without examples are allowed.
        weights: float [n], not negative; None is 1 each. An example of weight 0 is as if it were not there.
        kind: what the outputs are; "auto" takes rows of numbers from 0 to 1 that sum to 1 as probabilities.
        level: of the intervals, between 0 and 1.
        resamples: of the bootstrap.
        stratified: resample within each class, for test sets whose class sizes were fixed beforehand.
        bins: of the calibration error, of equal mass.
        seed: of the bootstrap.

    Raises:
        DataError: no examples, shapes that do not fit, targets out of range, or outputs that are not finite.
        ConfigError: an impossible setting.

    Example:
        >>> m = evaluate(np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 1, 1]), ['no', 'yes'])
        >>> round(m.accuracy.value, 3), m.confusion.tolist()
        (0.667, [[1.0, 0.0], [1.0, 1.0]])
    """
    if kind not in get_args(Kind) or not 0 < level < 1 or resamples < 1 or bins < 1:
        raise ConfigError(
            f"Found kind {kind!r}, level {level}, {resamples} resamples and {bins} bins; expected one of "
            f"{listed(get_args(Kind))}, a level between 0 and 1, and at least one resample and bin."
        )
    logs, targets, w = _checked(outputs, targets, labels, weights, kind)
    logs, targets, w = logs[w > 0], targets[w > 0], w[w > 0]
    values = Values.of(logs, targets)
    boot = Bootstrap.of(targets, resamples, level, stratified, seed)
    flawless = len(labels) > 1 and float(w @ values.right) == float(w.sum())
    second = Values.of(logs, np.argsort(logs, axis=1)[:, -2]) if flawless else None
    area, by_class = auroc(values.probabilities, targets, w, level)
    rows = _class_rows(values, w, labels, by_class, level)
    size = w.sum() ** 2 / np.square(w).sum()
    calibration = Calibration.of(values.probabilities.max(1), values.right, w, bins, resamples, seed)
    return Metrics(
        examples=len(targets),
        labels=tuple(map(str, labels)),
        accuracy=wilson(float(w @ values.right / w.sum()) * size, size, level),
        balanced_accuracy=_balanced(values, w, level),
        ece=Figure(calibration.error, *calibration.interval(level)),
        ece_band=calibration.band(level),
        confusion=confusion(values, w),
        classes=rows,
        level=level,
        macro_f1=boot.macro_f1(values, w),
        log_loss=boot.mean(values.loss, w, None if second is None else second.loss),
        brier=boot.mean(values.brier, w, None if second is None else second.brier, most=2.0),
        auroc=area,
    )


def _checked(
    outputs: np.ndarray, targets: np.ndarray, labels: Sequence[str], weights: np.ndarray | None, kind: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns log-probabilities, targets and weights, or says what is wrong with them."""
    outputs, targets = np.asarray(outputs, np.float64), np.asarray(targets)
    w = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
    if outputs.ndim != 2 or targets.ndim != 1 or not len(outputs) == len(targets) == len(w) > 0:
        raise DataError(
            f"Found outputs {outputs.shape}, targets {targets.shape} and weights {w.shape}; expected outputs "
            "[n, classes], one target and one weight an example, and at least one example."
        )
    c = len(labels)
    if outputs.shape[1] != c:
        raise DataError(f"There are {outputs.shape[1]} outputs for the {c} classes {listed(labels)}.")
    if targets.min() < 0 or targets.max() >= c or (targets % 1 != 0).any():
        raise DataError(
            f"The targets run from {targets.min()} to {targets.max()}; expected class numbers 0 to {c - 1}."
        )
    if not np.isfinite(outputs).all() or not (w >= 0).all() or not 0 < w.sum() < math.inf:
        raise DataError("The outputs hold NaN or infinite numbers, or the weights are NaN, negative or all 0.")
    looks = _look_like_probabilities(outputs)
    if kind == "probabilities" and not looks:
        raise DataError("The outputs are said to be probabilities, but not every row is of shares that sum to 1.")
    if looks and kind != "logits":
        return np.log(np.maximum(outputs, _LEAST)), targets.astype(np.int64), w
    if np.abs(outputs).max() > _LARGEST:
        raise DataError(f"The logits reach {np.abs(outputs).max():.3g}; expected numbers of at most {_LARGEST:g}.")
    return log_softmax(outputs, axis=1), targets.astype(np.int64), w


def _look_like_probabilities(outputs: np.ndarray) -> bool:
    return bool((outputs >= 0).all() and (np.abs(outputs.sum(1) - 1.0) < 1e-4).all())


def _class_rows(
    v: Values, w: np.ndarray, labels: Sequence[str], areas: np.ndarray, level: float
) -> tuple[ClassRow, ...]:
    table = confusion(v, w)
    hit, actual, said = np.diag(table), table.sum(1), table.sum(0)
    sizes = effective(v.target, w)
    recall = ratio(hit, actual)
    precision, f1 = ratio(hit, said), ratio(2 * hit, actual + said)
    return tuple(
        ClassRow(
            str(label),
            int(v.target[:, k].sum()),
            float(precision[k]),
            wilson(recall[k] * sizes[k], sizes[k], level),
            float(f1[k]),
            float(areas[k]),
        )
        for k, label in enumerate(labels)
    )


def _balanced(v: Values, w: np.ndarray, level: float) -> Figure:
    sizes = effective(v.target, w)
    return mean_of_shares(np.nan_to_num(ratio(w @ v.hit, w @ v.target)) * sizes, sizes, level)
