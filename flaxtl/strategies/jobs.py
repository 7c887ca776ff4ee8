"""The jobs that people ask for: pretrain, finetune, evaluate. Each turns settings into phases and a result."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flaxtl import config as configs
from flaxtl import data, paths, processes
from flaxtl.card import Card, Head, Image, NetworkSpec, Task
from flaxtl.config import EvaluateConfig, FinetuneConfig, PretrainConfig
from flaxtl.convert import load
from flaxtl.data import Source
from flaxtl.errors import ConfigError
from flaxtl.metrics import Metrics, OutputMetrics
from flaxtl.model import Model
from flaxtl.report import HeldOut
from flaxtl.setting_names import meant_by
from flaxtl.setting_values import require_type
from flaxtl.shares import Prior
from flaxtl.strategies import augmenting
from flaxtl.strategies.auto import Decision, search
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.checks import (
    require_fit,
    require_labelled,
    require_positive,
    require_possible_run,
    require_sensible,
    without_pairs,
)
from flaxtl.strategies.executor import execute
from flaxtl.strategies.expected_shares import ExpectedShares
from flaxtl.strategies.given import fitted, held_out, known_of, measured, model_of, opened, with_validation
from flaxtl.strategies.measuring import class_notes, measure, of_training, of_validation, write_outputs
from flaxtl.strategies.phases import Phase, phases_of, pretraining
from flaxtl.strategies.result import Result
from flaxtl.strategies.scaling import OutputScale
from flaxtl.strategies.settling import require_meaningful, settled
from flaxtl.strategies.surveys import store_at
from flaxtl.strategies.work import Work
from flaxtl.train.engine import Engine
from flaxtl.train.rundir import RunDirectory


def finetune(
    model: Model | str, data: Any, *, test: Any = None, config: FinetuneConfig | None = None, **settings: Any
) -> Result:
    """Trains a pretrained model on your data: a new head (option 1), or everything (option 2).

    Args:
        model: a `Model`, or what `flaxtl.load` takes.
        data: a Source or Splits, a folder, a table, or arrays as `data.from_arrays` gives them.
        test: data to evaluate the finished model on; never used to choose anything.
        config: all settings at once; what it says of model, data and test gives way to the arguments.
        **settings: single settings by their names, such as strategy="full", learning_rate=1e-4, epochs=20,
            out="runs/flowers" (by default nothing is written), resume=True; or whole sections, such as
            optimizer=flaxtl.config.Optimizer(…).

    Returns:
        The finished model with what was found on the way.

    Raises:
        FlaxtlError: what was given cannot be used; the message says why and what to do.
    """
    again = [name for name in settings if meant_by(name) == "pretrained"]
    if again:
        raise ConfigError(f"The model is the first argument, as in finetune(model, data); leave {again[0]!r} out.")
    base = FinetuneConfig(out=None) if config is None else require_type(config, FinetuneConfig, "config")
    named = {"pretrained": _named(model), "data": _named(data), "test": _named(test) or None}
    return run_finetune(_resolved(base, {**settings, **named}), model, data, test)


def run_finetune(config: FinetuneConfig, model: Any, training: Any, test: Any = None, *, shown: bool = False) -> Result:
    """Runs a fine-tuning job from resolved settings; see `finetune`."""
    require_sensible(config.training, config.optimizer, config.run.seed)
    require_possible_run(config.run)
    if config.out:
        RunDirectory.check(config.out, config)
    base = model_of(model)
    splits = opened(training, config.data_options, config.run.seed)
    base.card.require_modality(splits.train.modality)
    if config.size is not None:
        base = _resized(base, config.size)
    train = splits.train
    require_labelled(train, least=2)
    if config.examples_per_class is not None:
        chosen, _ = data.few_shot(train, config.examples_per_class, config.run.seed)
        train = train.subset(chosen)
    train, validation = with_validation(train, splits.validation, config.training.validation, config.run.seed)
    apart = held_out(test, train, config.data_options) or held_out(splits.test, train)
    start = fitted(base, train).with_head(train.labels, task=train.task, seed=config.run.seed)
    detailed, notes = settled(config, base.card, train.labels, len(train))
    phases = phases_of(detailed)
    require_meaningful(phases, classification=train.task == "classification", validated=validation is not None)
    phases, more = without_pairs(phases, train)
    notes += more
    provenance = {"finetuned": {"strategy": config.strategy, "examples": len(train), "seed": config.run.seed}}
    work = Work(train, validation, notes=notes)
    decide = functools.partial(search, config=detailed) if config.strategy == "auto" else None
    return _run(config, config.strategy, start, phases, work, apart, provenance, shown, decide)


def pretrain(data: Any, *, test: Any = None, config: PretrainConfig | None = None, **settings: Any) -> Result:
    """Trains a network from scratch on labelled data: step one of transfer learning.

    Args:
        data: a Source or Splits, a folder, or a table.
        test: data to evaluate the finished model on.
        config: all settings at once.
        **settings: single settings by their names, such as variant="resnet20_cifar", epochs=20,
            out="runs/pretrained" (by default nothing is written), resume=True; or whole sections, such as
            network=flaxtl.config.NetworkConfig(…).

    Returns:
        The finished model, whose card says what it was trained on.

    Raises:
        FlaxtlError: what was given cannot be used; the message says why and what to do.
    """
    base = PretrainConfig(out=None) if config is None else require_type(config, PretrainConfig, "config")
    named = {"data": _named(data), "test": _named(test) or None}
    return run_pretrain(_resolved(base, {**settings, **named}), data, test)


# What of the settings the card of a pretrained model keeps; with them its command makes the model again.
_RECORDED = ("turned_classes", "network", "training", "optimizer", "augment")


def run_pretrain(config: PretrainConfig, training: Any, test: Any = None, *, shown: bool = False) -> Result:
    """Runs a pretraining job from resolved settings; see `pretrain`."""
    require_sensible(config.training, config.optimizer, config.run.seed)
    require_possible_run(config.run)
    if config.out:
        RunDirectory.check(config.out, config)
    card = _blank_card(config.network)
    splits = opened(training, config.data_options, config.run.seed)
    train = splits.train
    card.require_modality(train.modality)
    require_labelled(train, least=2)
    if config.turned_classes:
        train = data.with_turned_classes(train)
    train, validation = with_validation(train, splits.validation, config.training.validation, config.run.seed)
    apart = held_out(test, train, config.data_options) or held_out(splits.test, train)
    origin = {
        "data": Path(config.data).name,
        "licence": config.licence,
        "examples": len(train),
        "classes": len(train.labels),
        "seed": config.run.seed,
        "command": f"flaxtl pretrain {Path(config.data).name} --config config.yaml",
        "settings": {k: v for k, v in configs.to_dict(config).items() if k in _RECORDED},
    }
    augment, notes = augmenting.resolved(config.augment, card, train.labels)
    phases = pretraining(dataclasses.replace(config, augment=augment))
    require_meaningful(phases, classification=train.task == "classification", validated=validation is not None)
    start, work = _fresh_model(card, tuple(train.labels), train.task), Work(train, validation, notes=notes)
    return _run(config, "pretrain", start, phases, work, apart, {"pretrained": origin}, shown)


def evaluate(
    model: Model | str,
    examples: Any,
    *,
    batch_size: int = 64,
    options: configs.Data | None = None,
    prior: Prior | None = None,
) -> Metrics | OutputMetrics:
    """Measures a model on labelled data.

    Args:
        model: a `Model`, or what `flaxtl.load` takes.
        examples: a Source, a folder or a table, with the model's class names.
        batch_size: examples at a time.
        options: how data is read.
        prior: the class shares to expect, "equal" or by class name; see `Model.with_prior`.

    Returns:
        Accuracy and other figures, each with its interval; of several labels or numbers, `OutputMetrics`.
    """
    require_positive(batch_size=batch_size)
    model = model_of(model)
    model = model if prior is None else model.with_prior(prior)
    reading = configs.Data() if options is None else require_type(options, configs.Data, "options")
    source = measured(examples, model.card, reading)
    return measure(model, source, batch_size=batch_size).metrics


def run_evaluate(
    config: EvaluateConfig, tell: Callable[[str], None] = lambda sentence: None
) -> Metrics | OutputMetrics:
    """Runs an evaluation job from resolved settings, and tells what the user should know; see `evaluate`."""
    require_positive(batch_size=config.batch_size)
    model = load(config.model)
    source = measured(config.data, model.card, config.data_options)
    for sentence in known_of(model, {"test": source}):
        tell(sentence)
    return evaluate(model, source, batch_size=config.batch_size, prior=config.prior)


def _run(
    config: FinetuneConfig | PretrainConfig,
    strategy: str,
    model: Model,
    phases: tuple[Phase, ...],
    work: Work,
    test: Source | None,
    provenance: dict[str, dict[str, Any]],
    shown: bool,
    decide: Callable[[Work, Model], Decision] | None = None,
) -> Result:
    """Claims the run directory, runs the phases (or those that the data decide on), saves the model and measures it."""
    require_fit(model, phases, work.train)
    shares = ExpectedShares.of(work.train, config.training)
    run = RunDirectory.claim(config.out, config) if config.out else None
    work.seed, work.run = config.run.seed, run
    work.store = store_at(config.run.cache, config.run.cache_gigabytes * 1e9)
    work.engine = Engine.of(config.run.parallel, microbatch=config.run.microbatch)
    work.memory_gigabytes = config.run.memory_gigabytes
    work.shown = shown and processes.first()
    known = known_of(model, {"train": work.train, "validation": work.validation, "test": test})
    work.notes += known
    for sentence in known if work.shown else ():  # before training, which may take long; the summary repeats them
        print(f"note: {sentence}", file=sys.stderr)
    work.notes += _parts(config, work.engine)
    scale = OutputScale.of(work.train)
    train, validation = work.train, work.validation
    work.train, work.validation = scale.applied(train), scale.applied(validation)
    began = time.perf_counter()
    decision = None if decide is None else decide(work, model)
    if decision is not None:
        phases, work.evidence = decision.phases, [decision.evidence]
    model = scale.undone(execute(work, model, phases))
    model = shares.applied(model if decision is None else decision.calibrated(model))
    seconds = time.perf_counter() - began
    card = model.card.with_provenance(**_with_figure(provenance, work.evidence))
    model = dataclasses.replace(model, card=dataclasses.replace(card, columns=work.train.columns))
    if run is not None:
        if processes.first():
            model.save(run.model, overwrite=run.resumed)
        processes.together("the model, saved")
    # What the last phase left frozen is as it was, so that the test part's activations may be there already.
    start = model.network.border if phases[-1].kind == "solve" else segment_named(model.network, phases[-1].start)
    out_of_fold = work.out_of_fold if decision is None else decision.out_of_fold or work.out_of_fold
    held_out = {
        "test": None if test is None else measure(model, test, work.enter(model, test, start)),
        "out_of_fold": of_training(train, out_of_fold, scale),
        "validation": None if validation is None else _validated(model, work, validation, start),
    }
    notes = class_notes(train, held_out.values(), config.training.class_weight)
    result = Result(
        model,
        strategy,
        len(work.train),
        seconds,
        evidence=tuple(work.evidence),
        directory=None if run is None else run.path,
        notes=(*work.notes, *notes, *shares.notes(train.labels)),
        **held_out,
    )
    if run is not None:
        write_outputs(run, result.to_dict(), result.held_out)
    return result


def _validated(model: Model, work: Work, validation: Source, start: int) -> HeldOut:
    """Evaluates the finished model on the validation part, which may have chosen the best step of training."""
    chosen = any(record["kind"] in ("train", "wise", "soup") for record in work.evidence)
    return of_validation(model, validation, work.enter(model, validation, start), chosen=chosen)


def _with_figure(provenance: dict[str, dict[str, Any]], evidence: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Adds the validation figure of the last phase that has one to what the card says of the training."""
    best = next((e for e in reversed(evidence) if "best" in e), None)
    averaged = bool(evidence) and evidence[-1]["kind"] in ("wise", "soup")
    if best is None or averaged:  # an average is none of the models that the figures are of
        return provenance
    return {name: {**said, "validation": {best["monitor"]: best["best"]}} for name, said in provenance.items()}


def _named(given: Any) -> str:
    """Returns the name that a configuration can hold: the path, or nothing for an object of Python."""
    return os.fspath(given) if isinstance(given, (str, os.PathLike)) else ""


def _resolved(config: Any, settings: dict[str, Any]) -> Any:
    plain = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in settings.items()}
    return configs.replace(config, **plain)


def _parts(config: FinetuneConfig | PretrainConfig, engine: Engine) -> list[str]:
    parts = engine.parts(config.training.batch_size)
    if parts == 1 or config.training.statistics != "batch":
        return []
    return [
        f"Each batch is worked off in {parts} parts (`microbatch`), and each part has batch statistics of its own; "
        "the gradient is that of the whole batch."
    ]


def _resized(model: Model, size: int) -> Model:
    if not isinstance(model.card.input, Image):
        raise ConfigError(f"`size` is for pictures; this network takes {model.card.input.modality}.")
    require_positive(size=size)
    from flaxtl import nets

    old, new = model.card.input.size, (size, size)
    spec, params, done = nets.resized(model.card.network, model.params, old, new)
    network = model.network if spec == model.card.network else nets.build(spec, len(model.card.labels))
    card = dataclasses.replace(model.card, input=model.card.input.at(new), network=spec)
    notes = (*model.notes, f"pictures of {size}×{size} in place of {'×'.join(map(str, old))}", *done)
    variables = {**model.variables, paths.PARAMS: dict(params)}
    return dataclasses.replace(model, network=network, variables=variables, card=card, notes=notes)


def _blank_card(n: configs.NetworkConfig) -> Card:
    """Returns the card of a network that has not been trained; refuses one that cannot be built."""
    from flaxtl import nets

    require_positive(size=n.size, channels=n.channels)
    settings = dict(n.settings)
    if n.variant is not None:
        settings = {**nets.named_settings(n.family, n.variant), **settings}
    nets.family_config(n.family, settings)
    pictures = Image((n.size, n.size), n.channels, (0.5,), (0.5,), fit=n.fit, polarity=n.polarity)
    return Card(input=pictures, network=NetworkSpec(n.family, settings))


def _fresh_model(card: Card, labels: tuple[str, ...], task: Task) -> Model:
    from flaxtl import nets

    network = nets.build(card.network, len(labels))
    model = Model(network, {}, dataclasses.replace(card, heads=(Head(labels=labels, task=task),)))
    return model.with_variables(network.abstract(model.sample()))
