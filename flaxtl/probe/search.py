"""The head that cross-validation chooses: scaling and strength by held-out loss, solved on everything."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from flaxtl import metrics
from flaxtl.data.splits import folds as deal_folds
from flaxtl.errors import ConfigError, DataError, did_you_mean, listed
from flaxtl.probe.simple_heads import SCALINGS, scale, solve_ridge, unit_length
from flaxtl.probe.solve import LogisticPath, fit_path, one_hot

Task = Literal["classification", "multilabel", "regression"]
ClassWeight = Literal["auto"] | Mapping[int, float] | None

RELATIVE_STRENGTHS = np.logspace(1, -6, 22)
# Without cross-validation: what it mostly chose on real features with two to eight examples a class.
SAFE_RELATIVE_STRENGTH = 0.02


@dataclasses.dataclass(frozen=True)
class CvRow:
    """What cross-validation says of one scaling and strength: means over held-out examples ± standard errors.

    The loss is the log-loss and the accuracy the share of right predictions (multilabel: the binary
    losses' sum and the share of right labels; regression: the mean squared error and R²).
    """

    scaling: str
    strength: float
    loss: float
    loss_se: float
    accuracy: float
    accuracy_se: float


@dataclasses.dataclass(frozen=True)
class CvResult:
    """What cross-validation found.

    Attributes:
        possible: whether there were enough examples for it.
        reason: why not, as a sentence; empty if it was possible.
        rows: one a scaling and strength.
        chosen: the row that was chosen; None without cross-validation.
        logits: float32 [n, c], out-of-fold outputs of the chosen row, averaged over repeats; rows that
            were never held out are NaN. None without cross-validation.
        parts: number of folds in all repeats together.
    """

    possible: bool
    reason: str = ""
    rows: tuple[CvRow, ...] = ()
    chosen: int | None = None
    logits: np.ndarray | None = None
    parts: int = 0

    @property
    def best(self) -> CvRow | None:
        """The chosen row."""
        return None if self.chosen is None else self.rows[self.chosen]

    @property
    def summary(self) -> str:
        """One line for people."""
        row = self.best
        if row is None:
            return f"no cross-validation: {self.reason}"
        return (
            f"cross-validated loss {row.loss:.3f} ± {row.loss_se:.3f}, accuracy {row.accuracy:.1%} ± "
            f"{row.accuracy_se:.1%} (mean ± standard error, {self.parts} folds; {row.scaling} scaling, "
            f"strength {row.strength:.2g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON, without the logits."""
        rows = [dataclasses.asdict(r) for r in self.rows]
        about = {"possible": self.possible, "reason": self.reason, "folds": self.parts}
        return {"summary": self.summary, "cross_validation": {**about, "chosen": self.chosen, "rows": rows}}


@dataclasses.dataclass(frozen=True)
class SolvedHead:
    """A dense layer on features, and how it was found.

    Attributes:
        kernel: float32 [d, c]; on raw features, or on unit-length ones if `normalise` says so.
        bias: float32 [c].
        scaling: "unit", "standard" (already folded into kernel and bias) or "none".
        strength: of the penalty on scaled features.
        temperature: what logits are divided by to be calibrated; 1 if it could not be fitted.
        cv: what cross-validation found.
    """

    kernel: np.ndarray
    bias: np.ndarray
    scaling: str
    strength: float
    temperature: float
    cv: CvResult

    @property
    def normalise(self) -> Literal["unit", "none"]:
        """What has to be done to features before the dense layer."""
        return "unit" if self.scaling == "unit" else "none"

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns outputs float32 [m, c] of raw features [m, d], not divided by the temperature."""
        x = np.asarray(features, np.float32)
        return (unit_length(x) if self.normalise == "unit" else x) @ self.kernel + self.bias


@dataclasses.dataclass(frozen=True)
class _Problem:
    features: np.ndarray
    targets: np.ndarray  # int [n], or float [n, c]
    outputs: int
    task: Task
    sample_weight: np.ndarray  # calibration counts these
    weight: np.ndarray  # with class weights; the losses are weighted by these
    smoothing: float
    groups: Sequence[str] | None


@dataclasses.dataclass(frozen=True)
class _Solved:
    """All strengths with one scaling: the solutions on everything, and what held-out examples say."""

    scaling: str
    strengths: np.ndarray
    kernels: list[np.ndarray]  # on scaled features, [d, c] each
    biases: list[np.ndarray]
    losses: np.ndarray  # [s, folds, n]; NaN where not held out
    correct: np.ndarray  # likewise
    outputs: Any  # (strength) -> [folds, n, c], NaN where not held out


def solve_head(
    features: np.ndarray,
    targets: np.ndarray,
    classes: int,
    *,
    task: Task = "classification",
    sample_weight: np.ndarray | None = None,
    class_weight: ClassWeight = None,
    label_smoothing: float = 0.0,
    scalings: Sequence[str] = ("unit", "standard"),
    strengths: Sequence[float] | None = None,
    folds: int = 5,
    repeats: int = 2,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> SolvedHead:
    """Solves the output layer for frozen features.

    Every scaling and strength is judged by repeated stratified cross-validation. Of those whose loss is
    within one standard error of the lowest, the earliest scaling and in it the strongest penalty is taken
    (Breiman et al. 1984), and solved on all examples. Held-out examples of a class that the training part
    of their fold lacks are not counted. Scaling uses the features of all examples, never their targets.

    Where fewer than half of the classes have two examples (or groups), nothing can be held out: the first
    scaling is taken with a fixed strength, `SAFE_RELATIVE_STRENGTH` times the features' total variance.

    Args:
        features: float [n, d], finite.
        targets: int [n]; float [n, classes] for "multilabel" and "regression".
        classes: number of outputs.
        task: what the head says.
        sample_weight: float [n], not negative.
        class_weight: None, "auto" (each class counts the same) or weights by class number, others 1.
        label_smoothing: the share of a target that is spread evenly.
        scalings: "unit" (each example's features have length one), "standard" (each feature has mean 0
            and variance 1; constant ones get no weight) or "none", the preferred first.
        strengths: of the penalty on scaled features; None is 22 values from 10 to 1e-6 times their total
            variance.
        folds: parts of one repeat.
        repeats: how often the folds are drawn.
        seed: of the folds.
        groups: one an example; a group is never divided between training and held out.

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
    _check_settings(scalings, task, class_weight, label_smoothing, repeats)
    features = np.asarray(features, np.float32)
    _check_features(features, targets)
    own = np.ones(len(features)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    weight = own * class_weights(targets, classes, class_weight, own) if class_weight else own
    wanted = np.asarray(targets)
    wanted = one_hot(wanted.reshape(len(wanted), -1), classes) if task == "regression" else wanted
    problem = _Problem(features, wanted, classes, task, own, weight, label_smoothing, groups)
    parts, reason = _parts(problem, folds, repeats, seed)
    if not parts:
        return _without_cv(problem, scalings[0], strengths, reason)
    solved = [_solve(problem, scaling, strengths, parts) for scaling in scalings]
    rows = [row for one in solved for row in _rows(one, problem)]
    chosen = _one_standard_error(rows, scalings)
    winner = solved[scalings.index(rows[chosen].scaling)]
    place = chosen - sum(len(one.strengths) for one in solved[: solved.index(winner)])
    outputs = winner.outputs(place)
    cv = CvResult(True, "", tuple(rows), chosen, _over_folds(outputs), len(parts))
    return _head(problem, winner, place, _temperature(outputs, problem), cv)


def class_weights(
    targets: np.ndarray, classes: int, class_weight: ClassWeight, sample_weight: np.ndarray
) -> np.ndarray:
    """Returns the weight float64 [n] that each example gets from its class.

    "auto" makes the summed weight of all classes that have examples the same and keeps the total.

    Example:
        >>> class_weights(np.array([0, 0, 0, 1]), 2, 'auto', np.ones(4)).round(3).tolist()
        [0.667, 0.667, 0.667, 2.0]
    """
    targets = np.asarray(targets)
    by_class = np.ones(classes)
    if class_weight == "auto":
        mass = np.bincount(targets, sample_weight, minlength=classes)
        by_class = np.where(mass > 0, mass.sum() / ((mass > 0).sum() * np.maximum(mass, 1e-30)), 0.0)
    elif isinstance(class_weight, Mapping):
        unknown = [k for k in class_weight if k not in range(classes)]
        if unknown or any(v < 0 for v in class_weight.values()):
            raise ConfigError(
                f"The class weights are {dict(class_weight)}; expected class numbers from 0 to {classes - 1} "
                "with weights that are not negative."
            )
        for k, v in class_weight.items():
            by_class[k] = v
    return by_class[targets]


def _check_settings(
    scalings: Sequence[str], task: str, class_weight: ClassWeight, smoothing: float, repeats: int
) -> None:
    for scaling in scalings:
        if scaling not in SCALINGS:
            raise ConfigError(f"There is no scaling {scaling!r}.{did_you_mean(scaling, SCALINGS)}")
    if isinstance(scalings, str) or not scalings or len(set(scalings)) < len(scalings):
        raise ConfigError(f"The scalings are {scalings!r}; expected some of {listed(SCALINGS)}, each once.")
    if task not in ("classification", "multilabel", "regression"):
        raise ConfigError(f"The task is {task!r}; expected classification, multilabel or regression.")
    known = class_weight == "auto" or isinstance(class_weight, Mapping)
    if class_weight is not None and not (known and task == "classification"):
        raise ConfigError(
            f"The class weight is {class_weight!r} for {task}; expected 'auto' or weights by class number, "
            "and only for classification."
        )
    if not 0.0 <= smoothing < 1.0 or repeats < 1:
        raise ConfigError(
            f"Label smoothing is {smoothing} and repeats {repeats}; expected a share below 1 and at least 1."
        )


def _check_features(features: np.ndarray, targets: np.ndarray) -> None:
    if features.ndim != 2 or len(features) != len(targets) or len(features) == 0:
        raise DataError(f"Found features {features.shape} and {len(targets)} targets; expected [n, d] and n.")
    if not np.isfinite(features).all():
        raise DataError("The features hold NaN or infinite numbers. Leave those examples out.")


def _parts(problem: _Problem, folds: int, repeats: int, seed: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Returns the folds, or none and the reason."""
    n = len(problem.features)
    strata = np.zeros(n, np.int64) if problem.targets.ndim == 2 else problem.targets.astype(np.int64)
    units = np.arange(n) if problem.groups is None else _numbered(problem.groups)
    sizes = [len(np.unique(units[strata == t])) for t in np.unique(strata)]
    enough = sum(size >= 2 for size in sizes)
    unit = "examples" if problem.groups is None else "groups"
    if problem.targets.ndim == 2 and enough == 0:
        return [], f"there is only one of the {unit}, and none can be held out"
    if 2 * enough < len(sizes):
        return [], f"only {enough} of {len(sizes)} classes have two {unit}, so too little can be held out"
    return deal_folds(strata, folds, repeats, seed, problem.groups), ""


def _numbered(groups: Sequence[str] | np.ndarray) -> np.ndarray:
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _grid(scaled: np.ndarray, strengths: Sequence[float] | None) -> np.ndarray:
    if strengths is not None:
        return np.asarray(strengths, np.float64)
    return RELATIVE_STRENGTHS * _variance(scaled)


def _variance(scaled: np.ndarray) -> float:
    return max(float(scaled.astype(np.float64).var(0).sum()), 1e-12)


def _solve(
    problem: _Problem,
    scaling: str,
    strengths: Sequence[float] | None,
    parts: list[tuple[np.ndarray, np.ndarray]],
) -> _Solved:
    scaled, _, _ = scale(problem.features, scaling)
    grid = _grid(scaled, strengths)
    if problem.task == "regression":
        return _solve_regression(problem, scaling, scaled, grid, parts)
    known = np.zeros((len(parts) + 1, len(scaled)), bool)
    known[-1] = True  # the last is the solution on everything
    for fold, (training, _) in enumerate(parts):
        known[fold, training] = True
    path = fit_path(
        scaled,
        problem.targets,
        problem.outputs,
        grid,
        known * problem.weight,
        task=problem.task,
        smoothing=problem.smoothing,
    )
    where = np.full((len(parts), len(scaled)), np.nan, np.float32)
    for fold, (training, test) in enumerate(parts):
        where[fold, _counted(problem, training, test)] = 0.0

    def outputs(strength: int) -> np.ndarray:
        each = [scaled @ path.kernel(strength, f) + path.bias(strength, f) for f in range(len(parts))]
        return np.stack(each) + where[:, :, None]

    kernels, biases = _everything(path, len(parts))
    return _Solved(scaling, grid, kernels, biases, path.losses[:, :-1] + where, path.correct[:, :-1] + where, outputs)


def _everything(path: LogisticPath, fold: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    count = len(path.objective)
    return [path.kernel(s, fold) for s in range(count)], [path.bias(s, fold) for s in range(count)]


def _counted(problem: _Problem, training: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Says which examples are held out and of a class that the training part knows: bool [n]."""
    counted = np.zeros(len(problem.features), bool)
    counted[test] = True
    if problem.targets.ndim == 1:
        known = problem.targets[training][problem.weight[training] > 0]
        counted &= np.isin(problem.targets, known)
    return counted


def _solve_regression(
    problem: _Problem,
    scaling: str,
    scaled: np.ndarray,
    grid: np.ndarray,
    parts: list[tuple[np.ndarray, np.ndarray]],
) -> _Solved:
    tests = [test for _, test in parts]
    path = solve_ridge(scaled, problem.targets, grid, sample_weight=problem.weight, held_out=tests)
    outputs = np.full((len(grid), len(parts), *problem.targets.shape), np.nan, np.float32)
    for fold, test in enumerate(tests):
        outputs[:, fold, test] = path.held_out[fold]
    losses = np.square(outputs - problem.targets).mean(-1)
    centre = np.average(problem.targets, axis=0, weights=problem.weight)
    spread = np.average(np.square(problem.targets - centre).mean(-1), weights=problem.weight)
    right = 1.0 - losses / max(float(spread), 1e-30)
    return _Solved(scaling, grid, list(path.kernel), list(path.bias), losses, right, lambda s: outputs[s])


def _over_folds(values: np.ndarray) -> np.ndarray:
    """Averages [folds, n, ...] over the folds in which an example was held out; NaN if it never was."""
    there = ~np.isnan(values)
    count = there.sum(0)
    total = np.where(there, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _rows(solved: _Solved, problem: _Problem) -> list[CvRow]:
    rows = []
    for s, strength in enumerate(solved.strengths):
        loss, loss_se = _mean_and_error(_over_folds(solved.losses[s]), problem)
        accuracy, accuracy_se = _mean_and_error(_over_folds(solved.correct[s]), problem)
        rows.append(CvRow(solved.scaling, float(strength), loss, loss_se, accuracy, accuracy_se))
    return rows


def _mean_and_error(values: np.ndarray, problem: _Problem) -> tuple[float, float]:
    """Weighted mean and its standard error over examples; a group is one draw, its members are not."""
    there = ~np.isnan(values) & (problem.weight > 0)
    w, v = problem.weight[there], values[there].astype(np.float64)
    if w.sum() <= 0:
        return math.inf, math.inf
    mean = float(w @ v / w.sum())
    part = w * (v - mean)
    if problem.groups is not None:
        part = np.bincount(_numbered(np.asarray(problem.groups)[there]), part)
    if len(part) < 2:
        return mean, math.inf
    return mean, float(np.sqrt(np.square(part).sum() * len(part) / (len(part) - 1)) / w.sum())


def _one_standard_error(rows: Sequence[CvRow], scalings: Sequence[str]) -> int:
    best = min(rows, key=lambda r: r.loss)
    within = [i for i, r in enumerate(rows) if r.loss <= best.loss + best.loss_se]
    return min(within, key=lambda i: (list(scalings).index(rows[i].scaling), -rows[i].strength))


def _temperature(outputs: np.ndarray, problem: _Problem) -> float:
    if problem.task == "regression":
        return 1.0
    fold, example = np.nonzero(~np.isnan(outputs[:, :, 0]))
    if len(example) == 0:
        return 1.0
    # Each example counts once, however often it was held out.
    often = np.bincount(example, minlength=len(problem.features))
    weight = problem.sample_weight[example] / often[example]
    return metrics.fit_temperature(outputs[fold, example], problem.targets[example], weight)


def _head(problem: _Problem, solved: _Solved, place: int, temperature: float, cv: CvResult) -> SolvedHead:
    """Folds the affine scaling into the dense layer."""
    _, shift, factor = scale(problem.features, solved.scaling)
    kernel = factor[:, None] * solved.kernels[place].astype(np.float64)
    bias = solved.biases[place] - shift @ kernel
    strength = float(solved.strengths[place])
    return SolvedHead(kernel.astype(np.float32), bias.astype(np.float32), solved.scaling, strength, temperature, cv)


def _without_cv(problem: _Problem, scaling: str, strengths: Sequence[float] | None, reason: str) -> SolvedHead:
    """The safe choice: a fixed strength, of those that were asked for the nearest to it."""
    scaled, _, _ = scale(problem.features, scaling)
    strength = SAFE_RELATIVE_STRENGTH * _variance(scaled)
    if strengths is not None:
        strength = min(strengths, key=lambda s: abs(math.log(s / strength)))
    solved = _solve(problem, scaling, [strength], [])
    return _head(problem, solved, 0, 1.0, CvResult(False, reason))
