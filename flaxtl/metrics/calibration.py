"""Calibration: probabilities that mean what they say, and how far from it a measured error may be by chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_softmax, softmax

from flaxtl.metrics.checks import checked_probabilities

_COLDEST, _HOTTEST = 0.02, 50.0
_DRAWN = 1 << 21  # elements of the array of drawings, at least 200 drawings
# Priors of `fit_calibration`: of the temperature's logarithm, and of the share of an offset. With them a handful of
# held-out examples changes little, and a few dozen decide. Measured on some 300 draws of seven sets, 10 to 500
# examples (docs/benchmarks/unequal.md).
_HEAT_SPREAD = 0.5
USUAL_OFFSET, _OFFSET_SPREAD = 0.5, 1.0
_MANY = 10_000  # examples from which on what a bin gets right is drawn from the normal distribution


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
        A number from 0.02 to 50; 1 where the logits say nothing.

    Example:
        >>> z = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> fit_temperature(z, np.array([0, 0, 0, 1])) > 2
        True
    """
    z, y = np.asarray(logits, np.float64), np.asarray(targets)
    w = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    binary = y.ndim == 2
    turn: Callable[[np.ndarray], np.ndarray] = expit if binary else lambda v: softmax(v, axis=1)
    if not binary:  # what is common to all classes changes no probability
        z = z - z.mean(1, keepdims=True)
    if not np.abs(z[w > 0]).max(initial=0.0) > 0:
        return 1.0
    even = 0.5 if binary else 1.0 / z.shape[1]
    wanted = y if binary else np.eye(z.shape[1])[y.astype(np.int64)]
    wanted = (wanted * w.sum() + even) / (w.sum() + 1.0)
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(40):  # the loss is convex in 1 / temperature, so its slope changes sign once
        middle = 0.5 * (low + high)
        slope = (w[:, None] * (turn(z * math.exp(-middle)) - wanted) * z).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return math.exp(0.5 * (low + high))


def fit_calibration(
    logits: np.ndarray, targets: np.ndarray, offset: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Returns the temperature, and what share of an offset of the classes is added to logits that it has divided.

    The most probable values under normal priors: around 0 for the temperature's logarithm, since a head whose penalty
    was chosen by held-out log-loss is nearly calibrated, and its folds, which learn from fewer examples, are more
    timid than itself; around one half for the share. Bias-corrected temperature scaling (Alexandari, Kundaje and
    Shrikumar 2020) with the bias bound to one direction.

    Args:
        logits: float [n, c], of examples the head was not trained on.
        targets: int [n].
        offset: float [c]; zeros have the share 0.
        weights: float [n]; their sum is the number of examples that they count as.

    Example:
        >>> z = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> heat, share = fit_calibration(z, np.array([0, 0, 0, 1]), np.zeros(2))
        >>> 1.0 < heat < 2.0, share
        (True, 0.0)
    """
    z, y = np.asarray(logits, np.float64), np.asarray(targets)
    w = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    offset = np.asarray(offset, np.float64)
    usual = USUAL_OFFSET if np.any(offset != 0) else 0.0
    low, high = np.array([-math.log(_HOTTEST), -2.0]), np.array([-math.log(_COLDEST), 2.0])
    point = np.array([0.0, usual])  # the logarithm of what logits are multiplied by, and the share
    value, slope, curvature = _calibration_loss(point, z, y, w, offset, usual)
    for _ in range(50):
        step, size = np.linalg.solve(curvature, -slope), 1.0
        while size > 1e-4:
            tried = np.clip(point + size * step, low, high)
            there = _calibration_loss(tried, z, y, w, offset, usual)
            if there[0] <= value:
                break
            size /= 2.0
        else:
            break
        moved, point = float(np.abs(tried - point).max()), tried
        value, slope, curvature = there
        if moved < 1e-7:
            break
    return math.exp(-point[0]), float(point[1])


def _calibration_loss(
    point: np.ndarray, z: np.ndarray, y: np.ndarray, w: np.ndarray, offset: np.ndarray, usual: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Returns minus the logarithm of the posterior, its slope [2], and a curvature [2, 2] that is never negative."""
    factor, share = math.exp(point[0]), point[1]
    rows = log_softmax(z * factor + share * offset, axis=1)
    p, here = np.exp(rows), np.arange(len(y))
    mean_z, mean_o = (p * z).sum(1), p @ offset
    value = -float(w @ rows[here, y])
    slope = np.array([factor * float(w @ (mean_z - z[here, y])), float(w @ (mean_o - offset[y]))])
    zz = factor**2 * float(w @ ((p * z * z).sum(1) - mean_z**2)) + max(slope[0], 0.0)
    zo = factor * float(w @ ((p * z) @ offset - mean_z * mean_o))
    oo = float(w @ (p @ offset**2 - mean_o**2))
    away, spread = point - np.array([0.0, usual]), np.array([_HEAT_SPREAD, _OFFSET_SPREAD])
    value += 0.5 * float(np.square(away / spread).sum())
    return value, slope + away / spread**2, np.array([[zz, zo], [zo, oo]]) + np.diag(1.0 / spread**2)


def calibration_band(
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    level: float = 0.95,
    bins: int = 10,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns where the calibration error of a perfectly calibrated model with these probabilities would lie.

    A finite set shows an error even where there is none. Labels are drawn from the probabilities themselves, and the
    error of each drawing is measured as the model's is (consistency resampling: Bröcker and Smith 2007;
    Vaicenavicius et al. 2019).

    Args:
        probabilities: float [n, c], rows that sum to 1.
        weights: float [n], not negative; None is 1 each.
        level: the share of drawings that lie in the band, as many below it as above.
        bins: of equal mass, as in `evaluate`.
        draws: number of drawings; fewer, but no fewer than 200, where examples are many.
        seed: of the drawings.

    Example:
        >>> low, high = calibration_band(np.full((100, 2), 0.5))
        >>> low < 0.01, 0.05 < high < 0.15
        (True, True)
    """
    confidence = checked_probabilities(probabilities)[0].max(1)
    w = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
    return Calibration.of(confidence, np.zeros_like(confidence), w, bins, draws, seed).band(level)


class ReliabilityBin(NamedTuple):
    """Predictions of about equal confidence: how sure, how often right, and how often right by calibrated chance."""

    examples: int
    confidence: float
    accuracy: float
    low: float
    high: float


def reliability(
    probabilities: np.ndarray, targets: np.ndarray, *, bins: int = 10, level: float = 0.95, seed: int = 0
) -> list[ReliabilityBin]:
    """Returns the reliability diagram's bins, of equal mass, with consistency bars (Bröcker and Smith 2007).

    Args:
        probabilities: float [n, c], rows that sum to 1.
        targets: int [n].
        bins: at most; bins without examples are left out. No example gives no bin.
        level: the share of drawings from the probabilities themselves that lie between a bin's low and high.
        seed: of the drawings.

    Raises:
        DataError: probabilities that are none, or targets that are no class numbers.

    Example:
        >>> p = np.tile([[0.9, 0.1]], (10, 1))
        >>> [(b.examples, round(b.confidence, 2), round(b.accuracy, 2)) for b in reliability(p, np.arange(10) % 2)]
        [(10, 0.9, 0.5)]
    """
    p, y = checked_probabilities(probabilities, targets)
    if not len(p):
        return []
    right = (p.argmax(1) == y).astype(np.float64)
    found = Calibration.of(p.max(1), right, np.ones(len(p)), bins, 1000, seed)
    drawn = np.quantile(found.drawn_right() / found.share, [0.5 - level / 2.0, 0.5 + level / 2.0], axis=0)
    sure = np.add.reduceat(found.weight * found.confidence, found.starts) / found.share
    hit = sure - found.excess / found.share
    rows = zip(np.rint(found.share * len(p)), sure, hit, *drawn, strict=True)
    return [ReliabilityBin(int(n), float(c), float(a), float(lo), float(hi)) for n, c, a, lo, hi in rows]


class Calibration(NamedTuple):
    """How sure a classifier was of its predictions and which of them were right, ordered by bins of equal mass.

    Attributes:
        confidence: float [n], the probability of the predicted class.
        weight: float [n], sums to 1.
        starts: int [bins], where each bin begins; bins without examples are left out.
        share: float [bins], of the whole weight.
        excess: float [bins], confidence beyond what is right, times the share.
        noise: float32 [draws, n], from 0 to 1; an example is right where its chance exceeds them. Or float
            [draws, bins], normal, for many examples.
    """

    confidence: np.ndarray
    weight: np.ndarray
    starts: np.ndarray
    share: np.ndarray
    excess: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(
        cls, confidence: np.ndarray, right: np.ndarray, w: np.ndarray, bins: int, draws: int, seed: int
    ) -> Calibration:
        """Bins the predictions; the drawings are the same for the same seed."""
        bin_of = equal_mass(confidence, w, bins)
        order = np.argsort(bin_of, kind="stable")
        confidence = np.clip(confidence, 0.0, 1.0)  # a sum of rounded terms may exceed 1
        _, starts = np.unique(bin_of[order], return_index=True)
        sure, weight = confidence[order], w[order] / w.sum()
        excess = np.add.reduceat(weight * (sure - right[order]), starts)
        rng, n = np.random.default_rng(seed), len(order)
        draws = min(draws, max(200, _DRAWN // n))
        noise = rng.normal(size=(draws, len(starts))) if n > _MANY else rng.random((draws, n), np.float32)
        return cls(sure, weight, starts, np.add.reduceat(weight, starts), excess, noise)

    @property
    def error(self) -> float:
        """The measured calibration error."""
        return float(np.abs(self.excess).sum())

    def drawn_right(self, chance: np.ndarray | None = None) -> np.ndarray:
        """Returns what is right in each bin [draws, bins] if example i is with chance[i]; None: calibrated."""
        chance = self.confidence if chance is None else chance
        if len(chance) <= _MANY:
            return np.asarray(np.add.reduceat(self.weight * (self.noise < chance), self.starts, axis=1))
        spread = np.sqrt(np.add.reduceat(np.square(self.weight) * chance * (1.0 - chance), self.starts))
        return np.asarray(np.add.reduceat(self.weight * chance, self.starts) + spread * self.noise)

    def drawn_errors(self, chance: np.ndarray | None = None) -> np.ndarray:
        """Returns the calibration errors [draws] of such drawings."""
        certain = np.add.reduceat(self.weight * self.confidence, self.starts)
        return np.asarray(np.abs(certain - self.drawn_right(chance)).sum(1))

    def band(self, level: float) -> tuple[float, float]:
        """Returns where the error of calibrated predictions lies; see `calibration_band`."""
        low, high = np.quantile(self.drawn_errors(), [0.5 - level / 2.0, 0.5 + level / 2.0])
        return float(low), float(high)

    def interval(self, level: float) -> tuple[float, float]:
        """Returns the errors that the measured one is compatible with, by test inversion (Carpenter 1999).

        A true error is kept if drawings with it are neither mostly above nor mostly below the measured. How it is
        divided among the bins is not known: as measured, each bin with three more examples of the
        overall excess; and, for the upper end, also evenly, since bins without a mistake tell little.
        """
        tail, three = 0.5 - level / 2.0, 3.0 / len(self.confidence)
        smooth = (self.excess + three * self.excess.sum()) / (self.share + three)
        highest = max(self._furthest(profile, 1.0, tail) for profile in (smooth, np.ones_like(smooth)))
        lowest = self._furthest(smooth, 0.0, 1.0 - tail)
        return min(lowest, self.error), max(highest, self.error)

    def _furthest(self, profile: np.ndarray, far: float, quantile: float) -> float:
        """Returns the error furthest towards `far` whose drawings' quantile does not pass the measured one."""
        scaled = profile / max(float(np.abs(profile) @ self.share), 1e-12)
        unit = np.repeat(scaled, np.diff(np.r_[self.starts, len(self.confidence)]))

        def chance(error: float) -> np.ndarray:
            return np.clip(self.confidence - error * unit, 0.0, 1.0)

        def kept(error: float) -> bool:
            found = np.quantile(self.drawn_errors(chance(error)), quantile)
            beyond = found - self.error if far > self.error else self.error - found
            return bool(beyond <= 1e-7)  # a drawing may equal the measured but for rounding

        near, end = (far if kept(far) else self.error), far
        for _ in range(12):  # bisection
            middle = 0.5 * (near + end)
            near, end = (middle, end) if kept(middle) else (near, middle)
        error = np.add.reduceat(self.weight * (self.confidence - chance(near)), self.starts)
        return float(np.abs(error).sum())


def equal_mass(confidence: np.ndarray, w: np.ndarray, bins: int) -> np.ndarray:
    """Returns each example's bin; equal confidences share one, so that the order of examples cannot matter."""
    # Rounded: what is equal on paper differs in the last digits between logits and probabilities.
    _, group = np.unique(confidence.round(9), return_inverse=True)
    mass = np.bincount(group, w)
    middle = np.cumsum(mass) - mass / 2
    return np.minimum(middle / w.sum() * bins, bins - 1).astype(np.int64)[group]
