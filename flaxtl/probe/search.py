"""The head that cross-validation chooses: scaling and strength by held-out loss, solved on everything."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from flaxtl import metrics
from flaxtl.data.splits import folds as deal_folds
from flaxtl.probe.candidates import Candidates, solve_candidates, variance
from flaxtl.probe.problem import HeadKind, Problem, Task, check_settings
from flaxtl.probe.results import CvResult, CvRow, SolvedHead
from flaxtl.probe.simple_heads import scale
from flaxtl.probe.weighting import ClassWeight

# Without cross-validation: divided by the number of classes, among which the loss is shared. With one example a class
# of six data sets (5 to 77 classes) accuracy hardly depends on it, and log-loss is within some percent of its lowest.
SAFE_RELATIVE_STRENGTH = 0.005
# The share of zeros from which features count as sparse. Of YAMNet's on environmental sounds 86 % are zero, and roots
# gained 3 to 4 points there; of MobileNetV2's on photographs 7 %, where they gained up to 1 and lost log-loss.
SPARSE = 0.5
# Before anything is held out, what the best strength is: a normal distribution of the logarithm to the base ten of
# strength over total variance. With strengths judged at their best calibration, -3 ± 1 had the lowest log-loss on the
# test part of 124 draws of five sets (pictures and sounds; 5 to 50 a class, and 10/3/2, 20/5/5, 30/3): 0.009 ± 0.003
# with equal classes and 0.014 ± 0.006 with unequal ones below that of strengths judged as they come, with -4 ± 1. One
# order of magnitude leaves the choice to the data from some dozens of examples on.
USUAL_STRENGTH, STRENGTH_SPREAD = -3.0, 1.0
# From so many examples on they are dealt to the folds twice, and once: on six draws of 500 sign language digits
# (MobileNetV2) one dealing and two chose the same strength, and two cost twice the time.
TWO_DRAWS, ONE_DRAW = 100, 300


def solve_head(
    features: np.ndarray,
    targets: np.ndarray,
    classes: int,
    *,
    task: Task = "classification",
    sample_weight: np.ndarray | None = None,
    class_weight: ClassWeight = None,
    label_smoothing: float = 0.0,
    scalings: Sequence[str] | None = None,
    strengths: Sequence[float] | None = None,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    taught: np.ndarray | None = None,
    kind: HeadKind = "logistic",
) -> SolvedHead:
    """Solves the output layer for frozen features.

    Every scaling and strength is judged by repeated stratified cross-validation, a classifier at its best calibration:
    a strong penalty makes small logits, which a temperature mends. In each scaling the most probable strength is taken:
    that with the lowest sum of held-out losses and of what speaks against it beforehand (a normal prior around
    `USUAL_STRENGTH`). A later scaling is taken where its loss is lower by more than one standard error
    of their paired difference. Held-out examples of a class that the training part of their fold lacks are not
    counted, nor are examples of weight 0. Scaling uses the features of all examples, never their targets.

    Where classes are unequal, logistic regression counts an example by one over the root of its class's size, and
    brings its outputs to the wanted class shares afterwards, as far as held-out examples say; see `Balance`.

    Where fewer than half of the classes have two examples (or groups), nothing can be held out: the first
    scaling is taken with a fixed strength, `SAFE_RELATIVE_STRENGTH` times the features' total variance over the
    number of classes.

    Args:
        features: float [n, d], finite.
        targets: int [n]; float [n, classes] for "multilabel" and "regression".
        classes: number of outputs.
        task: what the head says.
        sample_weight: float [n], not negative.
        class_weight: what held-out examples count when strengths are judged, and so for which class shares
            probabilities hold: None is each the same (those of the data); "auto" is each class the same where classes
            are unequal by more than a factor of `weighting.UNEQUAL`; or factors by class number, others 1.
        label_smoothing: the share of a target that is spread evenly.
        scalings: "unit" (each example's features have length one), "root" (their square roots have, with their signs),
            "standard" (each feature has mean 0 and variance 1; constant ones get no weight) or "none", the preferred
            first; None is what `usual_scalings` says.
        strengths: of the penalty on scaled features; None is 22 values from 10 to 1e-6 times their total
            variance.
        folds: parts of one repeat, at least 2.
        repeats: how often the folds are drawn; None is four times, twice from `TWO_DRAWS` examples on, once from
            `ONE_DRAW` on.
        seed: of the folds.
        groups: one an example; a group is never divided between training and held out.
        taught: bool [n], examples that are learned from in every fold and never held out, being no evidence of what
            the head will meet; None is none of them.
        kind: of a classifier: "logistic" regression; the nearest class "mean" (Mensink et al. 2013), always on features
            of unit length; or "ridge" regression on one-hot targets. The outputs of the latter two are no
            log-probabilities until a temperature is fitted, so their losses are those at their best temperature.

    Raises:
        DataError: data that no head can be solved for.
        ConfigError: an impossible setting.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(20) % 2
        >>> head = solve_head(rng.normal(size=(20, 4)) + 3 * y[:, None], y, 2)
        >>> head.kernel.shape, head.cv.best.accuracy > 0.8
        ((4, 2), True)
    """
    if repeats is None:
        repeats = 4 if len(features) < TWO_DRAWS else 2 if len(features) < ONE_DRAW else 1
    if scalings is None:
        scalings = usual_scalings(features)
    check_settings(scalings, strengths, task, class_weight, label_smoothing, repeats, kind)
    if kind == "mean":
        scalings = ("unit",)
    problem = Problem.of(
        features,
        targets,
        classes,
        task=task,
        sample_weight=sample_weight,
        class_weight=class_weight,
        smoothing=label_smoothing,
        groups=groups,
        kind=kind,
    )
    parts, reason = _parts(problem, folds, repeats, seed, taught)
    if not parts:
        return _without_cv(problem, scalings[0], strengths, reason)
    solved = [solve_candidates(problem, scaling, strengths, parts) for scaling in scalings]
    places = [(one, s) for one in solved for s in range(len(one.strengths))]
    losses = [_judged(one, s, problem) for one, s in places]
    rows = [_row(one, s, held_out, problem) for (one, s), held_out in zip(places, losses, strict=True)]
    if not all(math.isfinite(row.loss_se) for row in rows):
        return _without_cv(
            problem, scalings[0], strengths, "fewer than two were held out of a class known without them"
        )
    chosen = _chosen(losses, [(one.scaling, one.strengths[s] / one.variance) for one, s in places], problem)
    winner, place = places[chosen]
    outputs = winner.outputs(place)
    temperature, shift = _calibration(outputs, problem)
    held_out = _first_dealing(outputs) + shift.astype(np.float32)
    together = 0 if problem.groups is None else len(np.unique(problem.groups))
    cv = CvResult(True, "", tuple(rows), chosen, held_out, len(parts), together)
    return _head(problem, winner, place, temperature, shift, cv)


def usual_scalings(features: np.ndarray) -> tuple[str, ...]:
    """Returns what is tried where nothing is asked for, the preferred first.

    Of features that are mostly zero and never negative, as after a ReLU, a few large values decide about the cosine;
    their square roots are compared better (Perronnin et al. 2010).

    Example:
        >>> usual_scalings(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])), usual_scalings(np.array([[-1.0, 0.0]]))
        (('root', 'unit', 'standard'), ('unit', 'standard'))
    """
    features = np.asarray(features)
    sparse = features.size and features.min() >= 0 and np.mean(features == 0) >= SPARSE
    return ("root", "unit", "standard") if sparse else ("unit", "standard")


def _parts(
    problem: Problem, folds: int, repeats: int, seed: int, taught: np.ndarray | None
) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Returns the folds, (training, test) each, or none and the reason."""
    evidence = problem.judged > 0 if taught is None else (problem.judged > 0) & ~np.asarray(taught, bool)
    weighted = np.flatnonzero(evidence)  # the others are nobody's evidence
    strata = problem.targets[weighted] if problem.targets.ndim == 1 else np.zeros(len(weighted), np.int64)
    groups = None if problem.groups is None else problem.groups[weighted]
    units = weighted if groups is None else groups
    sizes = [len(np.unique(units[strata == t])) for t in np.unique(strata)]
    enough = sum(size >= 2 for size in sizes)
    unit = "examples" if groups is None else "groups"
    if len(np.unique(units)) < 2:
        return [], f"there is only one of the {unit}, and none can be held out"
    if 2 * enough < len(sizes):
        return [], f"only {enough} of {len(sizes)} classes have two {unit}, so too little can be held out"
    dealt = deal_folds(strata, folds, repeats, seed, None if groups is None else [str(g) for g in groups])
    everything = np.arange(len(problem.features))
    return [(np.setdiff1d(everything, weighted[test]), weighted[test]) for _, test in dealt], ""


def _judged(solved: Candidates, place: int, problem: Problem) -> np.ndarray:
    """Returns the held-out loss of each example [n] by which a strength is judged; NaN if it was never held out."""
    if problem.task != "classification" or problem.kind != "logistic":
        return _over_folds(solved.losses[place])
    outputs = solved.outputs(place)
    temperature, shift = _calibration(outputs, problem)
    where = np.nonzero(~np.isnan(outputs[:, :, 0]))
    logs = log_softmax((outputs[where].astype(np.float64) + shift) / temperature, axis=1)
    losses = np.full(outputs.shape[:2], np.nan)
    losses[where] = -logs[np.arange(len(logs)), problem.targets[where[1]]]
    return _over_folds(losses)


def _over_folds(values: np.ndarray) -> np.ndarray:
    """Averages [folds, n, ...] over the folds in which an example was held out; NaN if it never was."""
    there = ~np.isnan(values)
    count = there.sum(0)
    total = np.where(there, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _first_dealing(outputs: np.ndarray) -> np.ndarray:
    """Returns of [folds, n, c] what the first head that did not see an example says of it; NaN if all have.

    The mean over all such heads would be right more often than any one of them, and than the head that is kept.
    """
    there = ~np.isnan(outputs[:, :, 0])
    return outputs[there.argmax(0), np.arange(outputs.shape[1])].astype(np.float32)


def _row(solved: Candidates, place: int, losses: np.ndarray, problem: Problem) -> CvRow:
    loss, loss_se = _mean_and_error(losses, problem)
    accuracy, accuracy_se = _mean_and_error(_over_folds(solved.correct[place]), problem)
    return CvRow(solved.scaling, float(solved.strengths[place]), loss, loss_se, accuracy, accuracy_se)


def _mean_and_error(values: np.ndarray, problem: Problem) -> tuple[float, float]:
    """Weighted mean and its standard error over examples; a group is one draw, its members are not."""
    there = ~np.isnan(values)
    w, v = problem.judged[there], values[there].astype(np.float64)
    unit = np.arange(len(v)) if problem.groups is None else np.unique(problem.groups[there], return_inverse=True)[1]
    if len(np.unique(unit)) < 2:
        return math.inf, math.inf
    mean = float(w @ v / w.sum())
    part = np.bincount(unit, w * (v - mean))
    return mean, float(np.sqrt(np.square(part).sum() * len(part) / (len(part) - 1)) / w.sum())


def _chosen(losses: Sequence[np.ndarray], candidates: Sequence[tuple[str, float]], problem: Problem) -> int:
    """Returns the number of the candidate, (scaling, relative strength) each, with these held-out losses [n]."""
    lowest: dict[str, tuple[float, int]] = {}
    for number, (held_out, (scaling, relative)) in enumerate(zip(losses, candidates, strict=True)):
        against = _against(held_out, relative, problem)
        if scaling not in lowest or against < lowest[scaling][0]:
            lowest[scaling] = against, number
    chosen, *others = (number for _, number in lowest.values())
    for other in others:
        gain, error = _mean_and_error(losses[chosen] - losses[other], problem)
        chosen = other if gain > error else chosen
    return chosen


def _against(losses: np.ndarray, relative: float, problem: Problem) -> float:
    """Returns minus the logarithm of a strength's probability, but for a constant."""
    there = ~np.isnan(losses)
    weight = problem.judged[there]
    examples = weight.sum() ** 2 / np.square(weight).sum()
    loss = examples * float(weight @ losses[there].astype(np.float64)) / weight.sum()
    if problem.task != "classification" or problem.kind != "logistic":
        return loss  # the prior was measured for logistic regression
    return loss + 0.5 * ((math.log10(relative) - USUAL_STRENGTH) / STRENGTH_SPREAD) ** 2


def _calibration(outputs: np.ndarray, problem: Problem) -> tuple[float, np.ndarray]:
    """Returns the temperature, and what is added to the outputs [c] before they are divided by it."""
    if problem.task == "regression":
        return 1.0, np.zeros(problem.outputs)
    fold, example = np.nonzero(~np.isnan(outputs[:, :, 0]))
    # Each example counts once, however often it was held out and whatever its weights sum to.
    often = np.bincount(example, minlength=len(problem.features))
    weight = problem.judged[example] / often[example]
    weight *= np.count_nonzero(often) / weight.sum()
    found, wanted = outputs[fold, example], problem.targets[example]
    if problem.balance is None or problem.kind != "logistic":
        return metrics.fit_temperature(found, wanted, weight), np.zeros(problem.outputs)
    temperature, share = metrics.fit_calibration(found, wanted, problem.balance.offset, weight)
    return temperature, temperature * share * problem.balance.offset


def _head(
    problem: Problem, solved: Candidates, place: int, temperature: float, shift: np.ndarray, cv: CvResult
) -> SolvedHead:
    """Folds the affine scaling and the shift of the outputs into the dense layer."""
    _, centre, factor = scale(problem.features, solved.scaling)
    scaled_kernel, scaled_bias = solved.solution(place)
    kernel = factor[:, None] * scaled_kernel.astype(np.float64)
    bias = scaled_bias - centre @ kernel + shift
    return SolvedHead(
        kernel.astype(np.float32),
        bias.astype(np.float32),
        solved.scaling,
        float(solved.strengths[place]),
        temperature,
        bool(solved.converged[place]),
        cv,
    )


def _without_cv(problem: Problem, scaling: str, strengths: Sequence[float] | None, reason: str) -> SolvedHead:
    """The safe choice: a fixed strength, of those that were asked for the nearest to it."""
    scaled, _, _ = scale(problem.features, scaling)
    strength = SAFE_RELATIVE_STRENGTH / max(problem.outputs, 2) * variance(scaled)
    if strengths is not None:
        strength = min(strengths, key=lambda s: abs(math.log(s / strength)))
    solved = solve_candidates(problem, scaling, [strength], [])
    offset = np.zeros(problem.outputs) if problem.balance is None else problem.balance.offset
    return _head(problem, solved, 0, 1.0, metrics.USUAL_OFFSET * offset, CvResult(False, reason))
