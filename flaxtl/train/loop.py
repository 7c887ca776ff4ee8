"""The loop of a training phase: batches in, states out, with evaluation, checkpoints and early stopping."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from flaxtl.errors import TrainingError
from flaxtl.train.progress import Reporter
from flaxtl.train.state import TrainState
from flaxtl.train.step import Step


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often the loop does what.

    Attributes:
        steps: of the whole phase.
        save_every: steps between two evaluations, which are also saved.
        patience: evaluations without a better one before the loop stops; None for never.
        log_every: steps between two lines of metrics.
    """

    steps: int
    save_every: int
    patience: int | None = None
    log_every: int = 10


@dataclasses.dataclass
class Standing:
    """How a phase is doing; it is saved with the state, so that a resumed run judges as the first would have.

    Attributes:
        step: steps taken.
        best: the best figure so far, larger is better; None before the first evaluation.
        best_step: the step that it was reached at.
        stale: evaluations since then.
    """

    step: int = 0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0

    def judge(self, figure: float) -> None:
        """Takes in an evaluation's figure; the first of equally good steps stays the best."""
        if self.best is None or figure > self.best:
            self.best, self.best_step, self.stale = figure, self.step, 0
        else:
            self.stale += 1


def run_steps(
    state: TrainState,
    step_function: Step,
    batches: Iterable[Mapping[str, Any]],
    cadence: Cadence,
    standing: Standing,
    *,
    evaluate: Callable[[TrainState], tuple[float, dict[str, float]]] | None,
    save: Callable[[TrainState, Standing, float | None], None],
    log: Callable[[dict[str, Any]], None],
    report: Reporter,
) -> TrainState:
    """Trains until the phase's steps are done or patience is at its end.

    Args:
        state: where to start.
        step_function: as `make_step` makes it.
        batches: from the state's next step on.
        cadence: how often to evaluate, save and log.
        standing: how the phase did so far; changed in place.
        evaluate: state → (figure to judge by, figures to log), or None without validation data.
        save: (state, standing, figure) is called at each evaluation and after the last step.
        log: takes one line of metrics.
        report: moves the progress bar.

    Returns:
        The state after the last step.

    Raises:
        TrainingError: the loss or the gradient is no longer finite. Nothing is saved from then on, so what
            was saved last is good.
    """
    pending: list[tuple[int, dict[str, jax.Array]]] = []
    began, seen = time.perf_counter(), 0
    for batch in batches:
        state, metrics = step_function(state, batch)
        standing.step += 1
        seen += int((batch["weight"] > 0).sum())
        pending.append((standing.step, metrics))
        done = standing.step >= cadence.steps
        saving = done or standing.step % cadence.save_every == 0
        if saving or standing.step % cadence.log_every == 0:
            means = _flush(pending)
            rate = seen / max(time.perf_counter() - began, 1e-9)
            began, seen = time.perf_counter(), 0
            log({"step": standing.step, **means, "examples_per_second": round(rate, 1)})
            report(standing.step, f"loss {means['loss']:.4f}  {rate:.0f} examples/s")
        if saving:
            figure = None
            if evaluate is not None:
                figure, figures = evaluate(state)
                standing.judge(figure)
                log({"step": standing.step, **figures})
            save(state, standing, figure)
            began = time.perf_counter()
        if done or (cadence.patience is not None and standing.stale >= cadence.patience):
            break
    return state


def _flush(pending: list[tuple[int, dict[str, jax.Array]]]) -> dict[str, float]:
    """Fetches metrics from the device, refuses non-finite ones, and returns their means."""
    fetched = [(step, jax.device_get(metrics)) for step, metrics in pending]
    pending.clear()
    for step, metrics in fetched:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                raise TrainingError(
                    f"The {name.replace('grad_norm', 'gradient norm')} became {float(metrics[name])} at step {step}. "
                    "Training has stopped, and what was kept before is whole. Lower --learning-rate, or look for "
                    "extreme values in the data."
                )
    names = fetched[0][1]
    return {name: round(float(sum(m[name] for _, m in fetched)) / len(fetched), 6) for name in names}
