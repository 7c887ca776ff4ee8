"""What evaluation returns: values with intervals, the table of classes, and the intervals of shares."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from flaxtl.metrics.balance import REMEDY, Majority, majority_of, unpredicted_note


@dataclasses.dataclass(frozen=True)
class Figure:
    """A measured value and its interval; NaN where the data cannot tell."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Returns plain data for JSON, None in place of NaN."""
        return {k: None if math.isnan(v) else float(v) for k, v in dataclasses.asdict(self).items()}

    def percent(self) -> str:
        """Returns a share and its interval in percent.

        Example:
            >>> Figure(0.82, 0.705, 0.904).percent(), Figure(1.0, math.nan, math.nan).percent()
            ('82.0% [70.5%, 90.4%]', '100.0%')
        """
        if math.isnan(self.value):
            return "unknown"
        return f"{self.value:.1%}" + ("" if math.isnan(self.low) else f" [{self.low:.1%}, {self.high:.1%}]")

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "unknown"
        return (
            f"{self.value:.3f} ["
            + ("no interval" if math.isnan(self.low) else f"{self.low:.3f}, {self.high:.3f}")
            + "]"
        )


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """One class: its number of examples, precision, recall, F1 and area under the ROC curve."""

    label: str
    support: int
    precision: float
    recall: Figure
    f1: float
    auroc: float


@dataclasses.dataclass(frozen=True, eq=False)
class Metrics:
    """How good a classifier is on a set of examples.

    Attributes:
        examples: number of examples.
        labels: class names in the order of the outputs.
        accuracy: share of right predictions, Wilson interval.
        balanced_accuracy: mean recall of the classes that have examples; see `mean_of_shares`.
        macro_f1: mean F1 of the classes that have examples or are predicted.
        auroc: mean area under the ROC curve, each class against the rest, of those with examples of both.
        log_loss: mean negative log of the probability given to the right class.
        brier: mean squared distance between probabilities and the one-hot target.
        ece: expected calibration error, bins of equal mass.
        ece_band: where it would lie if these probabilities were perfectly calibrated; see `calibration_band`.
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
    ece_band: tuple[float, float]
    confusion: np.ndarray
    classes: tuple[ClassRow, ...]
    level: float = 0.95

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by name."""
        return {f.name: v for f in dataclasses.fields(self) if isinstance(v := getattr(self, f.name), Figure)}

    @property
    def majority(self) -> Majority:
        """The most frequent class of these examples, and the accuracy of always answering it."""
        return majority_of(self.confusion.sum(1), self.labels)

    @property
    def never_predicted(self) -> tuple[str, ...]:
        """The classes that have examples here and are predicted for none."""
        actual, predicted = self.confusion.sum(1), self.confusion.sum(0)
        missing = np.flatnonzero((actual > 0) & (predicted == 0))
        return tuple(self.labels[k] for k in missing)

    def notes(self, remedy: str = REMEDY) -> tuple[str, ...]:
        """Returns what the figures alone may hide: that whole classes are never predicted.

        Args:
            remedy: what to do about it, as the end of a sentence.
        """
        note = unpredicted_note(self.confusion, self.labels, remedy)
        return (note,) if note else ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        rows = [{**dataclasses.asdict(r), "recall": r.recall.to_dict()} for r in self.classes]
        rows = [{k: None if v != v else v for k, v in r.items()} for r in rows]  # NaN is not itself
        return {
            "examples": self.examples,
            "labels": list(self.labels),
            "level": self.level,
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "majority": {"label": self.majority.label, "accuracy": self.majority.share},
            "never_predicted": list(self.never_predicted),
            "ece_band": list(self.ece_band),
            "confusion": self.confusion.tolist(),
            "classes": rows,
        }

    def headline(self) -> str:
        """Returns the accuracy beside that of always answering the most frequent class."""
        return f"accuracy {self.accuracy.percent()} on {self.examples} examples; {self.majority}"

    def summary(self, *, notes: bool = True) -> str:
        """Returns the accuracy, a table of all figures, and a note where classes are never predicted.

        Args:
            notes: whether the notes are included.
        """
        lines = [self.headline(), f"{self.level:.0%} intervals:"]
        lines += [f"{name.replace('_', ' '):<18} {figure}" for name, figure in self.figures.items()]
        low, high = self.ece_band
        lines.append(f"{'':<18} (an ece of {low:.3f} to {high:.3f} is what perfect calibration shows here by chance)")
        width = max(5, *(len(r.label) for r in self.classes))
        lines.append(f"{'class':<{width}}  support  precision  recall                f1     auroc")
        for r in self.classes:
            shares = f"{_cell(r.precision):>9}  {r.recall!s:<20}  {_cell(r.f1):<5}  {_cell(r.auroc)}"
            lines.append(f"{r.label:<{width}}  {r.support:>7}  {shares}")
        return "\n".join([*lines, *(f"note: {note}" for note in (self.notes() if notes else ()))])


def _cell(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def wilson(successes: float, trials: float, level: float = 0.95) -> Figure:
    """Returns a share with its score interval (Wilson 1927), which is right for few trials too.

    Args:
        successes: from 0 to `trials`; not whole where examples have weights.
        trials: 0 gives NaN.
        level: of the interval, between 0 and 1.

    Example:
        >>> print(wilson(9, 10))
        0.900 [0.596, 0.982]
    """
    if trials <= 0:
        return Figure(math.nan, math.nan, math.nan)
    z, share = float(ndtri(0.5 + level / 2.0)), min(1.0, max(0.0, float(successes / trials)))  # but for rounding
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = share * (1 - share) / trials + z * z / (4 * trials**2)
    half = z / (1 + z * z / trials) * math.sqrt(spread)
    return Figure(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def mean_of_shares(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> Figure:
    """Returns the mean of independent shares with its interval.

    On either side the wider of two is taken, each of which is too narrow where the other is right (see
    docs/benchmarks/intervals.md). One adds the shares' own Wilson intervals in squares: with ends lᵢ, hᵢ of m
    shares pᵢ it reaches from p - √Σ(pᵢ - lᵢ)² / m to p + √Σ(hᵢ - pᵢ)² / m (Zou and Donner 2008). The other is
    Wilson's for the mean, with as many trials as would give it the variance Σ qᵢ(1 - qᵢ) / nᵢ / m², qᵢ being pᵢ
    with one more trial that succeeds as often as all do. Unlike the bootstrap's, both have a width where every
    share is 1.

    Args:
        successes: of each share; not whole where examples have weights.
        trials: of each share; shares of 0 trials are left out.
        level: of the interval, between 0 and 1.

    Example:
        >>> print(mean_of_shares([9, 5], [10, 10]))
        0.700 [0.499, 0.845]
    """
    hits, sizes = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    hits, sizes = hits[sizes > 0], sizes[sizes > 0]
    m = len(sizes)
    if m == 0:
        return Figure(math.nan, math.nan, math.nan)
    shares = [wilson(k, n, level) for k, n in zip(hits, sizes, strict=True)]
    mean = sum(s.value for s in shares) / m
    below = math.sqrt(sum((s.value - s.low) ** 2 for s in shares)) / m
    above = math.sqrt(sum((s.high - s.value) ** 2 for s in shares)) / m
    shrunk = (hits + mean) / (sizes + 1.0)
    variance = float((shrunk * (1.0 - shrunk) / sizes).sum()) / m**2
    even = m * m / float((1.0 / sizes).sum())  # the number of trials where all shares are the same
    effective = mean * (1.0 - mean) / variance if variance > 1e-15 else even
    pooled = wilson(mean * effective, effective, level)
    return Figure(mean, max(0.0, min(mean - below, pooled.low)), max(mean, min(1.0, max(mean + above, pooled.high))))
