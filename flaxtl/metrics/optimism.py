"""The score of the best of several candidates without the optimism of having been chosen by that score."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from flaxtl.errors import ConfigError, DataError
from flaxtl.metrics.figures import Figure, wilson

_OUT = math.exp(-1.0)  # the share of examples that a resample leaves out


def corrected_winner(
    results: np.ndarray,
    *,
    larger_is_better: bool,
    groups: Sequence[Hashable] | None = None,
    weights: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Figure:
    """Estimates how good the candidate is that looks best, had it not been judged by what chose it.

    Bootstrap bias-corrected cross-validation (BBC-CV: Tsamardinos, Greasidou and Borboudakis 2018): in each resample
    of the examples the candidate that is best in it is judged on the examples that it leaves out. No model is trained
    again. The spread of the judgements on m left-out of n examples is scaled by √(m / (n - m)) to that of a
    mean of n (Shao and Wu 1989).

    Args:
        results: float [n, candidates], each example's loss or 0/1 for wrong and right, from a model that did not
            see it (out of fold); examples with a NaN are left out.
        larger_is_better: True for right answers, False for losses.
        groups: one an example; a group is drawn or left out as one.
        weights: float [n], not negative; None is 1 each.
        level: of the interval, between 0 and 1.
        resamples: how many.
        seed: of the resampling.

    Returns:
        The corrected mean with its interval; NaN where fewer than two examples or groups are left.

    Raises:
        DataError: shapes that do not fit.
        ConfigError: an impossible level or number of resamples.

    Example:
        >>> noise = np.random.default_rng(0).integers(2, size=(50, 200))  # 200 candidates that only guess
        >>> bool(noise.mean(0).max() > 0.64), 0.4 < corrected_winner(noise, larger_is_better=True).value < 0.56
        (True, True)
    """
    values = np.asarray(results, np.float64)
    w = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    if values.ndim != 2 or values.shape[1] == 0 or len(w) != len(values):
        raise DataError(f"Found results {values.shape} and weights {w.shape}; expected [n, candidates] and [n].")
    if not 0 < level < 1 or resamples < 1:
        raise ConfigError(
            f"Found level {level} and {resamples} resamples; expected one between 0 and 1, and one or more."
        )
    known = ~np.isnan(values).any(1) & (w > 0)
    unit = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    _, unit = np.unique(unit[known], return_inverse=True)
    values, w = values[known], w[known]
    units = int(unit.max(initial=-1)) + 1
    if units < 2:
        return Figure(math.nan, math.nan, math.nan)
    judged = _judged(values if larger_is_better else -values, w, unit, units, resamples, seed)
    value = float(judged.mean()) * (1.0 if larger_is_better else -1.0)
    binary = bool(np.isin(values, (0.0, 1.0)).all())
    if np.ptp(judged) <= 1e-12:
        return wilson(value * units, units, level) if binary else Figure(value, math.nan, math.nan)
    return _figure(value, np.sort(judged if larger_is_better else -judged), level, binary)


def _figure(value: float, judged: np.ndarray, level: float, binary: bool) -> Figure:
    tails = [0.5 - level / 2.0, 0.5 + level / 2.0]
    low, high = value + math.sqrt(_OUT / (1.0 - _OUT)) * (np.quantile(judged, tails) - value)
    least, most = (0.0, 1.0) if binary else (-math.inf, math.inf)
    return Figure(value, min(value, max(least, float(low))), max(value, min(most, float(high))))


def _judged(values: np.ndarray, w: np.ndarray, unit: np.ndarray, units: int, resamples: int, seed: int) -> np.ndarray:
    """Returns what the candidate that is best in a resample scores outside it, [resamples]."""
    totals, weight = np.zeros((units, values.shape[1])), np.bincount(unit, w, units)
    np.add.at(totals, unit, w[:, None] * values)
    rng = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < resamples:
        counts = np.bincount(rng.integers(units, size=units), minlength=units)
        out = counts == 0
        if out.any():  # of two units, half of the resamples leave none out
            best = int(((counts @ totals) / (counts @ weight)).argmax())
            found.append(float(totals[out, best].sum() / weight[out].sum()))
    return np.array(found)
