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
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl.errors import DataError

Array = jax.Array
Kind = Literal["classification", "multilabel"]

_LINE_STEPS = 10
_CONJUGATE_STEPS = 100
_ELEMENTS = 1 << 24  # of one [examples, folds, classes] array; more folds are solved in turns
_NEVER = -1e30  # the logit of a class that only fills up
_RAREST = 1e-6  # the frequency a class without examples starts from


@dataclasses.dataclass(frozen=True)
class LogisticPath:
    """The solutions for s strengths × f sets of example weights, s in the order they were asked for.

    Attributes:
        theta: float32 [s, r + 1, f, c], in the principal axes; the last row is the bias.
        axes: float32 [d, r], the principal axes.
        mean: float32 [d], of the features.
        objective: float32 [s, f], mean weighted loss plus penalty.
        losses: float32 [s, f, n], of every example, in the fold or not, without smoothing.
        correct: float32 [s, f, n], 1 where the prediction is right; multilabel: the share of right labels.
        iterations: int32 [s], Newton steps of the slowest fold.
        converged: bool [s, f].
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
        return self.theta[strength, -1, fold] - self.mean @ self.kernel(strength, fold)


def fit_path(
    features: np.ndarray,
    targets: np.ndarray,
    classes: int,
    strengths: Sequence[float] | np.ndarray,
    fold_weights: np.ndarray | None = None,
    *,
    task: Kind = "classification",
    smoothing: float = 0.0,
    tolerance: float = 1e-6,
    max_iterations: int = 50,
) -> LogisticPath:
    """Solves logistic regression for all strengths and all sets of example weights.

    The objective of one problem is Σ wᵢ loss(xᵢ W + b, yᵢ) / Σ wᵢ + strength/2 · ‖W‖². scikit-learn's C
    for the same solution is 1 / (strength · Σ wᵢ). In the multilabel task the loss is the sum of the binary
    losses of all classes, so each class is solved as if alone.

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
        DataError: features, strengths or weights that no solution can be found for.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
        >>> path = fit_path(x, np.array([0, 0, 1, 1]), 2, [0.1])
        >>> (x @ path.kernel(0) + path.bias(0)).argmax(-1).tolist()
        [0, 0, 1, 1]
    """
    features = np.asarray(features, np.float32)
    strengths = np.asarray(strengths, np.float32)
    weights = np.ones((1, len(features))) if fold_weights is None else np.asarray(fold_weights)
    _check(features, strengths, weights, targets)
    wanted = one_hot(targets, classes)
    even = 0.5 if task == "multilabel" else 1.0 / classes
    mean = features.mean(0, dtype=np.float64).astype(np.float32)
    rotated, axes = principal_axes(features - mean)
    order = np.argsort(-strengths, kind="stable")
    share = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
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
        DataError: a class below 0 or not below `classes`, or a wrong number of columns.

    Example:
        >>> one_hot(np.array([1, 0]), 2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    targets = np.asarray(targets)
    if targets.ndim == 2:
        if targets.shape[1] != classes:
            raise DataError(f"The targets have {targets.shape[1]} columns; expected {classes}, one a class.")
        return targets.astype(np.float32)
    if len(targets) and (targets.min() < 0 or targets.max() >= classes):
        raise DataError(
            f"The targets run from {targets.min()} to {targets.max()}; expected 0 to {classes - 1}. "
            "Number the classes from 0."
        )
    return np.eye(classes, dtype=np.float32)[targets.astype(np.int64)]


def principal_axes(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns centred features to their principal axes.

    Args:
        centred: float [n, d].

    Returns:
        (float32 [n, r] rotated features, float32 [d, r] orthonormal axes); r = d where n ≥ d, else at most
        n, and then nothing is lost: centred = rotated @ axes.T.
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


def _check(features: np.ndarray, strengths: np.ndarray, weights: np.ndarray, targets: np.ndarray) -> None:
    n = len(features)
    if features.ndim != 2 or len(targets) != n or weights.ndim != 2 or weights.shape[1] != n:
        raise DataError(
            f"Found features {features.shape}, {len(targets)} targets and weights {weights.shape}; "
            "expected features [n, d], n targets and weights [folds, n]."
        )
    if not np.isfinite(features).all():
        raise DataError("The features hold NaN or infinite numbers. Leave those examples out.")
    if strengths.ndim != 1 or not (strengths > 0).all():
        raise DataError(f"The strengths are {strengths.tolist()}; expected numbers above 0.")
    if (weights < 0).any() or not (weights.sum(1) > 0).all():
        raise DataError("Each fold needs weights that are not negative and an example with a weight above 0.")


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
    data = _Data(*map(jnp.asarray, (x, np.square(x), y, smooth, w, offset)))
    grid = np.pad(strengths, (0, _bucket(s) - s), mode="edge")
    found = _solve(data, jnp.asarray(grid), jnp.float32(tolerance), jnp.int32(max_iterations), task=task)
    theta, objective, losses, correct, converged, iterations = (np.asarray(a)[:s] for a in found)
    kept = np.concatenate([theta[:, :r, :f, :c], theta[:, -1:, :f, :c]], axis=1)
    return kept, objective[:, :f], losses[:, :f, :n], correct[:, :f, :n], converged[:, :f], iterations


class _Data(NamedTuple):
    x: Array  # [n, r]
    square: Array  # [n, r], x²
    y: Array  # [n, c]
    smooth: Array  # [n, c], y smoothed
    w: Array  # [n, f], each column sums to 1
    offset: Array  # [c]


class _State(NamedTuple):
    theta: Array  # [r + 1, f, c]
    logits: Array  # [n, f, c]
    done: Array  # [f]
    steps: Array


_dot = functools.partial(jnp.einsum, "rfc,rfc->f")
_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _forward(x: Array, theta: Array) -> Array:
    """Returns [n, f, c] from x [n, r] and parameters [r + 1, f, c]."""
    flat = theta[:-1].reshape(x.shape[1], -1)
    return _matmul(x, flat).reshape(x.shape[0], *theta.shape[1:]) + theta[-1]


def _backward(x: Array, residual: Array) -> Array:
    """The transpose of `_forward`."""
    flat = residual.reshape(x.shape[0], -1)
    products = _matmul(x.T, flat).reshape(x.shape[1], *residual.shape[1:])
    return jnp.concatenate([products, residual.sum(0, keepdims=True)])


def _penalised(theta: Array) -> Array:
    return theta.at[-1].set(0.0)


def _probabilities(logits: Array, task: Kind) -> tuple[Array, Array]:
    """Returns p and 1 - p, both to full relative precision, so that tiny residuals keep their digits."""
    if task == "multilabel":
        return jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    top = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
    powers = jnp.exp(logits - logits.max(-1, keepdims=True))
    others = jnp.where(top, 0.0, powers).sum(-1, keepdims=True)
    p = powers / (1.0 + others)
    return p, jnp.where(top, others / (1.0 + others), 1.0 - p)


def _losses(logits: Array, y: Array, task: Kind) -> Array:
    """Returns the loss [n, f] of logits [n, f, c] and targets [n, c]."""
    y = y[:, None]
    if task == "multilabel":
        return (y * jax.nn.softplus(-logits) + (1.0 - y) * jax.nn.softplus(logits)).sum(-1)
    _, rest = _probabilities(logits, task)
    surplus = -jnp.log1p(-rest.min(-1))  # -log of the largest probability
    return (y * (logits.max(-1, keepdims=True) - logits)).sum(-1) + surplus


def _residual(logits: Array, y: Array, task: Kind) -> Array:
    p, rest = _probabilities(logits, task)
    return (1.0 - y[:, None]) * p - y[:, None] * rest


def _curvature(p: Array, rest: Array, along: Array, task: Kind) -> Array:
    """The loss's Hessian in the logits, times `along`."""
    if task == "multilabel":
        return p * rest * along
    return p * (along - (p * along).sum(-1, keepdims=True))


def _objective(data: _Data, logits: Array, theta: Array, strength: Array, task: Kind) -> Array:
    losses = (data.w * _losses(logits, data.smooth, task)).sum(0)
    return losses + 0.5 * strength * _dot(theta, _penalised(theta))


class _Conjugate(NamedTuple):
    step: Array  # [r + 1, f, c], the solution so far
    along: Array  # [n, f, c], the change of the logits
    residual: Array
    search: Array
    product: Array  # [f], residual · preconditioned residual
    decrease: Array  # [f], of the quadratic model
    going: Array  # [f]
    steps: Array


def _newton_direction(
    data: _Data, logits: Array, gradient: Array, strength: Array, going: Array, task: Kind
) -> tuple[Array, Array, Array]:
    """Solves H · step = -gradient by preconditioned conjugate gradients, for all folds at once.

    Returns:
        (step [r + 1, f, c], its change of the logits [n, f, c], the model's decrease [f]).
    """
    p, rest = _probabilities(logits, task)
    w = data.w[:, :, None]
    diagonal = _backward(data.square, w * p * rest) + strength * _penalised(jnp.ones_like(gradient))
    scale = 1.0 / (diagonal + 1e-12 * diagonal.max() + 1e-30)

    def advance(s: _Conjugate) -> _Conjugate:
        logit_change = _forward(data.x, s.search)
        curved = _backward(data.x, w * _curvature(p, rest, logit_change, task))
        turned = curved + strength * _penalised(s.search)
        bend = _dot(s.search, turned)
        usable = s.going & (bend > 0)
        alpha = jnp.where(usable, s.product / jnp.where(usable, bend, 1.0), 0.0)[:, None]
        residual = s.residual - alpha * turned
        scaled = scale * residual
        product = _dot(residual, scaled)
        gain = 0.5 * alpha[:, 0] * s.product
        decrease, steps = s.decrease + gain, s.steps + 1
        beta = jnp.where(usable, product / jnp.where(usable, s.product, 1.0), 0.0)[:, None]
        return _Conjugate(
            s.step + alpha * s.search,
            s.along + alpha * logit_change,
            residual,
            scaled + beta * s.search,
            product,
            decrease,
            usable & (steps * gain > 0.1 * decrease) & (product > 0),
            steps,
        )

    scaled = -scale * gradient
    first = _Conjugate(
        jnp.zeros_like(gradient),
        jnp.zeros_like(logits),
        -gradient,
        scaled,
        -_dot(gradient, scaled),
        jnp.zeros(gradient.shape[1]),
        going,
        jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(lambda s: (s.steps < _CONJUGATE_STEPS) & s.going.any(), advance, first)
    return end.step, end.along, end.decrease


def _step_length(data: _Data, s: _State, step: Array, along: Array, strength: Array, task: Kind) -> Array:
    """Finds t with |slope(t)| ≤ |slope(0)| / 2: the whole step, or Newton's method kept in a bracket."""
    w, linear, square = data.w[:, :, None], _dot(s.theta, _penalised(step)), _dot(step, _penalised(step))

    def slope_at(t: Array) -> tuple[Array, Array]:
        logits = s.logits + t[:, None] * along
        slope = (w * _residual(logits, data.smooth, task) * along).sum((0, 2))
        bend = (w * along * _curvature(*_probabilities(logits, task), along, task)).sum((0, 2))
        return slope + strength * (linear + t * square), bend + strength * square

    begin, _ = slope_at(jnp.zeros_like(linear))
    # Where no logit moves by more than this, the quadratic model holds and slopes may be rounding only.
    near = jnp.abs(along).max((0, 2)) <= 0.25

    def wrong(state: Any) -> Array:
        return (jnp.abs(state[1]) > 0.5 * jnp.abs(begin)) & ~near

    def advance(state: Any) -> Any:
        t, slope, bend, low, high, count = state
        low, high = jnp.where(slope < 0, t, low), jnp.where(slope < 0, high, t)
        tried = t - slope / jnp.maximum(bend, 1e-30)
        middle = jnp.where(jnp.isinf(high), 2.0 * low, 0.5 * (low + high))
        tried = jnp.where((tried > low) & (tried < jnp.minimum(high, 4.0 * low + 1.0)), tried, middle)
        t = jnp.where(wrong(state), tried, t)
        return (t, *slope_at(t), low, high, count + 1)

    whole = jnp.ones_like(linear)
    first = (whole, *slope_at(whole), 0.0 * whole, jnp.full_like(whole, jnp.inf), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(lambda s: (s[-1] < _LINE_STEPS) & wrong(s).any(), advance, first)[0]


def _solve_strength(
    data: _Data, start: Array, strength: Array, tolerance: Array, max_iterations: Array, task: Kind
) -> _State:
    def advance(s: _State) -> _State:
        residual = data.w[:, :, None] * _residual(s.logits, data.smooth, task)
        gradient = _backward(data.x, residual) + strength * _penalised(s.theta)
        step, along, decrease = _newton_direction(data, s.logits, gradient, strength, ~s.done, task)
        length = _step_length(data, s, step, along, strength, task)
        length = jnp.where(s.done, 0.0, length)[:, None]
        theta, logits = s.theta + length * step, s.logits + length * along
        done = s.done | (decrease <= tolerance * _objective(data, s.logits, s.theta, strength, task))
        return _State(theta, logits, done, s.steps + 1)

    logits = _forward(data.x, start) + data.offset
    first = _State(start, logits, jnp.zeros(start.shape[1], bool), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(lambda s: (s.steps < max_iterations) & ~s.done.all(), advance, first)


@functools.partial(jax.jit, static_argnames="task")
def _solve(data: _Data, strengths: Array, tolerance: Array, max_iterations: Array, *, task: Kind) -> tuple[Array, ...]:
    def one(theta: Array, strength: Array) -> tuple[Array, tuple[Array, ...]]:
        end = _solve_strength(data, theta, strength, tolerance, max_iterations, task)
        objective = _objective(data, end.logits, end.theta, strength, task)
        losses, correct = _losses(end.logits, data.y, task), _correct(end.logits, data, task)
        return end.theta, (end.theta, objective, losses.T, correct.T, end.done, end.steps)

    frequency = _matmul(data.w.T, data.smooth)
    rare = jnp.maximum(frequency, _RAREST)
    bias = jnp.log(rare)
    if task == "multilabel":
        bias = bias - jnp.log(jnp.maximum(1.0 - frequency, _RAREST))
    bias = jnp.where(data.offset == 0.0, bias, 0.0)
    start = jnp.zeros((data.x.shape[1] + 1, *bias.shape)).at[-1].set(bias)
    return jax.lax.scan(one, start, strengths)[1]


def _correct(logits: Array, data: _Data, task: Kind) -> Array:
    if task == "multilabel":
        real = data.offset == 0.0
        right = (logits > 0) == (data.y[:, None] > 0.5)
        return jnp.where(real, right, False).sum(-1) / real.sum()
    return (logits.argmax(-1) == data.y.argmax(-1)[:, None]).astype(jnp.float32)
