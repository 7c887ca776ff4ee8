"""The learning curve of a solved head, and what it foretells of more labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from flaxtl.data import Source, few_shot
from flaxtl.probe.simple_heads import scale
from flaxtl.probe.solve import fit_path

_REPEATS = 6
_FARTHEST = 2.0  # times as many labels are foretold; farther no curve of so few points can see


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Held-out accuracy by number of training examples.

    Attributes:
        examples: int [k], ascending.
        accuracy: float [k], mean over subsets.
        error: float [k], standard error of the mean.
        foretold: (examples, accuracy, low, high) at twice as many as there are; None where the curve has too few
            points.
    """

    examples: tuple[int, ...]
    accuracy: tuple[float, ...]
    error: tuple[float, ...]
    foretold: tuple[int, float, float, float] | None

    @property
    def rising(self) -> bool:
        """Whether the last point lies above the one before by more than the standard error of their difference."""
        if len(self.accuracy) < 2:
            return True  # nothing speaks against it
        noise = float(np.hypot(self.error[-1], self.error[-2]))
        return self.accuracy[-1] - self.accuracy[-2] > noise

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        names = ("examples", "accuracy", "low", "high")
        return {
            "examples": list(self.examples),
            "accuracy": list(self.accuracy),
            "accuracy_se": list(self.error),
            "foretold": None if self.foretold is None else dict(zip(names, self.foretold, strict=True)),
        }


def learning_curve(
    features: np.ndarray,
    source: Source,
    *,
    scaling: str,
    strength: float,
    names: np.ndarray | None = None,
    seed: int = 0,
) -> LearningCurve:
    """Solves heads on subsets, judges each on the examples that it left out, and fits a power law.

    Subsets have 1, 2, 4, … examples of each class, up to four fifths of the smaller classes. The error of a
    classifier falls like a + b n^-c in the number of examples n (Hestness et al. 2017); a, b ≥ 0 and 0.1 ≤ c ≤ 1
    are fitted to the points, and the interval of what is foretold spans fits to resampled subsets.

    Args:
        features: float [n, d].
        source: the n examples; those that share a group with one of a subset are not judged by it.
        scaling: how features are scaled; what cross-validation chose.
        strength: of the penalty, likewise.
        names: float [classes, d], one further example of each class that every subset has; see `flaxtl.probe.names`.
        seed: of the subsets.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(60) % 2
        >>> source = Source.of('array', y, [str(label) for label in y])
        >>> curve = learning_curve(rng.normal(size=(60, 4)) + y[:, None], source, scaling='standard', strength=0.1)
        >>> curve.examples, curve.accuracy[-1] > curve.accuracy[0]
        ((2, 4, 8, 16, 32, 48), True)
    """
    counts = np.bincount(source.targets, minlength=len(source.labels))
    usual = int(np.median(counts[counts > 0]))
    shots = [s for s in (2**k for k in range(20)) if s < 0.8 * usual] + [int(0.8 * usual)]
    shots = sorted({s for s in shots if 1 <= s < usual})
    features = np.asarray(features, np.float32)
    scaled, _, _ = scale(features if names is None else np.concatenate([features, names]), scaling)
    points = [_point(scaled, source, shot, strength, seed) for shot in shots]
    points = [(n, values) for n, values in points if len(values) > 1]
    sizes = tuple(n for n, _ in points)
    means = tuple(float(np.mean(v)) for _, v in points)
    errors = tuple(float(np.std(v, ddof=1) / np.sqrt(len(v))) for _, v in points)
    wanted = int(_FARTHEST * len(source))
    return LearningCurve(sizes, means, errors, _foretold(sizes, [v for _, v in points], wanted, seed))


def _point(scaled: np.ndarray, source: Source, shot: int, strength: float, seed: int) -> tuple[int, list[float]]:
    """Returns the mean size of the subsets and the accuracy outside each; all are solved in one program.

    Rows of `scaled` beyond the source's are of one further example of each class, in order.
    """
    weights, judged = [], []
    sizes: list[int] = []
    further = np.arange(len(scaled) - len(source))
    targets = np.concatenate([source.targets, further])
    for repeat in range(_REPEATS):
        chosen, rest = few_shot(source, shot, seed + 1000 * repeat)
        if len(rest) and len(np.unique(source.targets[chosen])) > 1:
            weights.append(np.bincount(chosen, minlength=len(source)).astype(np.float64))
            sizes.append(len(chosen))
            judged.append(rest)
    if not weights:
        return 0, []
    whole = np.concatenate([np.stack(weights), np.ones((len(weights), len(further)))], axis=1)
    path = fit_path(scaled, targets, len(source.labels), [strength], whole)
    accuracies = [float(path.correct[0, fold, rest].mean()) for fold, rest in enumerate(judged)]
    return round(float(np.mean(sizes))), accuracies


def _foretold(
    sizes: Sequence[int], values: Sequence[Sequence[float]], wanted: int, seed: int
) -> tuple[int, float, float, float] | None:
    if len(sizes) < 3:
        return None
    n = np.asarray(sizes, np.float64)
    here = _power_law(n, np.array([1.0 - np.mean(v) for v in values]), wanted)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(200):
        sample = np.array([1.0 - np.mean(rng.choice(np.asarray(v), len(v))) for v in values])
        drawn.append(_power_law(n, sample, wanted))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return wanted, 1.0 - here, 1.0 - max(float(high), here), 1.0 - min(float(low), here)


def _power_law(n: np.ndarray, error: np.ndarray, wanted: int) -> float:
    """Fits a + b n^-c and returns its value, kept between 0 and the last point's."""
    start = n[0]

    def off(theta: np.ndarray) -> np.ndarray:
        a, b, c = theta
        return (a + b * (n / start) ** -c - error) * np.sqrt(n / start)  # larger subsets say more of what follows

    guess = [0.5 * error[-1], max(error[0] - 0.5 * error[-1], 1e-3), 0.5]
    found = least_squares(off, guess, bounds=([0.0, 0.0, 0.1], [1.0, 2.0, 1.0]))
    a, b, c = found.x
    return float(np.clip(a + b * (wanted / start) ** -c, 0.0, max(error[-1], 0.0)))
