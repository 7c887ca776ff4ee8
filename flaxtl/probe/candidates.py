"""All strengths with one scaling: the solutions on everything, and what held-out examples say of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax

from flaxtl import metrics
from flaxtl.probe.problem import Problem
from flaxtl.probe.simple_heads import nearest_class_mean, scale, solve_ridge
from flaxtl.probe.solve import fit_path

RELATIVE_STRENGTHS = np.logspace(1, -6, 22)

Parts = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """The solutions for s strengths with one scaling.

    Attributes:
        scaling: how features are scaled.
        strengths: float [s], of the penalty on scaled features.
        variance: the scaled features' total variance.
        solution: of a strength's number, the kernel, float32 [d, c], on scaled features and the bias, float32 [c],
            solved on everything.
        converged: bool [s], those on everything.
        losses: float32 [s, folds, n]; NaN where not held out.
        correct: likewise.
        outputs: of a strength's number, float32 [folds, n, c]; NaN where not held out.
    """

    scaling: str
    strengths: np.ndarray
    variance: float
    solution: Callable[[int], tuple[np.ndarray, np.ndarray]]
    converged: np.ndarray
    losses: np.ndarray
    correct: np.ndarray
    outputs: Callable[[int], np.ndarray]


def solve_candidates(problem: Problem, scaling: str, strengths: Sequence[float] | None, parts: Parts) -> Candidates:
    """Solves every strength on everything and on the training part of every fold.

    Args:
        problem: the labelled features.
        scaling: one of `SCALINGS`.
        strengths: None is `RELATIVE_STRENGTHS` times the scaled features' total variance.
        parts: (training, test) row numbers of each fold.
    """
    scaled, _, _ = scale(problem.features, scaling)
    total = variance(scaled)
    grid = RELATIVE_STRENGTHS * total if strengths is None else np.asarray(strengths, np.float64)
    if problem.kind != "logistic":
        return _simple(problem, scaling, scaled, grid, parts)
    if problem.task == "regression":
        return _regression(problem, scaling, scaled, grid, parts)
    known = np.zeros((len(parts) + 1, len(scaled)), bool)
    known[-1] = True  # the last is the solution on everything
    for fold, (training, _) in enumerate(parts):
        known[fold, training] = True
    weights = known * problem.weight
    path = fit_path(
        scaled, problem.targets, problem.outputs, grid, weights, task=problem.task, smoothing=problem.smoothing
    )
    where = np.full((len(parts), len(scaled)), np.nan, np.float32)
    for fold, (training, test) in enumerate(parts):
        where[fold, _counted(problem, training, test)] = 0.0

    def outputs(strength: int) -> np.ndarray:
        found = np.full((*where.shape, problem.outputs), np.nan, np.float32)
        for fold, row in enumerate(where):
            rows = np.flatnonzero(row == 0.0)
            found[fold, rows] = scaled[rows] @ path.kernel(strength, fold) + path.bias(strength, fold)
        return found

    losses, correct = path.losses[:, :-1] + where, path.correct[:, :-1] + where
    if problem.balance is not None and problem.balance.offset.any():
        for place in range(len(grid)):
            losses[place], correct[place] = _shifted(problem, outputs(place), problem.balance.offset)

    def solution(strength: int) -> tuple[np.ndarray, np.ndarray]:
        return path.kernel(strength, len(parts)), path.bias(strength, len(parts))

    return Candidates(scaling, grid, total, solution, path.converged[:, -1], losses, correct, outputs)


def _shifted(problem: Problem, outputs: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns losses and hits [folds, n] of outputs [folds, n, c] whose classes are brought to the wanted shares."""
    losses, correct = np.full((2, *outputs.shape[:2]), np.nan, np.float32)
    where = np.nonzero(~np.isnan(outputs[:, :, 0]))
    found, wanted = outputs[where].astype(np.float64) + metrics.USUAL_OFFSET * offset, problem.targets[where[1]]
    losses[where] = -log_softmax(found, axis=-1)[np.arange(len(wanted)), wanted]
    correct[where] = found.argmax(-1) == wanted
    return losses, correct


def variance(scaled: np.ndarray) -> float:
    """Returns the features' total variance, and not quite 0 where there is none."""
    return max(float(scaled.astype(np.float64).var(0).sum()), 1e-12)


def _counted(problem: Problem, training: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Says which examples are held out and of a class that the training part knows: bool [n]."""
    counted = np.zeros(len(problem.features), bool)
    counted[test] = True
    if problem.targets.ndim == 1:
        known = problem.targets[training][problem.weight[training] > 0]
        counted &= np.isin(problem.targets, known)
    return counted


def _regression(problem: Problem, scaling: str, scaled: np.ndarray, grid: np.ndarray, parts: Parts) -> Candidates:
    tests = [test for _, test in parts]
    path = solve_ridge(scaled, problem.targets, grid, sample_weight=problem.weight, held_out=tests)
    outputs = np.full((len(grid), len(parts), *problem.targets.shape), np.nan, np.float32)
    for fold, test in enumerate(tests):
        outputs[:, fold, test] = path.held_out[fold]
    losses = np.square(outputs - problem.targets).mean(-1)
    centre = np.average(problem.targets, axis=0, weights=problem.weight)
    spread = np.average(np.square(problem.targets - centre).mean(-1), weights=problem.weight)
    right = 1.0 - losses / max(float(spread), 1e-30)
    solved = np.ones(len(grid), bool)

    def solution(strength: int) -> tuple[np.ndarray, np.ndarray]:
        return path.kernel[strength], path.bias[strength]

    return Candidates(scaling, grid, variance(scaled), solution, solved, losses, right, lambda s: outputs[s])


def _simple(problem: Problem, scaling: str, scaled: np.ndarray, grid: np.ndarray, parts: Parts) -> Candidates:
    """Nearest class means, or ridge regression on one-hot targets, as classifiers."""
    if problem.kind == "mean":
        grid = np.zeros(1)
        kernels, biases, held_out = _means(problem, scaled, parts)
    else:
        kernels, biases, held_out = _ridge(problem, scaled, grid, parts)
    outputs = np.full((len(grid), len(parts), len(scaled), problem.outputs), np.nan, np.float32)
    for fold, (training, test) in enumerate(parts):
        counted = _counted(problem, training, test)[test]
        outputs[:, fold, test[counted]] = held_out[fold][:, counted]
    spread = [_spread(scaled @ kernel + bias) for kernel, bias in zip(kernels, biases, strict=True)]
    outputs /= np.asarray(spread, np.float32)[:, None, None, None]
    losses, correct = np.full((2, *outputs.shape[:3]), np.nan, np.float32)
    for place, each in enumerate(outputs):
        where = np.nonzero(~np.isnan(each[:, :, 0]))
        found, wanted = each[where].astype(np.float64), problem.targets[where[1]]
        found /= metrics.fit_temperature(found, wanted, problem.judged[where[1]]) if len(wanted) else 1.0
        losses[place][where] = -log_softmax(found, axis=-1)[np.arange(len(wanted)), wanted]
        correct[place][where] = found.argmax(-1) == wanted
    solved = np.ones(len(grid), bool)

    def solution(strength: int) -> tuple[np.ndarray, np.ndarray]:
        return kernels[strength] / spread[strength], biases[strength] / spread[strength]

    return Candidates(scaling, grid, variance(scaled), solution, solved, losses, correct, lambda s: outputs[s])


def _spread(outputs: np.ndarray) -> float:
    """Brings outputs to the size of logits, around which a temperature is looked for."""
    centred = outputs - outputs.mean(-1, keepdims=True)
    return float(np.sqrt(np.square(centred).mean())) or 1.0


def _means(problem: Problem, scaled: np.ndarray, parts: Parts) -> tuple[list[Any], list[Any], list[np.ndarray]]:
    def solved(rows: Any) -> tuple[np.ndarray, np.ndarray]:
        weight = problem.weight[rows]
        return nearest_class_mean(scaled[rows], problem.targets[rows], problem.outputs, sample_weight=weight)

    kernel, bias = solved(slice(None))
    held_out = []
    for training, test in parts:
        one, two = solved(training)
        held_out.append((scaled[test] @ one + two)[None])
    return [kernel], [bias], held_out


def _ridge(
    problem: Problem, scaled: np.ndarray, grid: np.ndarray, parts: Parts
) -> tuple[list[Any], list[Any], list[np.ndarray]]:
    hot = np.eye(problem.outputs)[problem.targets] * (1.0 - problem.smoothing) + problem.smoothing / problem.outputs
    tests = [test for _, test in parts]
    path = solve_ridge(scaled, hot, grid, sample_weight=problem.weight, held_out=tests)
    return list(path.kernel), list(path.bias), list(path.held_out)
