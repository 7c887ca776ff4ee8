"""Intervals by resampling the examples: Studentised for means, BCa for macro-F1."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr, ndtri

from flaxtl.metrics.figures import Figure, mean_of_shares, wilson
from flaxtl.metrics.measures import Values, effective, macro_f1, macro_f1_influence, ratio
from flaxtl.metrics.student import freedom, quantile

_ELEMENTS = 1 << 22  # of one [resamples, examples] array


@dataclasses.dataclass(frozen=True, eq=False)
class Bootstrap:
    """Resamples of n examples, the same for every figure.

    Attributes:
        strata: the examples that are resampled among themselves.
        examples: n.
        resamples: how often.
        level: of the intervals.
        seed: of the resampling.
    """

    strata: tuple[np.ndarray, ...]
    examples: int
    resamples: int
    level: float
    seed: int

    @classmethod
    def of(cls, targets: np.ndarray, resamples: int, level: float, stratified: bool, seed: int) -> Bootstrap:
        """Prepares resampling, within each class if `stratified`."""
        kinds = targets if stratified else np.zeros_like(targets)
        strata = tuple(np.flatnonzero(kinds == kind) for kind in np.unique(kinds))
        return cls(strata, len(targets), resamples, level, seed)

    def counts(self) -> Iterator[np.ndarray]:
        """Yields how often each example is drawn, float [some, n], until there are enough resamples."""
        rng = np.random.default_rng(self.seed)
        some = max(1, _ELEMENTS // self.examples)
        for first in range(0, self.resamples, some):
            drawn = np.empty((min(some, self.resamples - first), self.examples))
            for rows in self.strata:
                drawn[:, rows] = _drawn(rng, len(rows), len(drawn))
            yield drawn

    def mean(
        self, values: np.ndarray, w: np.ndarray, if_wrong: np.ndarray | None = None, most: float = math.inf
    ) -> Figure:
        """Returns the weighted mean of values [n] ≥ 0 with the Studentised interval.

        A resample without the few large values has almost no spread, and its Studentised mean would have no bounds:
        each resample's variance counts as if half an example more had the measured one. Examples without a
        mistake cannot tell what mistakes cost. The upper end then allows for as many as accuracy's does, at the values
        `if_wrong` that the examples would have if their second guess were right. No value exceeds `most`.
        """
        value = float(w @ values / w.sum())
        centred = values - value
        moments = np.stack([w, w * centred, w**2, w**2 * centred, w**2 * centred**2], axis=1)
        variance, half = self._variance(np.ones((1, self.examples)), moments)[0], 0.5 / self.examples
        if not variance > 1e-24 * max(1.0, value) ** 2:
            return Figure(value, math.nan, math.nan)
        ratios = []
        for drawn in self.counts():
            moved = (drawn @ moments[:, 1]) / (drawn @ moments[:, 0]).clip(1e-300)
            spread = (self._variance(drawn, moments) + half * variance) / (1.0 + half)
            ratios.append(moved / np.sqrt(spread))
        above, below = np.quantile(np.concatenate(ratios), self._tails) * math.sqrt(variance)
        low, high = max(0.0, value - float(below)), value - float(above)
        if if_wrong is not None:
            effective = w.sum() ** 2 / np.square(w).sum()
            mistakes = 1.0 - wilson(effective, effective, self.level).low
            high = max(high, value + mistakes * (float(w @ if_wrong / w.sum()) - value))
        return Figure(value, min(low, value), max(value, min(high, most)))

    @property
    def _tails(self) -> list[float]:
        return [0.5 - self.level / 2.0, 0.5 + self.level / 2.0]

    def _variance(self, drawn: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Returns the estimated variance of the mean [b] of resamples [b, n]; see `mean` for the moments."""
        total, moved = (drawn @ moments[:, :2]).T
        mean = moved / total.clip(1e-300)
        found = np.zeros(len(drawn))
        for rows in self.strata:  # of w (value - mean), within each stratum
            w, wv, ww, wwv, wwvv = (drawn[:, rows] @ moments[rows]).T
            found += wwvv - 2.0 * mean * wwv + mean**2 * ww - (wv - mean * w) ** 2 / len(rows)
        return np.maximum(found, 0.0) / total.clip(1e-300) ** 2

    def macro_f1(self, v: Values, w: np.ndarray) -> Figure:
        """Returns the macro-F1 with its BCa interval.

        Where every class's F1 is 0 or 1, no example moves the macro-F1 to first order, and the resamples show no
        more than which classes they lack. F1 is the share of right ones among a class's examples and predictions
        together; the interval is then `mean_of_shares` of these, each with half as many trials. Without a mistake
        this is the balanced accuracy's.

        The tails are Student's, with the degrees of freedom that the classes leave: percentiles alone are too narrow
        where a class has few examples (Hesterberg 2015, "expanded" percentiles).
        """
        value = float(macro_f1(v, w[None])[0])
        influence = macro_f1_influence(v, w)
        moved = float(np.square(influence).sum())
        if not moved > 1e-24:
            return self._extreme_macro_f1(v, w, value)
        drawn = np.concatenate([macro_f1(v, counts * w) for counts in self.counts()])
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn) == 0 or np.ptp(drawn) <= 1e-12:
            return Figure(value, math.nan, math.nan)
        below = (drawn < value - 1e-12).mean() + 0.5 * (np.abs(drawn - value) <= 1e-12).mean()
        bias = ndtri(np.clip(below, 0.5 / len(drawn), 1.0 - 0.5 / len(drawn)))
        skew = (influence**3).sum() / (6.0 * moved**1.5)
        student = quantile(0.5 + self.level / 2.0, freedom(influence, v.target, w))
        z = bias + np.array([-student, student])
        # Beyond 1 / skew the transformation has no value; its limit is the outermost resample.
        shrink = 1.0 - skew * z
        shifted = np.where(shrink > 1e-9, z / np.where(shrink > 1e-9, shrink, 1.0), np.copysign(np.inf, z))
        low, high = np.quantile(drawn, ndtr(bias + shifted))
        return Figure(value, min(float(low), value), max(float(high), value))

    def _extreme_macro_f1(self, v: Values, w: np.ndarray, value: float) -> Figure:
        """Returns the macro-F1 where each class's F1 is 0 or 1."""
        both = v.target + v.predicted
        f1 = ratio(2.0 * (w @ v.hit), w @ both)
        counted = ~np.isnan(f1)
        sizes = 0.5 * (effective(v.target, w) + effective(v.predicted, w))
        found = mean_of_shares(f1[counted] * sizes[counted], sizes[counted], self.level)
        return Figure(value, min(found.low, value), max(found.high, value))


def _drawn(rng: np.random.Generator, n: int, times: int) -> np.ndarray:
    """Returns how often each of n is drawn in n drawings, [times, n]."""
    places = rng.integers(n, size=(times, n)) + n * np.arange(times)[:, None]
    return np.bincount(places.ravel(), minlength=times * n).reshape(times, n)
