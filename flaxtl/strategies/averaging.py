"""Averages of parameters: between before and after (WiSE-FT), and over several runs (model soups).

What is averaged are all variables, BatchNorm statistics included; these are the pretrained network's own wherever
training leaves them as they are, which is the default (`statistics='stored'`). Leaves that are the same everywhere stay
so to the bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl import metrics
from flaxtl.errors import ConfigError
from flaxtl.model import Model
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.work import Work

_GRID = 10  # steps from before to after


def start_of(number: int) -> str:
    """Returns the name of what a phase started from."""
    return f"phase_{number}_start"


def end_of(number: int) -> str:
    """Returns the name of what a phase came to."""
    return f"phase_{number}_end"


def between(before: Any, after: Any, alpha: float) -> Any:
    """Returns before + alpha · (after - before), leaf by leaf; both ends to the bit.

    Args:
        before: a tree of arrays.
        after: one of the same structure.
        alpha: 0 gives `before`, 1 `after`.

    Example:
        >>> between({'w': np.zeros(2)}, {'w': np.ones(2)}, 0.25)['w'].tolist()
        [0.25, 0.25]
    """
    if alpha in (0.0, 1.0):
        return after if alpha else before
    return jax.tree.map(lambda a, b: _step(np.asarray(a), np.asarray(b), alpha), before, after)


def mean(trees: Sequence[Any]) -> Any:
    """Returns the mean of trees, leaf by leaf.

    Example:
        >>> mean([{'w': np.zeros(2)}, {'w': np.ones(2)}])['w'].tolist()
        [0.5, 0.5]
    """
    found = trees[0]
    for number, tree in enumerate(trees[1:], start=2):
        found = between(found, tree, 1.0 / number)
    return found


def _step(a: np.ndarray, b: np.ndarray, alpha: float) -> np.ndarray:
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        return b  # counters and the like have nothing in between
    wide = np.promote_types(a.dtype, np.float32) if a.dtype.kind == "f" else np.dtype(np.float32)
    moved = (a.astype(wide) + alpha * (b.astype(wide) - a.astype(wide))).astype(a.dtype)
    return np.where(a == b, a, moved)  # minus zero too stays what it is


def calibrated(model: Model, validation: Any) -> Model:
    """Returns the model with the temperature that suits validation data, and with none where there is none.

    Args:
        model: whose card's temperature does not matter.
        validation: an Entry or None.
    """
    temperature = 1.0
    if validation is not None and model.card.head.task == "classification":
        temperature = metrics.fit_temperature(model.logits(validation), validation.source.targets)
    return dataclasses.replace(model, card=model.card.with_head(temperature=float(temperature)))


def wise(work: Work, phase: Phase, after: Model, start: str) -> Model:
    """WiSE-FT (Wortsman et al. 2022): goes only a part of the way from a phase's start to its end.

    With "auto" the part is the one of 0, 0.1, … 1 whose log-loss on validation data is lowest, each with the
    temperature that suits it; of equals the nearest to the start.

    Args:
        work: its validation data decides; its evidence and notes are added to.
        phase: whose `training.wise` says how far to go.
        after: the model at the end.
        start: the name of the variables at the start.
    """
    before, alpha, rows = work.kept(start), phase.training.wise, []
    validation = _validation(work, phase, after)
    if alpha == "auto":
        alphas = [step / _GRID for step in range(_GRID + 1)]
        rows = [{"share": a, "loss": _loss(_at(after, before, a), validation)} for a in alphas]
        alpha = min(rows, key=lambda row: row["loss"])["share"]
    assert isinstance(alpha, float)
    work.evidence.append({"kind": "wise", "share": alpha, "rows": rows})
    how = " chosen on validation data" if rows else ""
    work.notes.append(
        f"WiSE-FT: parameters are interpolated with alpha {alpha:g}{how} (0 is before training, 1 fully fine-tuned)."
    )
    return calibrated(_at(after, before, alpha), validation)


def _at(after: Model, before: Any, alpha: float) -> Model:
    return after.with_variables(between(before, after.variables, alpha))


def soup(work: Work, phases: Sequence[Phase], number: int, model: Model) -> Model:
    """Averages the runs before an "average" phase (Wortsman et al. 2022, model soups), and goes on as its wise says.

    uniform: the mean of all. greedy: runs are taken from the lowest validation loss on, and each stays in the mean if
    this does not raise the mean's validation loss.

    Args:
        work: its validation data decides; its evidence and notes are added to.
        phases: of the run.
        number: of the "average" phase; its runs come right before it.
        model: any run's, for its card and network.
    """
    phase, first = phases[number - 1], number - phases[number - 2].member
    runs = [work.kept(end_of(run)) for run in range(first, number)]
    validation = _validation(work, phase, model)
    losses: list[float] = []
    chosen = list(range(len(runs)))
    if validation is not None:
        losses = [_loss(model.with_variables(run), validation) for run in runs]
    if phase.training.soup_kind == "greedy":
        chosen = _greedy(runs, losses, lambda tree: _loss(model.with_variables(tree), validation))
    found = calibrated(model.with_variables(mean([runs[i] for i in chosen])), validation)
    work.evidence.append({"kind": "soup", "runs": len(runs), "losses": losses, "chosen": [i + 1 for i in chosen]})
    work.notes.append(f"Model soup: the mean of {len(chosen)} of {len(runs)} runs.")
    return found if phase.training.wise is None else wise(work, phase, found, start_of(first))


def _greedy(runs: Sequence[Any], losses: Sequence[float], judge: Any) -> list[int]:
    order = sorted(range(len(runs)), key=lambda i: losses[i])
    chosen, best = [order[0]], losses[order[0]]
    for i in order[1:]:
        loss = judge(mean([runs[j] for j in (*chosen, i)]))
        if loss <= best:
            chosen, best = [*chosen, i], loss
    return chosen


def _validation(work: Work, phase: Phase, model: Model) -> Any:
    if work.validation is not None:
        return work.enter(model, work.validation, segment_named(model.network, phase.start))
    if phase.training.wise == "auto" or phase.training.soup_kind == "greedy":
        raise ConfigError(NEEDS_VALIDATION)
    return None


NEEDS_VALIDATION = (
    "`wise='auto'` and a greedy soup choose on validation data, and there is none. Hold some out with "
    "`validation=0.2`, or give alpha (`wise=0.5`), or use a uniform soup."
)


def _loss(model: Model, validation: Any) -> float:
    model = calibrated(model, validation)
    logits = model.logits(validation) / model.card.head.temperature
    return float(metrics.loss_and_accuracy(logits, validation.source.targets, model.card.head.task)[0])
