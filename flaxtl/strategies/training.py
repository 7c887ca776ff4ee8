"""A phase of gradient steps: its state, its loop, what is kept of it, and the model that comes out."""

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
from flaxtl.data import Augment, Entry, Loader
from flaxtl.errors import CheckpointError, ConfigError, TrainingError, listed
from flaxtl.model import Model, non_finite
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.phases import Phase, epochs_for
from flaxtl.strategies.work import Work
from flaxtl.train import TrainState, init_state, make_step, model_loss, optim
from flaxtl.train.loop import Cadence, Standing, run_steps
from flaxtl.train.progress import progress_bar
from flaxtl.train.store import MemoryCheckpoints


def cadence(phase: Phase, examples: int) -> Cadence:
    """Returns how many steps a phase takes on so many examples, and how often it is judged and kept.

    Example:
        >>> cadence(Phase('train'), 50).steps
        160
    """
    t = phase.training
    epochs = t.epochs if t.epochs is not None else epochs_for(examples)
    steps = max(1, math.ceil(epochs * math.ceil(examples / min(t.batch_size, examples))))
    return Cadence(steps, t.save_every or max(1, steps // 10), t.patience)


def trained_patterns(phase: Phase, model: Model) -> tuple[str, ...]:
    """Returns the patterns of the parameters that a phase trains on a model; the head is always among them."""
    return (*phase.trainable, f"{model.card.head.path}/**")


def trained_labels(phase: Phase, model: Model) -> Any:
    """Labels a model's parameters as `optim.build` takes them; all below the phase's first segment is frozen."""
    labels = optim.group_labels(model.params, trained_patterns(phase, model), model.card.head.path)
    start = segment_named(model.network, phase.start)
    return paths.map_with_leaf(
        lambda leaf, label: label if model.network.segment_of(leaf.path) >= start else freeze.FROZEN, labels
    )


class TrainPhase:
    """One phase of gradient steps."""

    def __init__(self, work: Work, number: int, phase: Phase, store: RunCheckpoints | MemoryCheckpoints) -> None:
        self.work, self.number, self.phase, self.store = work, number, phase, store
        self.cadence = cadence(phase, len(work.train))
        self.fingerprint = work.fingerprint()
        self.start = 0
        self.validation: Entry | None = None

    def run(self, model: Model, *, resume: bool) -> Model:
        """Trains the model; goes on from the last kept state if asked to."""
        work, training = self.work, self.phase.training
        model = self._with_kept_card(model) if resume else self._started(model)
        self.start = segment_named(model.network, self.phase.start)
        labels = trained_labels(self.phase, model)
        tx = optim.build(self.phase.optimizer, labels, self.cadence.steps)
        stats = {k: v for k, v in model.variables.items() if k != paths.PARAMS}
        state = init_state(model.params, tx, labels, stats=stats, seed=work.seed, ema=training.ema is not None)
        standing = Standing()
        if resume:
            state, standing = self._restore(state, labels)
        else:
            self._save(model, state, standing, None)
        live: frozenset[str] = frozenset()
        if training.statistics == "batch":
            live = freeze.live_statistics(labels, stats.get("batch_stats", {}))
        if work.validation is not None:
            self.validation = work.enter(model, work.validation, self.start)
        loss = model_loss(
            model.pipeline,
            task=model.card.head.task,
            live=live,
            smoothing=training.label_smoothing,
            start=self.start,
        )
        state = self._train(model, state, make_step(loss, tx, ema_decay=training.ema), standing)
        return self._finish(model, state, labels, standing)

    def _started(self, model: Model) -> Model:
        if self.phase.init == "keep":
            # A solved head is calibrated by the card's temperature, which the loss does not know of.
            return model.with_temperature_in_head()
        # Nothing of the pretrained parameters is left, so what the card says of their origin goes too.
        fresh = dataclasses.replace(model, card=dataclasses.replace(model.card, provenance={}), notes=())
        variables = fresh.network.init(self.work.seed, _zeros(fresh))
        return fresh.with_variables(variables, "every parameter drawn anew")

    def _train(self, model: Model, state: TrainState, step: Any, standing: Standing) -> TrainState:
        work, training, cadence = self.work, self.phase.training, self.cadence
        stopped = training.patience is not None and standing.stale >= training.patience
        if standing.step >= cadence.steps or stopped:
            return state
        views = work.views(self.phase)
        entry = work.enter(model, work.train, self.start, views)
        loader = Loader(
            entry.source,
            entry.preprocess,
            min(training.batch_size, len(entry)),
            seed=work.seed,
            augment=None if self.start else Augment(**dataclasses.asdict(self.phase.augment)),
        )
        batches = loader.iterate(standing.step, cadence.steps - standing.step)
        name = f"phase {self.number}: training"
        with progress_bar(name, cadence.steps, first=standing.step, shown=work.shown) as report:
            return run_steps(
                state,
                step,
                batches,
                cadence,
                standing,
                evaluate=self._evaluator(model),
                save=lambda state, standing, figure: self._save(model, state, standing, figure),
                log=lambda entry: work.log(phase=self.number, kind="train", **entry),
                report=report,
            )

    def _evaluator(self, model: Model) -> Callable[[TrainState], tuple[float, dict[str, float]]] | None:
        if self.validation is None:
            return None
        validation = self.validation

        def evaluate(state: TrainState) -> tuple[float, dict[str, float]]:
            logits = model.with_variables(_variables(state)).logits(validation)
            loss, accuracy = metrics.loss_and_accuracy(logits, validation.source.targets, model.card.head.task)
            figure = accuracy if self.phase.training.monitor == "accuracy" else -loss
            return figure, {"validation_loss": loss, "validation_accuracy": accuracy}

        return evaluate

    def _save(self, model: Model, state: TrainState, standing: Standing, figure: float | None) -> None:
        bad = non_finite({paths.PARAMS: state.params, **state.stats})
        if bad:
            raise TrainingError(
                f"NaN or infinity came into {listed(bad)} by step {standing.step}. Training has stopped, and what "
                "was kept before is whole. Lower --learning-rate, or look for extreme values in the data."
            )
        metadata = {
            "standing": dataclasses.asdict(standing),
            "card": model.card.to_dict(),
            "evidence": self.work.evidence,
            "data": self.fingerprint,
        }
        self.store.save(standing.step, _tree(state), metadata, metric=figure)

    def _kept(self) -> RunCheckpoints:
        assert isinstance(self.store, RunCheckpoints), "only a run with a directory is resumed"
        return self.store

    def _with_kept_card(self, model: Model) -> Model:
        metadata = self._kept().latest_metadata()
        assert metadata is not None
        if metadata["data"] != self.fingerprint:
            raise ConfigError(
                "The training or validation data are not those that the run was started with. "
                "Resume it with the same data, or choose another --out."
            )
        self.work.evidence[:] = metadata["evidence"]
        return dataclasses.replace(model, card=Card.from_dict(metadata["card"]))

    def _restore(self, state: TrainState, labels: Any) -> tuple[TrainState, Standing]:
        _, tree, metadata, notes = self._kept().restore_latest(_tree(state))
        self.work.notes.extend(notes)
        standing = Standing(**metadata["standing"])
        if self.work.run is not None:
            done = (self.number, standing.step)
            self.work.run.forget_after(lambda entry: (entry["phase"], entry.get("step", 0)) <= done)
        return _state(tree, labels), standing

    def _finish(self, model: Model, state: TrainState, labels: Any, standing: Standing) -> Model:
        found: dict[str, Any] = {"kind": "train", "steps": standing.step}
        if standing.best_step is not None and standing.best is not None:
            state, restored = self._best(state, labels, standing.best_step, standing.step)
            if restored:
                monitor = self.phase.training.monitor
                figure = standing.best if monitor == "accuracy" else -standing.best
                found |= {"best_step": standing.best_step, "monitor": monitor, "best": figure}
        model = model.with_variables(jax.tree.map(np.asarray, _variables(state)))
        temperature = 1.0
        if self.validation is not None and model.card.head.task == "classification":
            temperature = metrics.fit_temperature(model.logits(self.validation), self.validation.source.targets)
        self.work.evidence.append(found)
        return dataclasses.replace(model, card=model.card.with_head(temperature=float(temperature)))

    def _best(self, state: TrainState, labels: Any, best: int, last: int) -> tuple[TrainState, bool]:
        if best == last:
            return state, True
        try:
            tree, _ = self.store.restore(best, _tree(state))
        except CheckpointError as error:
            self.work.notes.append(f"The best state, of step {best}, is lost; the last one is used. {error}")
            return state, False
        return _state(tree, labels), True


def _zeros(model: Model) -> Any:
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), model.sample())


def _variables(state: TrainState) -> dict[str, Any]:
    return {paths.PARAMS: state.averaged_params, **state.stats}


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
