"""Evaluating networks with several outputs an example: any of several labels (multilabel), or numbers (regression).

Each figure stands beside what a constant answer would score on the same examples: no label at all, or the mean.
Every interval but that of `exact` is of the bootstrap's percentiles (Efron 1979), examples resampled whole; where no
resample differs from another the data cannot tell, and the interval is NaN. Only the share of right labels, where all
are right, has one, down to the lower end of `exact`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flaxtl.errors import ConfigError, DataError, listed
from flaxtl.metrics.figures import Figure, wilson

_ELEMENTS = 1 << 22  # of one [resamples, examples] array
_LARGEST = 1e60  # whose squares are finite
Measure = Callable[[np.ndarray], np.ndarray]

# What each figure is called where people read it.
CALLED = {
    "exact": "exact match",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "accuracy": "right labels",
    "log_loss": "log-loss",
    "r2": "R²",
    "mae": "mean absolute error",
    "mse": "mean squared error",
}
CONSTANT = {"multilabel": "never answering any label", "regression": "predicting the mean"}
_SHARES = ("exact", "accuracy")


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
        figures: by name, the main one first; of multilabel exact (share of examples with every label right), micro_f1,
            macro_f1, accuracy (share of right labels) and log_loss (mean over labels); of regression r2 (mean
            over outputs), mae, mse.
        baselines: what a constant answer scores on the same examples, by the same names: no label, or the mean of
            the targets. Figures that a constant answer does not have are left out.
        outputs: the table of outputs.
        level: of the intervals.
    """

    task: str
    examples: int
    labels: tuple[str, ...]
    figures: dict[str, Figure]
    baselines: dict[str, float]
    outputs: tuple[OutputRow, ...]
    level: float = 0.95

    def __getattr__(self, name: str) -> Figure:
        """Returns a figure by its name."""
        figures = self.__dict__.get("figures", {})
        if name not in figures:
            raise AttributeError(f"There is no figure {name!r}; there are {listed(figures)}.")
        return figures[name]

    @property
    def never_predicted(self) -> tuple[str, ...]:
        """The labels that are true of examples here and predicted for none."""
        if self.task != "multilabel":
            return ()
        return tuple(row.label for row in self.outputs if row.support and not row.figures["predicted"])

    def notes(self, remedy: str = "add examples of them") -> tuple[str, ...]:
        """Returns what the figures alone may hide: that labels are never predicted.

        Args:
            remedy: what to do about it, as the end of a sentence.
        """
        missing = [row.label for row in self.outputs if row.label in self.never_predicted and row.support > 1]
        if not missing:
            return ()
        return (
            f"Never predicts {len(missing)} of {len(self.labels)} labels: {listed(missing)}. Their probability stays "
            f"below one half on every example; {remedy}.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON, None in place of NaN."""
        rows = [{"label": row.label, "support": row.support, **row.figures} for row in self.outputs]
        return {
            "task": self.task,
            "examples": self.examples,
            "labels": list(self.labels),
            "level": self.level,
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "baseline": {"answer": CONSTANT[self.task], **self.baselines},
            "never_predicted": list(self.never_predicted),
            "outputs": [{k: None if v != v else v for k, v in row.items()} for row in rows],  # NaN is not itself
        }

    def headline(self) -> str:
        """Returns the main figure beside what a constant answer scores."""
        name, figure = next(iter(self.figures.items()))
        first = f"{CALLED[name]} {figure.percent() if name in _SHARES else figure}"
        second = "accuracy" if self.task == "multilabel" else "mae"
        return (
            f"{first}, {CALLED[second]} {shown(second, self.figures[second].value)} on {self.examples} examples; "
            f"{CONSTANT[self.task]}: {CALLED[name]} {shown(name, self.baselines.get(name, math.nan))}, "
            f"{CALLED[second]} {shown(second, self.baselines[second])}"
        )

    def summary(self, *, notes: bool = True) -> str:
        """Returns the main figure, a table of all, and a note where labels are never predicted.

        Args:
            notes: whether the notes are included.
        """
        lines = [self.headline(), f"{self.level:.0%} intervals, and {CONSTANT[self.task]}:"]
        for name, figure in self.figures.items():
            beside = f"{self.baselines[name]:.3f}" if name in self.baselines else "–"
            lines.append(f"{CALLED[name]:<19}  {figure!s:<24}  {beside}")
        width = max(6, *(len(row.label) for row in self.outputs))
        names = list(self.outputs[0].figures)
        lines.append(f"{'output':<{width}}  support  " + "  ".join(f"{CALLED.get(n, n):>19}" for n in names))
        for row in self.outputs:
            values = "  ".join(f"{_cell(row.figures[name]):>19}" for name in names)
            lines.append(f"{row.label:<{width}}  {row.support:>7}  {values}")
        return "\n".join([*lines, *(f"note: {note}" for note in (self.notes() if notes else ()))])


def shown(name: str, value: float) -> str:
    """Returns a figure's value as people read it: shares in percent, other numbers as they are."""
    if math.isnan(value):
        return "unknown"
    return f"{value:.1%}" if name in _SHARES else f"{value:.4g}" if name in ("mae", "mse") else f"{value:.3f}"


def _cell(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"


def evaluate_multilabel(
    logits: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OutputMetrics:
    """Evaluates predictions of any of several labels; a label is predicted where its logit is above 0.

    Args:
        logits: float [n, labels].
        targets: 0 or 1 [n, labels].
        labels: their names.
        level: of the intervals, between 0 and 1.
        resamples: of the bootstrap, at least 1.
        seed: of the bootstrap.

    Raises:
        DataError: shapes that do not fit, no examples, or values that are not finite.
        ConfigError: an impossible level or number of resamples.

    Example:
        >>> m = evaluate_multilabel(np.array([[1.0, -1.0], [2.0, 3.0]]), np.array([[1, 0], [1, 0]]), ['a', 'b'])
        >>> m.exact.value, m.accuracy.value, m.baselines['accuracy'], round(m.micro_f1.value, 3)
        (0.5, 0.75, 0.5, 0.8)
    """
    z, y = _checked(logits, targets, labels, level, resamples)
    if not np.isin(y, (0.0, 1.0)).all():
        raise DataError("The targets of several labels hold other numbers than 0 and 1.")
    predicted = z > 0
    right, loss = predicted == (y > 0.5), np.logaddexp(0.0, z) - y * z
    # Weight 1 an example: sums over examples are then products with how often each is drawn.
    hit, predicted_or_true = predicted * y, predicted + y
    measures: dict[str, Measure] = {
        "micro_f1": lambda w: _ratio(2.0 * (w @ hit).sum(1), (w @ predicted_or_true).sum(1)),
        "macro_f1": lambda w: _mean(_ratio(2.0 * (w @ hit), w @ predicted_or_true)),
        "accuracy": lambda w: (w @ right).mean(1) / w.sum(1),
        "log_loss": lambda w: (w @ loss).mean(1) / w.sum(1),
    }
    exact = wilson(float(right.all(1).sum()), len(z), level)
    figures = {"exact": exact, **_bootstrapped(measures, len(z), level, resamples, seed)}
    if right.all():  # an example that is not right in all has at worst no label right
        figures["accuracy"] = Figure(1.0, exact.low, 1.0)
    f1 = _ratio(2.0 * hit.sum(0), predicted_or_true.sum(0))
    baselines = {"exact": float((y == 0).all(1).mean()), "accuracy": float((y == 0).mean())}
    if y.any():  # else F1 has no value for an answer without labels
        baselines |= {"micro_f1": 0.0, "macro_f1": 0.0}
    rows = [
        OutputRow(
            str(n),
            int(y[:, k].sum()),
            {
                "predicted": int(predicted[:, k].sum()),
                "f1": float(f1[k]),
                "accuracy": float(right[:, k].mean()),
                "always_no": float((y[:, k] == 0).mean()),
            },
        )
        for k, n in enumerate(labels)
    ]
    return OutputMetrics("multilabel", len(z), tuple(map(str, labels)), figures, baselines, tuple(rows), level)


def evaluate_regression(
    outputs: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> OutputMetrics:
    """Evaluates predicted numbers: R² (the share of the variance that is explained), mean absolute and squared error.

    R² is unknown (NaN) where the targets of every output are all equal.

    Args:
        outputs: float [n, outputs].
        targets: float [n, outputs].
        labels: names of the outputs.
        level: of the intervals, between 0 and 1.
        resamples: of the bootstrap, at least 1.
        seed: of the bootstrap.

    Raises:
        DataError: shapes that do not fit, no examples, or values that are not finite.
        ConfigError: an impossible level or number of resamples.

    Example:
        >>> m = evaluate_regression(np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [2.0], [3.0]]), ['price'])
        >>> m.r2.value, round(m.mae.value, 3), round(m.baselines['mae'], 3)
        (0.5, 0.333, 0.667)
    """
    z, y = _checked(outputs, targets, labels, level, resamples)
    error, absolute = np.square(z - y), np.abs(z - y)
    centred = y - y.mean(0)  # the variance of a resample is taken around its own mean, of numbers that are not large
    variance = np.where(np.ptp(y, axis=0) > 0, np.square(centred).mean(0), 0.0)
    least = 1e-9 * variance  # below which a resample's variance is rounding

    def r2(w: np.ndarray) -> np.ndarray:
        total = w.sum(1, keepdims=True)
        spread = (w @ np.square(centred)) / total - np.square((w @ centred) / total)
        return _mean(np.where(spread > least, 1.0 - _ratio((w @ error) / total, spread), np.nan))

    measures: dict[str, Measure] = {
        "r2": r2,
        "mae": lambda w: (w @ absolute).mean(1) / w.sum(1),
        "mse": lambda w: (w @ error).mean(1) / w.sum(1),
    }
    figures = _bootstrapped(measures, len(z), level, resamples, seed)
    own = np.where(variance > 0, 1.0 - _ratio(error.mean(0), variance), np.nan)
    figures["r2"] = dataclasses.replace(figures["r2"], value=float(_mean(own[None])[0]))
    away = np.abs(centred).mean(0)
    rows = [
        OutputRow(
            str(n),
            len(y),
            {
                "r2": float(own[k]),
                "mae": float(absolute[:, k].mean()),
                "mae_of_mean": float(away[k]),
                "mse": float(error[:, k].mean()),
            },
        )
        for k, n in enumerate(labels)
    ]
    baselines = {"mae": float(away.mean()), "mse": float(np.square(centred).mean())}
    if variance.any():
        baselines = {"r2": 0.0, **baselines}
    return OutputMetrics("regression", len(z), tuple(map(str, labels)), figures, baselines, tuple(rows), level)


def _checked(
    outputs: np.ndarray, targets: np.ndarray, labels: Sequence[str], level: float, resamples: int
) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < level < 1 or resamples < 1:
        raise ConfigError(
            f"Found level {level} and {resamples} resamples; expected one between 0 and 1, and one or more."
        )
    z, y = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
    if z.ndim != 2 or z.shape != y.shape or z.shape[1] != len(labels) or not z.size:
        raise DataError(
            f"Found outputs {z.shape}, targets {y.shape} and {len(labels)} names; expected outputs and targets "
            "[n, outputs], one name an output, and at least one example."
        )
    if not (np.isfinite(z).all() and np.isfinite(y).all()):
        raise DataError("The outputs or the targets hold NaN or infinite numbers.")
    if max(np.abs(z).max(), np.abs(y).max()) > _LARGEST:
        raise DataError(f"The outputs or the targets hold numbers beyond {_LARGEST:g}; expected them in larger units.")
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
    if math.isnan(value) or len(values) == 0 or np.ptp(values) <= 1e-12 * max(1e-300, abs(value)):
        return Figure(value, math.nan, math.nan)
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Figure(value, min(value, float(low)), max(value, float(high)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _mean(rows: np.ndarray) -> np.ndarray:
    there = ~np.isnan(rows)
    return _ratio(np.where(there, rows, 0.0).sum(1), there.sum(1))
