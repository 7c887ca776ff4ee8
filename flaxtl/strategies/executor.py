"""Runs phases one after the other, keeps their states, and goes on where an interrupted run stopped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl import freeze, metrics, paths
from flaxtl.card import Card
from flaxtl.checkpoint import RunCheckpoints
from flaxtl.data import Augment, Loader, Source
from flaxtl.model import Model
from flaxtl.probe.attach import solve_and_attach
from flaxtl.strategies.phases import Phase, epochs_for
from flaxtl.train import TrainState, init_state, make_step, model_loss, optim
from flaxtl.train.loop import Cadence, Standing, run_steps
from flaxtl.train.progress import progress_bar
from flaxtl.train.rundir import RunDirectory
from flaxtl.train.store import MemoryCheckpoints


@dataclasses.dataclass
class Executor:
    """What phases are run on.

    Attributes:
        train: the training data.
        validation: what decides which step is best; None keeps the last.
        seed: of everything that is drawn.
        run: where states and metrics are kept; None keeps them in memory.
        shown: whether a progress bar is shown.
        evidence: what the phases found out, by phase, for the report.
    """

    train: Source
    validation: Source | None = None
    seed: int = 0
    run: RunDirectory | None = None
    shown: bool = False
    evidence: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.store: RunCheckpoints | MemoryCheckpoints = (
            RunCheckpoints(self.run.checkpoints) if self.run else MemoryCheckpoints()
        )

    def execute(self, model: Model, phases: tuple[Phase, ...]) -> Model:
        """Runs the phases and returns the model that comes out of the last."""
        first = self._resume_at()
        offset = 0
        for number, phase in enumerate(phases):
            steps = self._cadence(phase).steps if phase.kind == "train" else 0
            if number >= first:
                if phase.kind == "solve":
                    model = self._solve(model, phase)
                else:
                    model = TrainPhase(self, number, offset, phase).run(model, resume=self._resumed(number))
            offset += steps + 1
        return model

    def _resume_at(self) -> int:
        """Returns the phase to go on with; states are only kept in phases that train."""
        if self.run is None or not self.run.resumed:
            return 0
        metadata = self.store.latest_metadata()
        return 0 if metadata is None else int(metadata["phase"])

    def _resumed(self, number: int) -> bool:
        return (
            self.run is not None
            and self.run.resumed
            and number == self._resume_at()
            and (self.store.latest_step() is not None)
        )

    def _cadence(self, phase: Phase) -> Cadence:
        t = phase.training
        epochs = t.epochs if t.epochs is not None else epochs_for(len(self.train))
        batch = min(t.batch_size, len(self.train))
        steps = max(1, math.ceil(epochs * math.ceil(len(self.train) / batch)))
        return Cadence(steps, t.save_every or max(1, steps // 10), t.patience)

    def log(self, **entry: Any) -> None:
        """Writes a line of metrics."""
        if self.run is not None:
            self.run.log(**entry)

    def _solve(self, model: Model, phase: Phase) -> Model:
        model, found = solve_and_attach(model, self.train, smoothing=phase.training.label_smoothing, seed=self.seed)
        self.evidence.append({"kind": "solve", **found})
        self.log(phase="solve", **found)
        return model


class TrainPhase:
    """One phase of gradient steps over an executor's data."""

    def __init__(self, executor: Executor, number: int, offset: int, phase: Phase) -> None:
        self.executor, self.number, self.offset, self.phase = executor, number, offset, phase
        self.cadence = executor._cadence(phase)

    def run(self, model: Model, *, resume: bool) -> Model:
        """Trains the model; goes on from the last kept state if asked to."""
        executor, training = self.executor, self.phase.training
        if self.phase.init == "fresh":
            model = model.with_variables(model.network.init(executor.seed, _zeros(model)), "every parameter drawn anew")
        standing = Standing()
        if resume:
            model = self._with_kept_card(model)
        head = model.card.head.path
        labels = optim.group_labels(model.params, self._patterns(model), head)
        tx = optim.build(self.phase.optimizer, labels, self.cadence.steps)
        stats = {k: v for k, v in model.variables.items() if k != paths.PARAMS}
        state = init_state(model.params, tx, labels, stats=stats, seed=executor.seed, ema=training.ema is not None)
        if resume:
            state, standing = self._restore(state, labels)
        live: frozenset[str] = frozenset()
        if training.statistics == "batch":
            live = freeze.live_statistics(labels, stats.get("batch_stats", {}))
        task = model.card.head.task
        loss = model_loss(model.pipeline, task=task, live=live, smoothing=training.label_smoothing)
        step = make_step(loss, tx, ema_decay=training.ema)
        state = self._train(model, state, step, standing)
        return self._finish(model, state, labels, standing)

    def _patterns(self, model: Model) -> tuple[str, ...]:
        return (*self.phase.trainable, f"{model.card.head.path}/**")

    def _train(self, model: Model, state: TrainState, step: Any, standing: Standing) -> TrainState:
        executor, training, cadence = self.executor, self.phase.training, self.cadence
        stopped = training.patience is not None and standing.stale >= training.patience
        if standing.step >= cadence.steps or stopped:
            return state
        loader = Loader(
            executor.train,
            model.pipeline.preprocess,
            min(training.batch_size, len(executor.train)),
            seed=executor.seed,
            augment=Augment(**dataclasses.asdict(self.phase.augment)),
        )
        batches = loader.iterate(standing.step, cadence.steps - standing.step)
        name = f"phase {self.number + 1}: training"
        with progress_bar(name, cadence.steps, first=standing.step, shown=executor.shown) as report:
            return run_steps(
                state,
                step,
                batches,
                cadence,
                standing,
                evaluate=self._evaluator(model),
                save=self._saver(model),
                log=lambda entry: executor.log(phase=self.number, **entry),
                report=report,
            )

    def _evaluator(self, model: Model) -> Callable[[TrainState], tuple[float, dict[str, float]]] | None:
        if self.executor.validation is None:
            return None
        validation = self.executor.validation

        def evaluate(state: TrainState) -> tuple[float, dict[str, float]]:
            now = model.with_variables({paths.PARAMS: state.averaged_params, **state.stats})
            logits = now.logits(validation)
            loss, accuracy = metrics.loss_and_accuracy(logits, validation.targets, model.card.head.task)
            figure = accuracy if self.phase.training.monitor == "accuracy" else -loss
            return figure, {"validation_loss": loss, "validation_accuracy": accuracy}

        return evaluate

    def _saver(self, model: Model) -> Callable[[TrainState, Standing, float | None], None]:
        def save(state: TrainState, standing: Standing, figure: float | None) -> None:
            metadata = {
                "phase": self.number,
                "standing": dataclasses.asdict(standing),
                "card": model.card.to_dict(),
                "evidence": self.executor.evidence,
            }
            self.executor.store.save(self.offset + standing.step, _tree(state), metadata, metric=figure)

        return save

    def _with_kept_card(self, model: Model) -> Model:
        metadata = self.executor.store.latest_metadata()
        assert metadata is not None
        self.executor.evidence[:] = metadata["evidence"]
        return dataclasses.replace(model, card=Card.from_dict(metadata["card"]))

    def _restore(self, state: TrainState, labels: Any) -> tuple[TrainState, Standing]:
        _, tree, metadata, notes = self.executor.store.restore_latest(_tree(state))
        self.executor.notes.extend(notes)
        if self.executor.run is not None:
            number, done = self.number, metadata["standing"]["step"]
            self.executor.run.forget_after(
                lambda e: not isinstance(e["phase"], int) or (e["phase"], e["step"]) <= (number, done)
            )
        return _state(tree, labels), Standing(**metadata["standing"])

    def _finish(self, model: Model, state: TrainState, labels: Any, standing: Standing) -> Model:
        store, validation = self.executor.store, self.executor.validation
        found: dict[str, Any] = {"kind": "train", "steps": standing.step}
        best = store.best_step() if validation is not None else None
        if best is not None:
            tree, _ = store.restore(best, _tree(state))
            state = _state(tree, labels)
            found |= {"best_step": best - self.offset, "best": standing.best}
        variables = {paths.PARAMS: state.averaged_params, **state.stats}
        model = model.with_variables(jax.tree.map(np.asarray, variables))
        temperature = 1.0
        if validation is not None and model.card.head.task == "classification":
            temperature = metrics.fit_temperature(model.logits(validation), validation.targets)
        self.executor.evidence.append(found)
        return dataclasses.replace(model, card=model.card.with_head(temperature=float(temperature)))


def _zeros(model: Model) -> Any:
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), model.sample())


def _tree(state: TrainState) -> dict[str, Any]:
    """Returns a training state as the tree that is kept: whole parameters, so that it stands alone."""
    return {
        "params": state.params,
        "stats": state.stats,
        "opt_state": state.opt_state,
        "ema": state.ema,
        "step": state.step,
        "rng": state.rng,
    }


def _state(tree: dict[str, Any], labels: Any) -> TrainState:
    # Copied: an array that aliases a NumPy buffer cannot be donated and would be counted twice.
    tree = jax.tree.map(lambda a: jnp.array(a, copy=True), tree)
    trainable, frozen = freeze.partition(tree.pop("params"), labels)
    return TrainState(trainable=trainable, frozen=frozen, **tree)
