"""What measuring returns: values with intervals, the table of classes, and the intervals of shares."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
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

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        rows = [{**dataclasses.asdict(r), "recall": r.recall.to_dict()} for r in self.classes]
        rows = [{k: None if v != v else v for k, v in r.items()} for r in rows]  # NaN is not itself
        return {
            "examples": self.examples,
            "labels": list(self.labels),
            "level": self.level,
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "ece_band": list(self.ece_band),
            "confusion": self.confusion.tolist(),
            "classes": rows,
        }

    def summary(self) -> str:
        """Returns a table for the terminal."""
        lines = [f"{self.examples} examples, {self.level:.0%} intervals"]
        lines += [f"{name.replace('_', ' '):<18} {figure}" for name, figure in self.figures.items()]
        low, high = self.ece_band
        lines.append(f"{'':<18} (an ece of {low:.3f} to {high:.3f} is what perfect calibration shows here by chance)")
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
    return Figure(mean, max(0.0, min(mean - below, pooled.low)), min(1.0, max(mean + above, pooled.high)))
