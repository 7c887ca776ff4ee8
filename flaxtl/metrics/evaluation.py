"""Measuring a classifier: every figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from scipy.special import log_softmax

from flaxtl.errors import ConfigError, DataError, listed
from flaxtl.metrics.figures import ClassRow, Figure, Metrics, mean_of_shares, wilson
from flaxtl.metrics.measures import MEASURES, Values, aurocs, confusion, excesses, mean, ratio

Kind = Literal["auto", "logits", "probabilities"]

_ELEMENTS = 1 << 22  # of one [resamples, examples] array
_AUROC_WORK = 10**8  # resamples × examples × classes; fewer resamples where it would be exceeded


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
    examples by their effective number (Kish 1965), (Σ wᵢ)² / Σ wᵢ². The others have the bootstrap's
    percentiles (Efron 1979). The calibration error Σ |eᵦ| over bins has the interval that the triangle
    inequality gives, as far on either side as resampled bins Σ |eᵦ* - eᵦ| differ from the measured: noise
    only adds to a sum of absolute values, so its percentiles would miss the 0 of calibrated predictions.
    Where no resample differs from another, as with one example or no mistake, the bootstrap cannot tell and
    the interval is NaN.

    Args:
        outputs: float [n, c], logits or probabilities.
        targets: int [n].
        labels: c class names; classes without examples are allowed.
        weights: float [n], not negative; None is 1 each.
        kind: what the outputs are; "auto" takes rows of numbers from 0 to 1 that sum to 1 as probabilities.
        level: of the intervals, between 0 and 1.
        resamples: of the bootstrap; fewer for AUROC where classes and examples are many.
        stratified: resample within each class, for test sets whose class sizes were fixed beforehand.
        bins: of the calibration error.
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
    values = Values.of(logs, targets, w, bins)
    by_class = aurocs(values, w[None])[:, 0]
    rows = _class_rows(values, w, labels, by_class, level)
    effective = w.sum() ** 2 / np.square(w).sum()
    return Metrics(
        examples=len(targets),
        labels=tuple(map(str, labels)),
        accuracy=wilson(float(w @ values.right / w.sum()) * effective, effective, level),
        balanced_accuracy=mean_of_shares([row.recall for row in rows]),
        confusion=confusion(values, w),
        classes=rows,
        level=level,
        **_bootstrapped(values, targets, w, by_class, (1.0 - level) / 2.0, resamples, stratified, seed),
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
        return np.log(np.maximum(outputs, 1e-15)), targets.astype(np.int64), w
    return log_softmax(outputs, axis=1), targets.astype(np.int64), w


def _look_like_probabilities(outputs: np.ndarray) -> bool:
    return bool((outputs >= 0).all() and (np.abs(outputs.sum(1) - 1.0) < 1e-4).all())


def _bootstrapped(
    values: Values,
    targets: np.ndarray,
    w: np.ndarray,
    by_class: np.ndarray,
    tail: float,
    resamples: int,
    stratified: bool,
    seed: int,
) -> dict[str, Figure]:
    """Returns the figures whose intervals the bootstrap gives."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    measured, distances = excesses(values, w[None]), []
    for counts in _resamples(targets, resamples, rng, stratified):
        distances.append(np.abs(excesses(values, counts * w) - measured).sum(1))
        for name, measure in MEASURES.items():
            drawn[name].append(measure(values, counts * w))
    figures = {
        name: _percentiles(measure(values, w[None])[0], np.concatenate(drawn[name]), tail)
        for name, measure in MEASURES.items()
    }
    figures["ece"] = _within(float(np.abs(measured).sum()), np.concatenate(distances), 1.0 - 2.0 * tail)
    affordable = max(100, _AUROC_WORK // values.target.size)
    draws = _resamples(targets, min(affordable, resamples), rng, stratified)
    areas = np.concatenate([mean(aurocs(values, counts * w).T) for counts in draws])
    return {**figures, "auroc": _percentiles(mean(by_class[None])[0], areas, tail)}


def _resamples(targets: np.ndarray, resamples: int, rng: np.random.Generator, stratified: bool) -> Iterator[np.ndarray]:
    """Yields how often each example is drawn, [some, n], until there are enough."""
    kinds = targets if stratified else np.zeros_like(targets)
    strata = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    some = max(1, _ELEMENTS // len(targets))
    for first in range(0, resamples, some):
        counts = np.empty((min(some, resamples - first), len(targets)))
        for rows in strata:
            counts[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1.0 / len(rows)), len(counts))
        yield counts


def _percentiles(value: float, drawn: np.ndarray, tail: float) -> Figure:
    drawn = drawn[~np.isnan(drawn)]
    if math.isnan(value) or len(drawn) == 0 or np.ptp(drawn) <= 1e-12:
        return Figure(float(value), math.nan, math.nan)
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Figure(float(value), float(low), float(high))


def _within(value: float, distances: np.ndarray, level: float) -> Figure:
    """Gives an error from 0 to 1 the interval of what lies as near as most resamples do."""
    distances = distances[~np.isnan(distances)]
    if len(distances) == 0 or np.ptp(distances) <= 1e-12:
        return Figure(value, math.nan, math.nan)
    reach = float(np.quantile(distances, level))
    return Figure(value, max(0.0, value - reach), min(1.0, value + reach))


def _class_rows(
    v: Values, w: np.ndarray, labels: Sequence[str], areas: np.ndarray, level: float
) -> tuple[ClassRow, ...]:
    table = confusion(v, w)
    hit, actual, said = np.diag(table), table.sum(1), table.sum(0)
    effective = np.nan_to_num(ratio(np.square(actual), np.square(w) @ v.target))
    recall = ratio(hit, actual)
    precision, f1 = ratio(hit, said), ratio(2 * hit, actual + said)
    return tuple(
        ClassRow(
            str(label),
            int(v.target[:, k].sum()),
            float(precision[k]),
            wilson(recall[k] * effective[k], effective[k], level),
            float(f1[k]),
            float(areas[k]),
        )
        for k, label in enumerate(labels)
    )
