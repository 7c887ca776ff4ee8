"""Logistic regression to convergence: every strength × every fold in one compiled program.

* Features are centred and turned to their principal axes first. The bias is not penalised and the penalty
  does not change under rotation, so the solution is the same; where examples are fewer than features, their
  number is all the dimensions that remain.
* In these axes the diagonal of the Hessian is a good preconditioner, so Newton's method with conjugate
  gradients (truncated by the test of Nash and Sofer 1990) needs few products with the features, and its
  line search none.
* A fold is a column of example weights; the parameters of all folds stand in one matrix. The path runs from
  strong to weak penalties, each starting where the last ended.

Sizes are padded to a few values (with examples of no weight, axes of no length, classes of no
probability), which changes no solution and lets problems of similar size share a compiled program.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import get_args

import jax.numpy as jnp
import numpy as np

from flaxtl.errors import ConfigError, DataError, listed
from flaxtl.probe.newton import Kind, Problem, solve_path

_ELEMENTS = 1 << 24  # of one [examples, folds, classes] array; more folds are solved in turns
_NEVER = -1e30  # the logit of a class that only fills up
_FEWEST = 8  # strengths that are solved at once; the last is repeated, which takes a step each
_LARGEST = 1e15  # of features: their squares must fit into single precision
_LEAD = 30.0  # how far apart the strengths are that lead to a weak first one


@dataclasses.dataclass(frozen=True, eq=False)
class LogisticPath:
    """The solutions for s strengths × f sets of example weights, s in the order they were asked for.

    Attributes:
        theta: float32 [s, r + 1, f, c], in the principal axes; the last row is the bias.
        axes: float32 [d, r], the principal axes.
        mean: float32 [d], of the features.
        objective: float32 [s, f], the weighted losses over the largest total weight of a fold, plus the penalty.
        losses: float32 [s, f, n], of every example, in the fold or not, without smoothing.
        correct: float32 [s, f, n], 1 where the prediction is right; multilabel: the share of right labels.
        iterations: int32 [s], Newton steps of the slowest fold.
        converged: bool [s, f]; False where the steps or single precision did not suffice, which on separable
            data begins at strengths of some 1e-9 times the features' total variance.
    """

    theta: np.ndarray
    axes: np.ndarray
    mean: np.ndarray
    objective: np.ndarray
    losses: np.ndarray
    correct: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray

    def kernel(self, strength: int, fold: int = 0) -> np.ndarray:
        """Returns the weights float32 [d, c] of one solution, for the features as they were given."""
        return self.axes @ self.theta[strength, :-1, fold]

    def bias(self, strength: int, fold: int = 0) -> np.ndarray:
        """Returns the bias float32 [c] of one solution, for the features as they were given."""
        wide = self.kernel(strength, fold).astype(np.float64)  # a large mean would cancel most digits
        return (self.theta[strength, -1, fold] - self.mean @ wide).astype(np.float32)


def fit_path(
    features: np.ndarray,
    targets: np.ndarray,
    classes: int,
    strengths: Sequence[float] | np.ndarray,
    fold_weights: np.ndarray | None = None,
    *,
    task: Kind = "classification",
    smoothing: float = 0.0,
    tolerance: float = 1e-4,
    max_iterations: int = 50,
) -> LogisticPath:
    """Solves logistic regression for all strengths and all sets of example weights.

    The objective of one problem is Σ wᵢ loss(xᵢ W + b, yᵢ) / m + strength/2 · ‖W‖², where m is the largest total
    weight of a fold: the penalty stays the same beside each example, however many a fold leaves out, so that what is
    best of the folds is best of everything. scikit-learn's C for the same solution is 1 / (strength · m). In the
    multilabel task the loss is the sum of the binary losses of all classes, so each class is solved as if alone.

    Args:
        features: float [n, d].
        targets: int [n], the class of each example, or float [n, classes]: rows that sum to 1, or in the
            multilabel task numbers from 0 to 1.
        classes: number of classes; one that no example of a fold has gets a probability near 0 there.
        strengths: float [s], above 0.
        fold_weights: float [f, n]; a fold is a set of weights that are zero for its held-out examples.
            None is one fold with all weights 1.
        task: "classification" (softmax) or "multilabel" (a sigmoid a class).
        smoothing: the share of each target that is spread evenly over the classes (or over yes and no).
        tolerance: the expected decrease, relative to the objective, at which a solution is taken as final.
        max_iterations: Newton steps for one strength.

    Returns:
        The path; `kernel` and `bias` give single solutions.

    Raises:
        DataError: features, targets or weights that no solution can be found for.
        ConfigError: an impossible setting.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
        >>> path = fit_path(x, np.array([0, 0, 1, 1]), 2, [0.1])
        >>> (x @ path.kernel(0) + path.bias(0)).argmax(-1).tolist()
        [0, 0, 1, 1]
    """
    features = np.asarray(features, np.float32)
    strengths = np.asarray(strengths, np.float32)
    weights = np.ones((1, len(features))) if fold_weights is None else np.asarray(fold_weights)
    _check_settings(strengths, task, smoothing)
    _check(features, weights, targets)
    classes = int(classes)
    wanted = one_hot(targets, classes)
    _check_shares(wanted, task)
    even = 0.5 if task == "multilabel" else 1.0 / classes
    mean = features.mean(0, dtype=np.float64).astype(np.float32)
    rotated, axes = principal_axes(features - mean)
    order = np.argsort(-strengths, kind="stable")
    share = (weights / weights.sum(1).max()).astype(np.float32)
    at_once = max(1, _ELEMENTS // (_bucket(len(features)) * _bucket(classes)))
    solve = functools.partial(
        _solve_folds, rotated, wanted, even, strengths[order], task, smoothing, tolerance, max_iterations
    )
    parts = [solve(share[i : i + at_once]) for i in range(0, len(share), at_once)]
    back = np.argsort(order)
    theta, objective, losses, correct, converged = (
        np.concatenate(p, axis)[back]
        for p, axis in zip(list(zip(*parts, strict=True))[:5], (2, 1, 1, 1, 1), strict=True)
    )
    iterations = np.max([p[5] for p in parts], axis=0)[back]
    return LogisticPath(theta, axes, mean, objective, losses, correct, iterations, converged)


def one_hot(targets: np.ndarray, classes: int) -> np.ndarray:
    """Returns targets as float32 [n, classes]; those that already have two dimensions are left as they are.

    Raises:
        DataError: no whole number, a class below 0 or not below `classes`, or a wrong number of columns.

    Example:
        >>> one_hot(np.array([1, 0]), 2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    targets = np.asarray(targets)
    if targets.ndim == 2:
        if targets.shape[1] != classes:
            raise DataError(f"The targets have {targets.shape[1]} columns; expected {classes}, one a class.")
        return targets.astype(np.float32)
    if len(targets) and (targets.min() < 0 or targets.max() >= classes or (targets % 1 != 0).any()):
        raise DataError(
            f"The targets run from {targets.min()} to {targets.max()}; expected whole numbers from 0 to {classes - 1}. "
            "Number the classes from 0, and leave out what has no label."
        )
    return np.eye(classes, dtype=np.float32)[targets.astype(np.int64)]


def principal_axes(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns centred features to their principal axes.

    Args:
        centred: float [n, d].

    Returns:
        (float32 [n, r] rotated features, float32 [d, r] orthonormal axes); r = d where n ≥ d, else at most
        n, and then nothing is lost: centred = rotated @ axes.T. Features that are all 0 have one axis of 0.
    """
    n, d = centred.shape
    if n >= d:  # any rotation is exact, so single precision will do
        _, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, ::-1]
        return centred @ axes, np.ascontiguousarray(axes)
    wide = centred.astype(np.float64)
    values, vectors = np.linalg.eigh(wide @ wide.T)
    keep = values > max(values.max(), 1e-30) * 1e-12
    keep[-1] = True  # constant features still need one axis to stand on
    values, vectors = values[keep][::-1], vectors[:, keep][:, ::-1]
    axes = wide.T @ (vectors / np.sqrt(np.maximum(values, 1e-30)))
    return (wide @ axes).astype(np.float32), axes.astype(np.float32)


def _check_settings(strengths: np.ndarray, task: str, smoothing: float) -> None:
    if task not in get_args(Kind):
        raise ConfigError(f"The task is {task!r}; expected one of {listed(get_args(Kind))}.")
    if strengths.ndim != 1 or len(strengths) == 0 or not ((strengths > 0) & np.isfinite(strengths)).all():
        raise ConfigError(f"The strengths are {strengths.tolist()}; expected numbers above 0.")
    if not 0.0 <= smoothing < 1.0:
        raise ConfigError(f"Label smoothing is {smoothing}; expected a share from 0 to below 1.")


def _check(features: np.ndarray, weights: np.ndarray, targets: np.ndarray) -> None:
    n = len(features)
    if features.ndim != 2 or len(targets) != n or weights.ndim != 2 or weights.shape[1] != n:
        raise DataError(
            f"Found features {features.shape}, {len(targets)} targets and weights {weights.shape}; "
            "expected features [n, d], n targets and weights [folds, n]."
        )
    if not (np.abs(features) <= _LARGEST).all():
        raise DataError("The features hold NaN, infinite or extreme numbers. Leave those examples out.")
    if not ((weights >= 0) & np.isfinite(weights)).all() or not (weights.sum(1) > 0).all():
        raise DataError("Each fold needs weights that are not negative and an example with a weight above 0.")


def _check_shares(wanted: np.ndarray, task: Kind) -> None:
    whole = task == "multilabel" or (np.abs(wanted.sum(1) - 1.0) < 1e-3).all()
    if not whole or not ((wanted >= 0) & (wanted <= 1)).all():
        rows = "" if task == "multilabel" else ", each row with the sum 1"
        raise DataError(f"The targets hold NaN or other numbers than shares; expected 0 to 1{rows}.")


def _bucket(size: int) -> int:
    """Rounds a size up to one of four between two powers of two."""
    step = max(1, 1 << max(0, (size - 1).bit_length() - 3))
    return -(-size // step) * step


def _solve_folds(
    rotated: np.ndarray,
    targets: np.ndarray,
    even: float,
    strengths: np.ndarray,
    task: Kind,
    smoothing: float,
    tolerance: float,
    max_iterations: int,
    share: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Pads, solves and cuts the padding off; strengths come from strong to weak."""
    (n, r), c, f, s = rotated.shape, targets.shape[1], len(share), len(strengths)
    rows, columns, folds, outputs = _bucket(max(n, 16)), _bucket(max(r, 16)), _bucket(f), _bucket(c)
    x, y = np.zeros((rows, columns), np.float32), np.zeros((rows, outputs), np.float32)
    w, offset = np.zeros((rows, folds), np.float32), np.full(outputs, _NEVER, np.float32)
    x[:n, :r], y[:n, :c], w[:n, :f], offset[:c] = rotated, targets, share.T, 0.0
    w[:n, f:] = share[0][:, None]  # a fold that only fills up solves what the first solves
    smooth = np.where(offset == 0.0, y * (1.0 - smoothing) + smoothing * even, 0.0).astype(np.float32)
    data = Problem(*map(jnp.asarray, (x, np.square(x), y, smooth, w, offset)))
    lead = _lead(float(np.square(rotated, dtype=np.float64).sum()) / n, float(strengths[0]))
    total = len(lead) + s
    slots = _bucket(max(total, _FEWEST))
    grid = np.pad(np.concatenate([lead, strengths]), (0, slots - total), mode="edge").astype(np.float32)
    found = solve_path(data, jnp.asarray(grid), jnp.float32(tolerance), jnp.int32(max_iterations), task=task)
    theta, objective, losses, correct, converged, iterations = (np.asarray(a)[len(lead) : total] for a in found)
    kept = np.concatenate([theta[:, :r, :f, :c], theta[:, -1:, :f, :c]], axis=1)
    return kept, objective[:, :f], losses[:, :f, :n], correct[:, :f, :n], converged[:, :f], iterations


def _lead(variance: float, strongest: float) -> np.ndarray:
    """Returns strengths that lead from the features' variance to a much weaker first one, too far to go at once."""
    if not variance > strongest:
        return np.zeros(0)
    return variance * _LEAD ** -np.arange(math.ceil(math.log(variance / strongest) / math.log(_LEAD)), dtype=np.float64)
