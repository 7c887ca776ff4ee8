"""A phase of gradient steps: its state, its loop, what is kept of it, and the model that comes out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl import freeze, metrics, paths
from flaxtl.card import Card
from flaxtl.checkpoint import RunCheckpoints
from flaxtl.data import Entry, Loader, Source
from flaxtl.errors import CheckpointError, ConfigError, TrainingError, listed
from flaxtl.model import Model, non_finite
from flaxtl.probe.weighting import class_weights, numbered
from flaxtl.strategies import averaging
from flaxtl.strategies.adapters import merged, with_adapters
from flaxtl.strategies.augmenting import on_host
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.chains import Chain, cadence, carried
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.stepping import step_of
from flaxtl.strategies.work import Work
from flaxtl.train import TrainState, init_state, optim, preemption
from flaxtl.train.fitting import Fitted, fitted
from flaxtl.train.hardware import peak_of
from flaxtl.train.loop import Standing, run_steps
from flaxtl.train.meter import Meter
from flaxtl.train.progress import progress_bar
from flaxtl.train.step import Step
from flaxtl.train.store import MemoryCheckpoints

# Seeds of runs lie close together, so those of a run's own further draws lie far off.
_DRAWS_APART = 10_000


class TrainPhase:
    """One phase of gradient steps.

    Attributes:
        opt_state: the optimizer's, of the state that came out; None before.
    """

    def __init__(
        self,
        work: Work,
        number: int,
        phase: Phase,
        store: RunCheckpoints | MemoryCheckpoints,
        chain: Chain | None = None,
    ) -> None:
        self.work, self.number, self.phase, self.store = work, number, phase, store
        self.chain = Chain((phase,)) if chain is None else chain
        self.cadence = cadence(phase, len(work.train))
        self.fingerprint = work.fingerprint()
        self.seed = work.seed + _DRAWS_APART * phase.draw
        self.start = 0
        self.validation: Entry | None = None
        self.opt_state: Any = None
        self.microbatch = work.engine.microbatch

    def run(self, model: Model, *, resume: bool, opt_state: Any = None) -> Model:
        """Trains the model; goes on from the last kept state if asked to.

        Args:
            model: as the phase before left it.
            resume: whether to go on.
            opt_state: the optimizer's state at the end of the phase before, if it is to be carried on.
        """
        work, training = self.work, self.phase.training
        model = self._with_kept_card(model) if resume else self._started(model)
        self.start = segment_named(model.network, self.phase.start)
        if self.phase.lora is not None:
            model = with_adapters(model, self.phase.lora, start=self.start, seed=self.seed)
        labels, examples = self.chain.labels(model), len(work.train)
        tx = optim.build(self.phase.optimizer, labels, self.chain.steps(examples), self.chain.done(examples))
        stats = {k: v for k, v in model.variables.items() if k != paths.PARAMS}
        begin = functools.partial(init_state, tx=tx, labels=labels, seed=self.seed, ema=training.ema is not None)
        # A network that is trained from scratch has no values to begin with when its run is resumed, only shapes.
        state = jax.eval_shape(begin, model.params, stats=stats) if resume else begin(model.params, stats=stats)
        if opt_state is not None:
            # Copied: the step gives away the memory of its state.
            kept = jax.tree.map(lambda a: jnp.array(a, copy=True), carried(opt_state, state.opt_state))
            state = dataclasses.replace(state, opt_state=kept)
        standing = Standing()
        if resume:
            state, standing = self._restore(state, labels)
        else:
            self._save(model, state, standing, None)
        if work.validation is not None and self.phase.contrast is None:  # without a head there is nothing to judge
            self.validation = work.enter(model, work.validation, self.start)
        schedule = (self.chain.steps(examples), self.chain.done(examples))
        # Weights and shares of classes by name are mappings, which have no hash.
        key = (repr(self.phase), model.pipeline, tuple(paths.leaves(labels)), schedule)
        state = self._train(model, state, standing, key, lambda: step_of(self.phase, model, labels, tx))
        return self._finish(model, state, labels, standing)

    def _started(self, model: Model) -> Model:
        started = self._initial(model)
        if self.phase.member == 1 or (self.phase.training.wise is not None and self.chain.place == 0):
            self.work.keep(averaging.start_of(self.number), started.variables)
        return started

    def _initial(self, model: Model) -> Model:
        if self.phase.init == "keep":
            # A solved head is calibrated by the card's temperature, which the loss does not know of.
            # Each window of a clip is a row of a batch, and the loss looks at what the head says of rows.
            model = model.with_temperature_in_head()
            card = model.card.with_head(rows="probabilities", conformal=model.card.head.conformal)
            return dataclasses.replace(model, card=card)
        if self.phase.init == "again":
            start = self.work.kept(averaging.start_of(self.number - self.phase.member + 1))
            return dataclasses.replace(
                model, variables=start, card=model.card.with_head(temperature=1.0, rows="probabilities")
            )
        # Nothing of the pretrained parameters is left, so what the card says of their origin goes too.
        fresh = dataclasses.replace(model, card=dataclasses.replace(model.card, provenance={}), notes=())
        variables = fresh.network.init(self.work.seed, _zeros(fresh))
        return fresh.with_variables(variables, "every parameter drawn anew")

    def _train(
        self, model: Model, state: TrainState, standing: Standing, key: tuple[Any, ...], make: Callable[[], Step]
    ) -> TrainState:
        """Takes the phase's steps with the step that `make` makes, shared by what has the same key."""
        work, training, cadence = self.work, self.phase.training, self.cadence
        stopped = training.patience is not None and standing.stale >= training.patience
        if standing.step >= cadence.steps or stopped:
            return state
        views, engine = work.views(self.phase), work.engine
        entry = work.enter(model, work.train, self.start, views)
        rows = min(training.batch_size, len(entry))
        loader = Loader(
            _weighted(entry.source, training.class_weight),
            entry.preprocess,
            rows,
            seed=self.seed,
            augment=None if self.start else on_host(self.phase.augment, self.phase.sound),
            share=engine.share,
            together=self.phase.together,
        )
        state = engine.place_state(state)
        step = self._fitted(state, loader.largest(), key, make)
        self.microbatch, loader.rows = step.engine.microbatch, step.engine.padded(rows)
        batches = work.clock.while_time(loader.iterate(standing.step, cadence.steps - standing.step))
        name = f"phase {self.number}: training"
        with progress_bar(name, cadence.steps, first=standing.step, shown=work.shown) as report:
            state = run_steps(
                state,
                step.step,
                batches,
                cadence,
                standing,
                evaluate=self._evaluator(model),
                save=lambda state, standing, figure: self._save(model, engine.whole(state), standing, figure),
                log=lambda entry: work.log(phase=self.number, kind="train", **entry),
                report=report,
                place=step.engine.place_batch,
                stop=preemption.asked,
                meter=Meter(step.flops, peak_of(list(engine.mesh.devices.flat))),
            )
        return engine.whole(state)

    def _fitted(self, state: TrainState, batch: Any, key: tuple[Any, ...], make: Callable[[], Step]) -> Fitted:
        """Returns the compiled step, whose memory was found to be there; a resumed phase keeps its microbatch."""
        work, counted = self.work, self.work.run is not None
        engine = dataclasses.replace(work.engine, microbatch=self.microbatch)
        shapes = tuple((a.shape, str(a.dtype)) for a in jax.tree.leaves(batch))
        room, statistics = work.memory_gigabytes, self.phase.training.statistics == "batch"
        return work.step(
            (*key, shapes, self.microbatch),
            lambda: fitted(engine, make(), state, batch, gigabytes=room, counted=counted, statistics=statistics),
        )

    def _evaluator(self, model: Model) -> Callable[[TrainState], tuple[float, dict[str, float]]] | None:
        if self.validation is None:
            return None
        validation = self.validation

        def evaluate(state: TrainState) -> tuple[float, dict[str, float]]:
            whole = self.work.engine.whole(state)
            logits = model.with_variables(_variables(whole)).logits(validation)
            loss, accuracy = metrics.loss_and_accuracy(logits, validation.source.targets, model.card.head.task)
            figure = accuracy if self.phase.training.monitor == "accuracy" else -loss
            return figure, {"validation_loss": loss, f"validation_{metrics.WATCHED[model.card.head.task]}": accuracy}

        return evaluate

    def _save(self, model: Model, state: TrainState, standing: Standing, figure: float | None) -> None:
        bad = non_finite({paths.PARAMS: state.params, **state.stats})
        if bad:
            raise TrainingError(
                f"NaN or infinity came into {listed(bad, 8)} by step {standing.step}. Training has stopped, and what "
                "was kept before is whole. Lower `learning_rate`, or look for extreme values in the data."
            )
        metadata = {
            "standing": dataclasses.asdict(standing),
            "card": model.card.to_dict(),
            "evidence": self.work.evidence,
            "data": self.fingerprint,
            "microbatch": self.microbatch,
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
                "Resume it with the same data, or choose another `out`."
            )
        self.work.evidence[:] = metadata["evidence"]
        return dataclasses.replace(model, card=Card.from_dict(metadata["card"]))

    def _restore(self, state: TrainState, labels: Any) -> tuple[TrainState, Standing]:
        _, tree, metadata, notes = self._kept().restore_latest(_tree(state))
        self.work.notes.extend(notes)
        standing, self.microbatch = Standing(**metadata["standing"]), metadata.get("microbatch", self.microbatch)
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
                name = metrics.WATCHED[model.card.head.task] if monitor == "accuracy" else monitor
                found |= {"best_step": standing.best_step, "monitor": name, "best": figure}
        self.opt_state = state.opt_state
        model = merged(model.with_variables(jax.tree.map(np.asarray, _variables(state))))
        self.work.evidence.append(found)
        return averaging.calibrated(model, self.validation)

    def _best(self, state: TrainState, labels: Any, best: int, last: int) -> tuple[TrainState, bool]:
        if best == last:
            return state, True
        try:
            tree, _ = self.store.restore(best, _tree(state))
        except CheckpointError as error:
            self.work.notes.append(f"The best state, of step {best}, is lost; the last one is used. {error}")
            return state, False
        return _state(tree, labels), True


def _weighted(source: Source, class_weight: Literal["none", "auto"] | Mapping[str, float]) -> Source:
    """Returns the examples with the weights that their classes get."""
    if class_weight == "none":
        return source
    weights = np.asarray(source.weights, np.float64)
    wanted = numbered(class_weight, source.labels)
    weights = weights * class_weights(source.targets, len(source.labels), wanted, weights)
    return dataclasses.replace(source, weights=weights.astype(np.float32))


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
