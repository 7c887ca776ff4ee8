"""Measuring networks with several outputs an example: any of several labels (multilabel), or numbers (regression).

Every interval but that of `exact` is of the bootstrap's percentiles (Efron 1979), examples resampled whole; where no
resample differs from another the data cannot tell, and the interval is NaN. Only the accuracy of labels that are all
right has one, down to the lower end of `exact`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flaxtl.errors import DataError, listed
from flaxtl.metrics.figures import Figure, wilson

_ELEMENTS = 1 << 22  # of one [resamples, examples] array
Measure = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class OutputRow:
    """One output: what it is called, how many examples it is true of, and its own figures by name."""

    label: str
    support: int
    figures: dict[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class OutputMetrics:
    """How good several outputs are on a set of examples.

    Attributes:
        task: "multilabel" or "regression".
        examples: number of examples.
        labels: names of the outputs.
        figures: by name; of multilabel accuracy (share of right labels), exact (share of examples with every label
            right), micro_f1, macro_f1 and log_loss (mean over labels); of regression r2 (mean over outputs), mae, mse.
        outputs: the table of outputs.
        level: of the intervals.
    """

    task: str
    examples: int
    labels: tuple[str, ...]
    figures: dict[str, Figure]
    outputs: tuple[OutputRow, ...]
    level: float = 0.95

    def __getattr__(self, name: str) -> Figure:
        """Returns a figure by its name."""
        figures = self.__dict__.get("figures", {})
        if name not in figures:
            raise AttributeError(f"There is no figure {name!r}; there are {listed(figures)}.")
        return figures[name]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON, None in place of NaN."""
        rows = [{"label": row.label, "support": row.support, **row.figures} for row in self.outputs]
        return {
            "task": self.task,
            "examples": self.examples,
            "labels": list(self.labels),
            "level": self.level,
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "outputs": [{k: None if v != v else v for k, v in row.items()} for row in rows],  # NaN is not itself
        }

    def summary(self) -> str:
        """Returns a table for the terminal."""
        lines = [f"{self.examples} examples, {self.level:.0%} intervals"]
        lines += [f"{name.replace('_', ' '):<18} {figure}" for name, figure in self.figures.items()]
        width = max(6, *(len(row.label) for row in self.outputs))
        names = list(self.outputs[0].figures)
        lines.append(f"{'output':<{width}}  support  " + "  ".join(f"{name:>10}" for name in names))
        for row in self.outputs:
            values = "  ".join(f"{row.figures[name]:>10.4g}" for name in names)
            lines.append(f"{row.label:<{width}}  {row.support:>7}  {values}")
        return "\n".join(lines)


def evaluate_multilabel(
    logits: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OutputMetrics:
    """Measures which of several labels are said to be true; a label is said where its logit is above 0.

    Args:
        logits: float [n, labels].
        targets: 0 or 1 [n, labels].
        labels: their names.
        level: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        DataError: shapes that do not fit, no examples, or values that are not finite.

    Example:
        >>> m = evaluate_multilabel(np.array([[1.0, -1.0], [2.0, 3.0]]), np.array([[1, 0], [1, 0]]), ['a', 'b'])
        >>> m.accuracy.value, round(m.micro_f1.value, 3)
        (0.75, 0.8)
    """
    z, y = _checked(logits, targets, labels)
    said = z > 0
    right, loss = said == (y > 0.5), np.logaddexp(0.0, z) - y * z
    # Weight 1 an example: sums over examples are then products with how often each is drawn.
    hit, said_or_true = said * y, said + y
    measures: dict[str, Measure] = {
        "accuracy": lambda w: (w @ right).mean(1) / w.sum(1),
        "micro_f1": lambda w: _ratio(2.0 * (w @ hit).sum(1), (w @ said_or_true).sum(1)),
        "macro_f1": lambda w: _mean(_ratio(2.0 * (w @ hit), w @ said_or_true)),
        "log_loss": lambda w: (w @ loss).mean(1) / w.sum(1),
    }
    figures = _bootstrapped(measures, len(z), level, resamples, seed)
    figures["exact"] = wilson(float(right.all(1).sum()), len(z), level)
    if right.all():  # an example that is not right in all has at worst no label right
        figures["accuracy"] = Figure(1.0, figures["exact"].low, 1.0)
    f1 = _ratio(2.0 * hit.sum(0), said_or_true.sum(0))
    rows = [
        OutputRow(str(n), int(y[:, k].sum()), {"accuracy": float(right[:, k].mean()), "f1": float(f1[k])})
        for k, n in enumerate(labels)
    ]
    order = ("accuracy", "exact", "micro_f1", "macro_f1", "log_loss")
    named = {name: figures[name] for name in order}
    return OutputMetrics("multilabel", len(z), tuple(map(str, labels)), named, tuple(rows), level)


def evaluate_regression(
    outputs: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OutputMetrics:
    """Measures predicted numbers: R² (the share of the variance that is explained), mean absolute and squared error.

    Args:
        outputs: float [n, outputs].
        targets: float [n, outputs].
        labels: names of the outputs.
        level: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        DataError: shapes that do not fit, no examples, or values that are not finite.

    Example:
        >>> m = evaluate_regression(np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [2.0], [3.0]]), ['price'])
        >>> m.r2.value, round(m.mae.value, 3)
        (0.5, 0.333)
    """
    z, y = _checked(outputs, targets, labels)
    error, absolute = np.square(z - y), np.abs(z - y)
    centred = y - y.mean(0)  # the variance of a resample is taken around its own mean, of numbers that are not large

    def r2(w: np.ndarray) -> np.ndarray:
        total = w.sum(1, keepdims=True)
        spread = (w @ np.square(centred)) / total - np.square((w @ centred) / total)
        return _mean(np.where(spread > 1e-12, 1.0 - _ratio((w @ error) / total, spread), np.nan))

    measures: dict[str, Measure] = {
        "r2": r2,
        "mae": lambda w: (w @ absolute).mean(1) / w.sum(1),
        "mse": lambda w: (w @ error).mean(1) / w.sum(1),
    }
    figures = _bootstrapped(measures, len(z), level, resamples, seed)
    spread = np.square(centred).mean(0)
    own = np.where(spread > 1e-12, 1.0 - _ratio(error.mean(0), spread), np.nan)
    rows = [
        OutputRow(
            str(n),
            len(y),
            {"r2": float(own[k]), "mae": float(absolute[:, k].mean()), "mse": float(error[:, k].mean())},
        )
        for k, n in enumerate(labels)
    ]
    return OutputMetrics("regression", len(z), tuple(map(str, labels)), figures, tuple(rows), level)


def _checked(outputs: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    z, y = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
    if z.ndim != 2 or z.shape != y.shape or z.shape[1] != len(labels) or not len(z):
        raise DataError(
            f"Found outputs {z.shape}, targets {y.shape} and {len(labels)} names; expected outputs and targets "
            "[n, outputs], one name an output, and at least one example."
        )
    if not (np.isfinite(z).all() and np.isfinite(y).all()):
        raise DataError("The outputs or the targets hold NaN or infinite numbers.")
    return z, y


def _bootstrapped(measures: dict[str, Measure], n: int, level: float, resamples: int, seed: int) -> dict[str, Figure]:
    """Returns each measure of all examples with the percentiles of its resamples."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in measures}
    some = max(1, _ELEMENTS // n)
    for first in range(0, resamples, some):
        counts = rng.multinomial(n, np.full(n, 1.0 / n), min(some, resamples - first)).astype(np.float64)
        for name, measure in measures.items():
            drawn[name].append(measure(counts))
    whole = np.ones((1, n))
    return {name: _figure(float(measure(whole)[0]), drawn[name], level) for name, measure in measures.items()}


def _figure(value: float, drawn: list[np.ndarray], level: float) -> Figure:
    values = np.concatenate(drawn)
    values = values[~np.isnan(values)]
    if math.isnan(value) or len(values) == 0 or np.ptp(values) <= 1e-12:
        return Figure(value, math.nan, math.nan)
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Figure(value, float(low), float(high))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _mean(rows: np.ndarray) -> np.ndarray:
    there = ~np.isnan(rows)
    return _ratio(np.where(there, rows, 0.0).sum(1), there.sum(1))
