"""Measures of a classifier, each with an interval: Wilson's for accuracy, the bootstrap's for the rest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import expit, log_softmax, ndtri, softmax

from flaxtl.errors import DataError, listed

_ELEMENTS = 1 << 22  # of one [resamples, examples] array
_AUROC_WORK = 10**8  # resamples × examples × classes; fewer resamples where it would be exceeded


@dataclasses.dataclass(frozen=True)
class Figure:
    """A measured value and its interval; NaN where the data cannot tell."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Returns plain data for JSON, None in place of NaN."""
        return {k: None if math.isnan(v) else float(v) for k, v in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """One class: how many examples it has, what share is found, what share of its predictions is right."""

    label: str
    support: int
    precision: float
    recall: Figure
    f1: float
    auroc: float


@dataclasses.dataclass(frozen=True)
class Metrics:
    """How good a classifier is on a set of examples.

    Attributes:
        examples: number of examples.
        labels: class names in the order of the outputs.
        accuracy: share of right predictions, Wilson interval.
        balanced_accuracy: mean recall of the classes that have examples.
        macro_f1: mean F1 of the classes that have examples or are predicted.
        auroc: mean area under the ROC curve, each class against the rest, of those with examples of both.
        log_loss: mean negative log of the probability given to the right class.
        brier: mean squared distance between probabilities and the one-hot target.
        ece: expected calibration error, bins of equal mass.
        confusion: float [c, c], weight of examples by (target, prediction).
        classes: the table of classes.
        level: of the intervals.
    """

    examples: int
    labels: tuple[str, ...]
    accuracy: Figure
    balanced_accuracy: Figure
    macro_f1: Figure
    auroc: Figure
    log_loss: Figure
    brier: Figure
    ece: Figure
    confusion: np.ndarray
    classes: tuple[ClassRow, ...]
    level: float = 0.95

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by name."""
        return {f.name: v for f in dataclasses.fields(self) if isinstance(v := getattr(self, f.name), Figure)}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        rows = [{**dataclasses.asdict(r), "recall": r.recall.to_dict()} for r in self.classes]
        rows = [{k: None if v != v else v for k, v in r.items()} for r in rows]  # NaN is not itself
        return {
            "examples": self.examples,
            "labels": list(self.labels),
            "level": self.level,
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "confusion": self.confusion.tolist(),
            "classes": rows,
        }

    def summary(self) -> str:
        """Returns a table for the terminal."""
        lines = [f"{self.examples} examples, {self.level:.0%} intervals"]
        lines += [f"{name.replace('_', ' '):<18} {figure}" for name, figure in self.figures.items()]
        width = max(5, *(len(r.label) for r in self.classes))
        lines.append(f"{'class':<{width}}  support  precision  recall                f1     auroc")
        for r in self.classes:
            shares = f"{r.precision:>9.3f}  {r.recall!s:<20}  {r.f1:.3f}  {r.auroc:.3f}"
            lines.append(f"{r.label:<{width}}  {r.support:>7}  {shares}")
        return "\n".join(lines)


def evaluate(
    outputs: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    weights: np.ndarray | None = None,
    *,
    kind: Literal["auto", "logits", "probabilities"] = "auto",
    level: float = 0.95,
    resamples: int = 1000,
    stratified: bool = False,
    bins: int = 10,
    seed: int = 0,
) -> Metrics:
    """Measures a classifier.

    Args:
        outputs: float [n, c], logits or probabilities.
        targets: int [n].
        labels: c class names; classes without examples are allowed.
        weights: float [n], not negative; None is 1 each.
        kind: what the outputs are; "auto" takes rows of numbers from 0 to 1 that sum to 1 as probabilities.
        level: of the intervals.
        resamples: of the bootstrap; fewer for AUROC where classes and examples are many.
        stratified: resample within each class, for test sets whose class sizes were fixed beforehand.
        bins: of the calibration error.
        seed: of the bootstrap.

    Raises:
        DataError: no examples, shapes that do not fit, targets out of range, or outputs that are NaN.

    Example:
        >>> m = evaluate(np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 1, 1]), ['no', 'yes'])
        >>> round(m.accuracy.value, 3), m.confusion.tolist()
        (0.667, [[1.0, 0.0], [1.0, 1.0]])
    """
    logs, targets, w = _checked(outputs, targets, labels, weights, kind)
    values = _Values.of(logs, targets, w, bins)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in _MEASURES}
    for counts in _resamples(targets, resamples, rng, stratified):
        for name, measure in _MEASURES.items():
            drawn[name].append(measure(values, counts * w))
    some = max(100, min(resamples, _AUROC_WORK // logs.size))
    areas = [_aurocs(values, c * w).T for c in _resamples(targets, min(some, resamples), rng, stratified)]
    whole, tail = w[None], (1.0 - level) / 2.0
    by_class = _aurocs(values, whole)[:, 0]
    figures = {
        name: _percentiles(measure(values, whole)[0], np.concatenate(drawn[name]), tail)
        for name, measure in _MEASURES.items()
    }
    effective = w.sum() ** 2 / np.square(w).sum()
    correct = float(w @ values.right / w.sum())
    return Metrics(
        examples=len(targets),
        labels=tuple(labels),
        accuracy=wilson(correct * effective, effective, level),
        auroc=_percentiles(_mean(by_class[None])[0], _mean(np.concatenate(areas)), tail),
        confusion=_confusion(values, w),
        classes=_class_rows(values, w, labels, by_class, level),
        level=level,
        **figures,
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
    if targets.min() < 0 or targets.max() >= c:
        raise DataError(f"The targets run from {targets.min()} to {targets.max()}; expected 0 to {c - 1}.")
    if np.isnan(outputs).any() or (w < 0).any() or w.sum() <= 0:
        raise DataError("The outputs hold NaN, or the weights are negative or all 0.")
    if kind == "probabilities" or (kind == "auto" and _look_like_probabilities(outputs)):
        return np.log(np.maximum(outputs, 1e-15)), targets.astype(np.int64), w
    return log_softmax(outputs, axis=1), targets.astype(np.int64), w


def _look_like_probabilities(outputs: np.ndarray) -> bool:
    return bool((outputs >= 0).all() and (np.abs(outputs.sum(1) - 1.0) < 1e-4).all())


class _Values(NamedTuple):
    target: np.ndarray  # [n, c], one-hot
    predicted: np.ndarray  # [n, c], one-hot
    right: np.ndarray  # [n]
    loss: np.ndarray  # [n]
    brier: np.ndarray  # [n]
    excess: np.ndarray  # [n, bins], confidence - right, in the column of the example's bin
    probabilities: np.ndarray  # [n, c]

    @classmethod
    def of(cls, logs: np.ndarray, targets: np.ndarray, w: np.ndarray, bins: int) -> _Values:
        p, c = np.exp(logs), logs.shape[1]
        predicted = logs.argmax(1)
        right = (predicted == targets).astype(np.float64)
        target = np.eye(c)[targets]
        confidence = p.max(1)
        order = np.argsort(confidence, kind="stable")
        mass = np.cumsum(w[order]) - w[order] / 2
        place = np.empty(len(w), np.int64)
        place[order] = np.minimum(mass / w.sum() * bins, bins - 1).astype(np.int64)
        excess = np.eye(bins)[place] * (confidence - right)[:, None]
        loss = -logs[np.arange(len(w)), targets]
        return cls(target, np.eye(c)[predicted], right, loss, np.square(p - target).sum(1), excess, p)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divides; NaN where there is nothing to divide by."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _mean(rows: np.ndarray) -> np.ndarray:
    """Means of rows [b, c] over what is not NaN."""
    there = ~np.isnan(rows)
    return _ratio(np.where(there, rows, 0.0).sum(1), there.sum(1))


def _balanced(v: _Values, w: np.ndarray) -> np.ndarray:
    return _mean(_ratio(w @ (v.target * v.predicted), w @ v.target))


def _macro_f1(v: _Values, w: np.ndarray) -> np.ndarray:
    return _mean(_ratio(2.0 * (w @ (v.target * v.predicted)), w @ v.target + w @ v.predicted))


_MEASURES: dict[str, Callable[[_Values, np.ndarray], np.ndarray]] = {
    "balanced_accuracy": _balanced,
    "macro_f1": _macro_f1,
    "log_loss": lambda v, w: _ratio(w @ v.loss, w.sum(1)),
    "brier": lambda v, w: _ratio(w @ v.brier, w.sum(1)),
    "ece": lambda v, w: _ratio(np.abs(w @ v.excess).sum(1), w.sum(1)),
}


def _aurocs(v: _Values, w: np.ndarray) -> np.ndarray:
    """Returns the area [c, b] of each class against the rest, ties counted half, for weights [b, n]."""
    areas = []
    for k in range(v.target.shape[1]):
        scores = v.probabilities[:, k]
        order = np.argsort(scores, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
        yes = np.add.reduceat((w * v.target[:, k])[:, order], starts, axis=1)
        no = np.add.reduceat((w * (1.0 - v.target[:, k]))[:, order], starts, axis=1)
        below = np.cumsum(no, axis=1) - 0.5 * no
        areas.append(_ratio((yes * below).sum(1), yes.sum(1) * no.sum(1)))
    return np.stack(areas)


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
    if math.isnan(value) or len(drawn) == 0:
        return Figure(float(value), math.nan, math.nan)
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Figure(float(value), float(low), float(high))


def wilson(successes: float, trials: float, level: float = 0.95) -> Figure:
    """Returns a share with its score interval (Wilson 1927), which is right for few trials too.

    Example:
        >>> print(wilson(9, 10))
        0.900 [0.596, 0.982]
    """
    if trials <= 0:
        return Figure(math.nan, math.nan, math.nan)
    z, share = float(ndtri(0.5 + level / 2.0)), successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = max(share * (1 - share), 0.0) / trials + z * z / (4 * trials**2)
    half = z / (1 + z * z / trials) * math.sqrt(spread)
    return Figure(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def _confusion(v: _Values, w: np.ndarray) -> np.ndarray:
    return (v.target * w[:, None]).T @ v.predicted


def _class_rows(
    v: _Values, w: np.ndarray, labels: Sequence[str], areas: np.ndarray, level: float
) -> tuple[ClassRow, ...]:
    table = _confusion(v, w)
    hit, actual, said = np.diag(table), table.sum(1), table.sum(0)
    effective = np.nan_to_num(_ratio(np.square(actual), np.square(w) @ v.target))
    recall = _ratio(hit, actual)
    precision, f1 = _ratio(hit, said), _ratio(2 * hit, actual + said)
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


def loss_and_accuracy(logits: np.ndarray, targets: np.ndarray, task: str = "classification") -> tuple[float, float]:
    """Returns the two figures that are watched while training.

    Args:
        logits: float [n, c].
        targets: int [n]; float [n, c] for "multilabel" and "regression".
        task: "classification": log-loss and accuracy; "multilabel": summed binary losses and the share of
            right labels; "regression": mean squared error and R².

    Example:
        >>> loss_and_accuracy(np.array([[0.0, 0.0]]), np.array([0]))[1]
        1.0
    """
    z, y = np.asarray(logits, np.float64), np.asarray(targets)
    if task == "classification":
        y = y.astype(np.int64)
        loss = -log_softmax(z, axis=1)[np.arange(len(z)), y]
        return float(loss.mean()), float((z.argmax(1) == y).mean())
    y = y.astype(np.float64).reshape(z.shape)
    if task == "multilabel":
        loss = (np.logaddexp(0.0, z) - y * z).sum(1)
        return float(loss.mean()), float(((z > 0) == (y > 0.5)).mean())
    error, spread = np.square(z - y).mean(), np.square(y - y.mean(0)).mean()
    return float(error), float(1.0 - error / spread) if spread > 0 else math.nan


def fit_temperature(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns what logits are to be divided by so that their probabilities are calibrated.

    Minimises the log-loss over the temperature (Guo et al. 2017). The n targets count as n / (n + 1) of
    themselves and 1 / (n + 1) of an even guess (after Platt 1999), so that a few right answers do not make
    it certain. n is the sum of the weights.

    Args:
        logits: float [n, c], of examples the head was not trained on.
        targets: int [n], or float [n, c] for a sigmoid a class.
        weights: float [n].

    Returns:
        A number from 0.02 to 50.

    Example:
        >>> z = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> fit_temperature(z, np.array([0, 0, 0, 1])) > 2
        True
    """
    z, y = np.asarray(logits, np.float64), np.asarray(targets)
    w = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    turn: Callable[[np.ndarray], np.ndarray] = expit if y.ndim == 2 else lambda v: softmax(v, axis=1)
    even = 0.5 if y.ndim == 2 else 1.0 / z.shape[1]
    wanted = y if y.ndim == 2 else np.eye(z.shape[1])[y.astype(np.int64)]
    wanted = (wanted * w.sum() + even) / (w.sum() + 1.0)
    low, high = math.log(0.02), math.log(50.0)
    for _ in range(50):  # the loss is convex in 1 / temperature, so its slope changes sign once
        middle = 0.5 * (low + high)
        slope = (w[:, None] * (turn(z * math.exp(-middle)) - wanted) * z).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return math.exp(0.5 * (low + high)) if np.ptp(z) > 0 else 1.0


class Mistake(NamedTuple):
    """A wrong prediction: the row, its key, the two classes and the probability given to the wrong one."""

    row: int
    key: str
    target: int
    predicted: int
    probability: float


def most_confident_mistakes(
    probabilities: np.ndarray, targets: np.ndarray, keys: Sequence[str], k: int = 10
) -> list[Mistake]:
    """Returns the k wrong predictions with the highest probability, the surest first.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7]])
        >>> most_confident_mistakes(p, np.array([1, 1]), ['a.png', 'b.png'])
        [Mistake(row=0, key='a.png', target=1, predicted=0, probability=0.9)]
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(targets)
    said = p.argmax(1)
    wrong = np.flatnonzero(said != y)
    surest = wrong[np.argsort(-p[wrong, said[wrong]], kind="stable")][:k]
    return [Mistake(int(i), str(keys[i]), int(y[i]), int(said[i]), float(p[i, said[i]])) for i in surest]
