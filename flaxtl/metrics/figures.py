"""What measuring returns: values with intervals, the table of classes, and the intervals of shares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri


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
        if math.isnan(self.value):
            return "unknown"
        return (
            f"{self.value:.3f} ["
            + ("no interval" if math.isnan(self.low) else f"{self.low:.3f}, {self.high:.3f}")
            + "]"
        )


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """One class: how many examples it has, what share is found, what share of its predictions is right."""

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
    z, share = float(ndtri(0.5 + level / 2.0)), float(successes / trials)
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = max(share * (1 - share), 0.0) / trials + z * z / (4 * trials**2)
    half = z / (1 + z * z / trials) * math.sqrt(spread)
    return Figure(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def mean_of_shares(shares: Sequence[Figure]) -> Figure:
    """Returns the mean of independent shares; its interval adds theirs in squares.

    With low and high ends lᵢ, hᵢ of m shares pᵢ the mean lies between p - √Σ(pᵢ - lᵢ)² / m and
    p + √Σ(hᵢ - pᵢ)² / m (Zou and Donner 2008; Newcombe 1998 did so for two Wilson
    intervals). Unlike the bootstrap's it has a width where every share is 1.

    Args:
        shares: those that are NaN are left out.

    Example:
        >>> print(mean_of_shares([wilson(9, 10), wilson(5, 10)]))
        0.700 [0.499, 0.838]
    """
    there = [s for s in shares if not math.isnan(s.value)]
    if not there:
        return Figure(math.nan, math.nan, math.nan)
    m, mean = len(there), sum(s.value for s in there) / len(there)
    below = math.sqrt(sum((s.value - s.low) ** 2 for s in there)) / m
    above = math.sqrt(sum((s.high - s.value) ** 2 for s in there)) / m
    return Figure(mean, max(0.0, mean - below), min(1.0, mean + above))
