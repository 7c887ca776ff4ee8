"""Runs phases one after the other, and goes on where an interrupted run stopped."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, get_args

from flaxtl.card import Task
from flaxtl.model import Model
from flaxtl.probe.attach import solve_and_attach
from flaxtl.probe.weighting import numbered
from flaxtl.report.sentences import cross_validated
from flaxtl.strategies import averaging
from flaxtl.strategies.chains import Chain
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.training import TrainPhase
from flaxtl.strategies.work import OutOfFold, Work
from flaxtl.train.progress import progress_bar
from flaxtl.train.store import MemoryCheckpoints, SharedCheckpoints


def execute(work: Work, model: Model, phases: tuple[Phase, ...]) -> Model:
    """Runs the phases on a model and returns the one that comes out of the last.

    Args:
        work: the data, the seed and the run directory; its evidence and notes are added to.
        model: with a head of the right number of outputs.
        phases: of a strategy.
    """
    last = _last_kept(work, phases)
    if work.run is not None and work.run.resumed and last is None:
        work.run.forget_after(lambda entry: False)
    opt_state: Any = None
    for number in range(1 if last is None else last, len(phases) + 1):
        phase = phases[number - 1]
        if phase.kind == "solve":
            tuned = any(before.contrast is not None for before in phases[: number - 1])
            model = _solve(work, number, phase, model, tuned)
        elif phase.kind == "average":
            model = averaging.soup(work, phases, number, model)
        else:
            work.out_of_fold = None  # what a head said before training is not what the trained model would say
            chain = Chain.of(phases, number)
            with contextlib.closing(_store(work, number)) as store:
                training = TrainPhase(work, number, phase, store, chain)
                model = training.run(model, resume=number == last, opt_state=opt_state if phase.carry else None)
            goes_on = chain.place + 1 < len(chain.phases)
            opt_state = training.opt_state if goes_on else None
            if phase.member:
                work.keep(averaging.end_of(number), model.variables)
            if phase.training.wise is not None and not goes_on:
                model = averaging.wise(work, phase, model, averaging.start_of(number - chain.place))
    return model


def _last_kept(work: Work, phases: tuple[Phase, ...]) -> int | None:
    """Returns the number of the last phase that an interrupted run kept a state of; only training keeps any."""
    if work.run is None or not work.run.resumed:
        return None
    for number in range(len(phases), 0, -1):
        if phases[number - 1].kind == "train" and work.run.states(number).is_dir():
            with contextlib.closing(SharedCheckpoints(work.run.states(number))) as store:
                if store.latest_step() is not None:
                    return number
    return None


def _store(work: Work, number: int) -> SharedCheckpoints | MemoryCheckpoints:
    return MemoryCheckpoints() if work.run is None else SharedCheckpoints(work.run.states(number))


def _solve(work: Work, number: int, phase: Phase, model: Model, tuned: bool) -> Model:
    with progress_bar(f"phase {number}: features", len(work.train), shown=work.shown) as report:
        model, found, out_of_fold = solve_and_attach(
            model,
            work.train,
            store=work.store,
            views=work.views(phase),
            smoothing=phase.training.label_smoothing,
            class_weight=numbered(phase.training.class_weight, work.train.labels),
            kind=phase.training.head,
            feature_noise=phase.training.feature_noise,
            class_names=phase.training.class_names,
            tuned=tuned,
            seed=work.seed,
            report=lambda done: report(done, ""),
        )
    if tuned:
        model, found = _not_held_out(model, found)
        out_of_fold = None
    if out_of_fold is not None:
        work.out_of_fold = OutOfFold(out_of_fold, _BY_A_HEAD, _CAVEAT[model.card.head.task])
    found = {"task": model.card.head.task, **found, "summary": cross_validated(found, model.card.head.task)}
    work.evidence.append({"kind": "solve", **found})
    work.log(phase=number, kind="solve", **found)
    return model


_BY_A_HEAD = "each example predicted by a head that did not see it"
_CHOSEN = "The l2 penalty{} chosen with these out-of-fold predictions, so their figures are slightly optimistic."
_CAVEAT = dict.fromkeys(get_args(Task), _CHOSEN.format(" and the temperature were"))
_CAVEAT["regression"] = _CHOSEN.format(" was")


def _not_held_out(model: Model, found: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Takes away what held-out examples would say: these labels have shaped the features of all of them."""
    kept = {name: value for name, value in found.items() if name not in ("cross_validation", "conformal")}
    said = f"l2 penalty {found['strength']:.2g}; the features were trained on the same labels, so none was held out"
    return dataclasses.replace(model, card=model.card.with_head()), {**kept, "summary": said}
