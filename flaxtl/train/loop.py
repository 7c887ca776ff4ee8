"""The loop of a training phase: batches in, states out, with evaluation, checkpoints and early stopping."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from flaxtl import processes
from flaxtl.errors import Preempted, TrainingError
from flaxtl.train.meter import Meter
from flaxtl.train.prefetch import prefetched
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
        pending: metrics of steps that no line tells of yet: [step, {name: value}].
    """

    step: int = 0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    pending: list[list[Any]] = dataclasses.field(default_factory=list)

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
    place: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    stop: Callable[[], bool] = lambda: False,
    meter: Meter | None = None,
) -> TrainState:
    """Trains until the phase's steps are done or patience is at its end.

    Args:
        state: where to start.
        step_function: as `make_step` makes it or an engine compiles it.
        batches: from the state's next step on; of NumPy arrays.
        cadence: how often to evaluate, save and log.
        standing: how the phase did so far; changed in place.
        evaluate: state → (figure to judge by, figures to log), or None without validation data.
        save: (state, standing, figure) is called at each evaluation and after the last step.
        log: takes one line of metrics.
        report: moves the progress bar.
        place: puts a batch onto the devices; called one batch ahead.
        stop: asked after each step whether to save and end.
        meter: what counts steps and time; one that does not know of operations by default.

    Returns:
        The state after the last step.

    Raises:
        TrainingError: the loss or the gradient is no longer finite. Nothing is saved from then on, so what
            was saved last is good.
        Preempted: `stop` asked for it, and the state is saved.
    """
    meter, pending = meter or Meter(), [(step, metrics) for step, metrics in standing.pending]
    standing.pending = []
    with contextlib.closing(prefetched((_real_rows(batch), place(batch)) for batch in batches)) as ready:
        for rows, batch in meter.watch(ready):
            state, metrics = _taken(step_function, state, batch, compiling=meter.steps == 0)
            standing.step += 1
            meter.count(rows)
            pending.append((standing.step, metrics))
            done, stopping = standing.step >= cadence.steps, stop()
            saving = done or standing.step % cadence.save_every == 0
            if saving or standing.step % cadence.log_every == 0:
                _tell(standing.step, _means(_fetched(pending)), meter.line(), log, report)
            if saving:
                figure = _judged(state, standing, evaluate, log)
                save(state, standing, figure)
                meter.restart()
            if stopping:
                if not saving:
                    standing.pending = [list(entry) for entry in _fetched(pending)]
                    save(state, standing, None)
                raise Preempted(
                    f"Stopped after step {standing.step} as asked; its state is saved. Continue with `resume=True`."
                )
            if done or (cadence.patience is not None and standing.stale >= cadence.patience):
                break
    return state


def _tell(
    step: int,
    means: dict[str, float],
    speed: dict[str, float],
    log: Callable[[dict[str, Any]], None],
    report: Reporter,
) -> None:
    log({"step": step, **means, **speed})
    report(step, f"loss {means['loss']:.4f}  {speed['examples_per_second']:.0f} examples/s")


def _judged(
    state: TrainState,
    standing: Standing,
    evaluate: Callable[[TrainState], tuple[float, dict[str, float]]] | None,
    log: Callable[[dict[str, Any]], None],
) -> float | None:
    """Evaluates a state, takes the figure into the standing, and returns it."""
    if evaluate is None:
        return None
    figure, figures = evaluate(state)
    standing.judge(figure)
    log({"step": standing.step, **figures})
    return figure


def _real_rows(batch: Mapping[str, Any]) -> int:
    return int((batch["weight"] > 0).sum()) * processes.count()


def _taken(step_function: Step, state: TrainState, batch: Mapping[str, Any], *, compiling: bool) -> Any:
    """Takes a step; the first waits until all processes have compiled it, for which they have more time."""
    if not compiling:
        with processes.waiting("a step"):
            return step_function(state, batch)
    with processes.waiting("the first step", times=10.0):
        return jax.block_until_ready(step_function(state, batch))


def _fetched(pending: list[tuple[int, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Fetches metrics from the device, empties the list, and refuses non-finite ones."""
    with processes.waiting("a step"):
        fetched = [(step, {k: float(v) for k, v in jax.device_get(metrics).items()}) for step, metrics in pending]
    pending.clear()
    for step, metrics in fetched:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                raise TrainingError(
                    f"The {name.replace('grad_norm', 'gradient norm')} became {metrics[name]} at step {step}. "
                    "Training has stopped, and what was kept before is whole. Lower `learning_rate`, or look for "
                    "extreme values in the data."
                )
    return fetched


def _means(fetched: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    names = fetched[0][1]
    return {name: round(sum(m[name] for _, m in fetched) / len(fetched), 6) for name in names}
