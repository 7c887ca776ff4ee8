"""The compiled part of `solve`: Newton's method with conjugate gradients, every fold at once, down the path."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Kind = Literal["classification", "multilabel"]

_LINE_STEPS = 10
_CONJUGATE_STEPS = 100
_ROUNDING = 1e-5  # what an objective may rise by, in parts of itself, without rising
_RAREST = 1e-6  # the frequency a class without examples starts from


class Problem(NamedTuple):
    """What a path is solved for, padded.

    Attributes:
        x: float32 [n, r], features.
        square: float32 [n, r], x².
        y: float32 [n, c], targets.
        smooth: float32 [n, c], y smoothed.
        w: float32 [n, f], example weights; a column sums to 1 at most.
        offset: float32 [c], added to the logits: 0, or very negative for a class that only fills up.
    """

    x: Array
    square: Array
    y: Array
    smooth: Array
    w: Array
    offset: Array


class _State(NamedTuple):
    theta: Array  # [r + 1, f, c]
    logits: Array  # [n, f, c]
    objective: Array  # [f]
    going: Array  # [f]
    converged: Array  # [f]
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


def _objective(data: Problem, logits: Array, theta: Array, strength: Array, task: Kind) -> Array:
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
    data: Problem, logits: Array, gradient: Array, strength: Array, going: Array, task: Kind
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


def _step_length(data: Problem, s: _State, step: Array, along: Array, strength: Array, task: Kind) -> Array:
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
    data: Problem, start: Array, strength: Array, tolerance: Array, max_iterations: Array, task: Kind
) -> _State:
    def advance(s: _State) -> _State:
        residual = data.w[:, :, None] * _residual(s.logits, data.smooth, task)
        gradient = _backward(data.x, residual) + strength * _penalised(s.theta)
        step, along, decrease = _newton_direction(data, s.logits, gradient, strength, s.going, task)
        length = _step_length(data, s, step, along, strength, task)[:, None]
        theta, logits = s.theta + length * step, s.logits + length * along
        objective = _objective(data, logits, theta, strength, task)
        # Where single precision ends, a step leads up or to NaN: the fold keeps what it has, unconverged.
        taken = s.going & (objective <= s.objective * (1.0 + _ROUNDING))
        converged = s.converged | (taken & (decrease <= tolerance * s.objective))
        return _State(
            jnp.where(taken[:, None], theta, s.theta),
            jnp.where(taken[:, None], logits, s.logits),
            jnp.where(taken, objective, s.objective),
            taken & ~converged,
            converged,
            s.steps + 1,
        )

    logits = _forward(data.x, start) + data.offset
    objective = _objective(data, logits, start, strength, task)
    going = jnp.ones(start.shape[1], bool)
    first = _State(start, logits, objective, going, ~going, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(lambda s: (s.steps < max_iterations) & s.going.any(), advance, first)


def _correct(logits: Array, data: Problem, task: Kind) -> Array:
    if task == "multilabel":
        real = data.offset == 0.0
        right = (logits > 0) == (data.y[:, None] > 0.5)
        return jnp.where(real, right, False).sum(-1) / real.sum()
    return (logits.argmax(-1) == data.y.argmax(-1)[:, None]).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames="task")
def solve_path(
    data: Problem, strengths: Array, tolerance: Array, max_iterations: Array, *, task: Kind
) -> tuple[Array, ...]:
    """Solves the path, each strength from where the last ended.

    Args:
        data: the problem.
        strengths: float32 [s], from strong to weak.
        tolerance: the expected decrease, relative to the objective, at which a solution is taken as final.
        max_iterations: Newton steps for one strength.
        task: which loss.

    Returns:
        (parameters [s, r + 1, f, c], objective [s, f], losses [s, f, n], correct [s, f, n],
        converged [s, f], Newton steps [s]).
    """

    def one(theta: Array, strength: Array) -> tuple[Array, tuple[Array, ...]]:
        end = _solve_strength(data, theta, strength, tolerance, max_iterations, task)
        losses, correct = _losses(end.logits, data.y, task), _correct(end.logits, data, task)
        return end.theta, (end.theta, end.objective, losses.T, correct.T, end.converged, end.steps)

    frequency = _matmul(data.w.T, data.smooth) / data.w.sum(0)[:, None]
    rare = jnp.maximum(frequency, _RAREST)
    bias = jnp.log(rare)
    if task == "multilabel":
        bias = bias - jnp.log(jnp.maximum(1.0 - frequency, _RAREST))
    bias = jnp.where(data.offset == 0.0, bias, 0.0)
    start = jnp.zeros((data.x.shape[1] + 1, *bias.shape)).at[-1].set(bias)
    return jax.lax.scan(one, start, strengths)[1]
