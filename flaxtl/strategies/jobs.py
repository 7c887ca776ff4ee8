"""The jobs that people ask for: pretrain, finetune, evaluate. Each turns settings into phases and a result."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl import config as configs
from flaxtl import data, metrics, paths
from flaxtl.activations import Store, default_folder
from flaxtl.card import Card, Head, Image, NetworkSpec
from flaxtl.config import EvaluateConfig, FinetuneConfig, PretrainConfig
from flaxtl.convert import load
from flaxtl.data import Source, Splits
from flaxtl.errors import ConfigError, DataError, listed
from flaxtl.metrics import Metrics
from flaxtl.model import Model
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.checks import require_fit, require_labelled, require_positive, require_sensible
from flaxtl.strategies.executor import execute
from flaxtl.strategies.phases import Phase, phases_of, pretraining
from flaxtl.strategies.work import Work
from flaxtl.train.rundir import RunDirectory


@dataclasses.dataclass(frozen=True)
class Result:
    """What a job leaves.

    Attributes:
        model: the finished model.
        strategy: how it was trained.
        examples: how many labelled examples it was trained on.
        seconds: wall time of the training phases.
        evidence: what each phase found out.
        metrics: on the test data, or None without any.
        directory: the run directory, or None.
        notes: what the user should know, one sentence each.
    """

    model: Model
    strategy: str
    examples: int
    seconds: float
    evidence: tuple[dict[str, Any], ...] = ()
    metrics: Metrics | None = None
    directory: Path | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as plain data for JSON."""
        return {
            "strategy": self.strategy,
            "examples": self.examples,
            "classes": list(self.model.card.labels),
            "seconds": round(self.seconds, 2),
            "evidence": list(self.evidence),
            "test": None if self.metrics is None else self.metrics.to_dict(),
            "model": None if self.directory is None else str(self.directory / "model"),
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """Returns a few lines for people: what was trained, what the evidence says, how good it is."""
        lines = [
            f"{self.strategy}: {self.examples} examples, {len(self.model.card.labels)} classes, {self.seconds:.1f} s"
        ]
        lines += [f"note: {note}" for note in self.notes]
        for found in self.evidence:
            if found["kind"] == "solve":
                lines.append(f"head solved on {found['features']} features: {found['summary']}")
            elif "best" in found:
                lines.append(
                    f"best of {found['steps']} steps: step {found['best_step']} "
                    f"({found['monitor']} {found['best']:.4f} on validation data)"
                )
        if self.metrics is not None:
            lines.append("on the test data:")
            lines.append(self.metrics.summary())
        if self.directory is not None:
            lines.append(f"model saved in {self.directory / 'model'}")
        return "\n".join(lines)


def finetune(
    model: Model | str, data: Any, *, test: Any = None, config: FinetuneConfig | None = None, **settings: Any
) -> Result:
    """Trains a pretrained model on your data: a new head (option 1), or everything (option 2).

    Args:
        model: a `Model`, or what `flaxtl.load` takes.
        data: a Source or Splits, a folder, a table, or arrays as `data.from_arrays` gives them.
        test: data to evaluate the finished model on; never used to choose anything.
        config: all settings at once; what it says of model, data and test gives way to the arguments.
        **settings: single settings by their names on the command line, such as strategy="full",
            learning_rate=1e-4, epochs=20, out="runs/flowers" (by default nothing is written).

    Returns:
        The finished model with what was found on the way.

    Raises:
        FlaxtlError: what was given cannot be used; the message says why and what to do.
    """
    base = config if config is not None else FinetuneConfig(out=None)
    named = {"pretrained": _named(model), "data": _named(data), "test": _named(test) or None}
    return run_finetune(_resolved(base, {**settings, **named}), model, data, test)


def run_finetune(config: FinetuneConfig, model: Any, training: Any, test: Any = None, *, shown: bool = False) -> Result:
    """Runs a fine-tuning job from resolved settings; see `finetune`."""
    require_sensible(config.training, config.optimizer, config.run.seed)
    phases = phases_of(config)
    if config.out:
        RunDirectory.check(config.out, config)
    base = model if isinstance(model, Model) else load(model)
    splits = _splits(training, config.data_options)
    base.card.require_modality(splits.train.modality)
    if config.size is not None:
        base = _resized(base, config.size)
    train = splits.train
    require_labelled(train, least=2)
    if config.examples_per_class is not None:
        chosen, _ = data.few_shot(train, config.examples_per_class, config.run.seed)
        train = train.subset(chosen)
    train, validation = _validation(train, splits.validation, config.training.validation, config.run.seed)
    held_out = _labelled_like(test if test is not None else splits.test, train, config.data_options)
    start = base.with_head(train.labels, seed=config.run.seed)
    provenance = {"finetuned": {"strategy": config.strategy, "examples": len(train), "seed": config.run.seed}}
    return _run(config, config.strategy, start, phases, Work(train, validation), held_out, provenance, shown)


def pretrain(data: Any, *, test: Any = None, config: PretrainConfig | None = None, **settings: Any) -> Result:
    """Trains a network from scratch on labelled data: step one of transfer learning.

    Args:
        data: a Source or Splits, a folder, or a table.
        test: data to evaluate the finished model on.
        config: all settings at once.
        **settings: single settings by their names on the command line, such as variant="resnet20_cifar",
            epochs=20, out="runs/pretrained" (by default nothing is written).

    Returns:
        The finished model, whose card says what it was trained on.

    Raises:
        FlaxtlError: what was given cannot be used; the message says why and what to do.
    """
    base = config if config is not None else PretrainConfig(out=None)
    named = {"data": _named(data), "test": _named(test) or None}
    return run_pretrain(_resolved(base, {**settings, **named}), data, test)


# What of the settings the card of a pretrained model keeps; with them its command makes the model again.
_RECORDED = ("turned_classes", "network", "training", "optimizer", "augment")


def run_pretrain(config: PretrainConfig, training: Any, test: Any = None, *, shown: bool = False) -> Result:
    """Runs a pretraining job from resolved settings; see `pretrain`."""
    require_sensible(config.training, config.optimizer, config.run.seed)
    if config.out:
        RunDirectory.check(config.out, config)
    card = _blank_card(config.network)
    splits = _splits(training, config.data_options)
    train = splits.train
    card.require_modality(train.modality)
    require_labelled(train, least=2)
    if config.turned_classes:
        train = data.with_turned_classes(train)
    train, validation = _validation(train, splits.validation, config.training.validation, config.run.seed)
    held_out = _labelled_like(test if test is not None else splits.test, train, config.data_options)
    origin = {
        "data": Path(config.data).name,
        "licence": config.licence,
        "examples": len(train),
        "classes": len(train.labels),
        "seed": config.run.seed,
        "command": f"flaxtl pretrain {Path(config.data).name} --config config.yaml",
        "settings": {k: v for k, v in configs.to_dict(config).items() if k in _RECORDED},
    }
    start, work = _fresh_model(card, tuple(train.labels)), Work(train, validation)
    return _run(config, "pretrain", start, pretraining(config), work, held_out, {"pretrained": origin}, shown)


def evaluate(
    model: Model | str,
    examples: Any,
    *,
    batch_size: int = 64,
    options: configs.Data | None = None,
    enter: Callable[[Source], Any] = lambda source: source,
) -> Metrics:
    """Measures a model on labelled data.

    Args:
        model: a `Model`, or what `flaxtl.load` takes.
        examples: a Source, a folder or a table, with the model's class names.
        batch_size: examples at a time.
        options: how data is read.
        enter: puts the examples where they enter the network, for activations that are there already.

    Returns:
        Accuracy and other figures, each with its interval.
    """
    require_positive(batch_size=batch_size)
    model = model if isinstance(model, Model) else load(model)
    source = _one(examples, options or configs.Data())
    require_labelled(source)
    model.card.require_modality(source.modality)
    source = source.with_labels(model.card.labels)
    logits = model.logits(enter(source), batch_size=batch_size) / model.card.head.temperature
    return metrics.evaluate(logits, np.asarray(source.targets), model.card.labels)


def run_evaluate(config: EvaluateConfig) -> Metrics:
    """Runs an evaluation job from resolved settings; see `evaluate`."""
    return evaluate(config.model, config.data, batch_size=config.batch_size, options=config.data_options)


def _run(
    config: FinetuneConfig | PretrainConfig,
    strategy: str,
    model: Model,
    phases: tuple[Phase, ...],
    work: Work,
    test: Source | None,
    provenance: dict[str, dict[str, Any]],
    shown: bool,
) -> Result:
    """Claims the run directory, runs the phases, saves the model and measures it."""
    require_fit(model, phases, work.train)
    run = RunDirectory.claim(config.out, config) if config.out else None
    work.seed, work.run, work.shown, work.store = config.run.seed, run, shown, _store(config.run)
    work.notes += _said(work.train)
    began = time.perf_counter()
    model = execute(work, model, phases)
    seconds = time.perf_counter() - began
    model = dataclasses.replace(model, card=model.card.with_provenance(**_with_figure(provenance, work.evidence)))
    if run is not None:
        model.save(run.model, overwrite=run.resumed)
    # What the last phase left frozen is as it was, so that the test part's activations may be there already.
    start = model.network.border if phases[-1].kind == "solve" else segment_named(model.network, phases[-1].start)
    figures = None if test is None else evaluate(model, test, enter=lambda source: work.enter(model, source, start))
    directory = None if run is None else run.path
    evidence, notes = tuple(work.evidence), tuple(work.notes)
    result = Result(model, strategy, len(work.train), seconds, evidence, figures, directory, notes)
    if run is not None:
        run.write_result(result.to_dict())
    return result


def _store(run: configs.Run) -> Store | None:
    if run.cache == "off":
        return None
    return Store(default_folder() if run.cache == "auto" else run.cache, limit=run.cache_gigabytes * 1e9)


def _with_figure(provenance: dict[str, dict[str, Any]], evidence: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Adds the validation figure of the last phase that has one to what the card says of the training."""
    best = next((e for e in reversed(evidence) if "best" in e), None)
    if best is None:
        return provenance
    return {name: {**said, "validation": {best["monitor"]: best["best"]}} for name, said in provenance.items()}


def _named(given: Any) -> str:
    """Returns the name that a configuration can hold: the path, or nothing for an object of Python."""
    return os.fspath(given) if isinstance(given, (str, os.PathLike)) else ""


def _resolved(config: Any, settings: dict[str, Any]) -> Any:
    plain = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in settings.items()}
    return configs.replace(config, **plain)


def _splits(source: Any, options: configs.Data) -> Splits:
    if isinstance(source, (str, Path)):
        source = data.open_source(source, **dataclasses.asdict(options))
    if isinstance(source, Source):
        source = Splits(source)
    if not isinstance(source, Splits):
        raise DataError(
            f"{type(source).__name__} cannot be used as labelled data; expected a path, a Source or Splits. "
            "Make a Source of arrays with flaxtl.data.from_arrays(inputs, targets)."
        )
    return source


def _one(source: Any, options: configs.Data) -> Source:
    """Returns what to measure on: the test part, else the validation part, else all there is."""
    splits = _splits(source, options)
    return splits.test or splits.validation or splits.train


def _labelled_like(source: Any, train: Source, options: configs.Data) -> Source | None:
    if source is None:
        return None
    found = _one(source, options)
    require_labelled(found)
    return found.with_labels(train.labels)


def _said(source: Source) -> list[str]:
    if not source.skipped:
        return []
    return [f"{len(source.skipped)} unreadable files were skipped: {listed(path for path, _ in source.skipped)}."]


def _validation(train: Source, given: Source | None, fraction: float, seed: int) -> tuple[Source, Source | None]:
    if given is not None:
        require_labelled(given)
        return train, given.with_labels(train.labels)
    if fraction == 0.0:
        return train, None
    kept, held = data.stratified_split(train.targets, fraction, seed, train.groups)
    if len(held) == 0:
        raise DataError(
            f"{len(train)} examples are too few to hold out {fraction:.0%} of each class. Leave --validation at 0."
        )
    return train.subset(kept), train.subset(held)


def _resized(model: Model, size: int) -> Model:
    if not isinstance(model.card.input, Image):
        raise ConfigError(f"--size is for pictures; this network takes {model.card.input.modality}.")
    require_positive(size=size)
    from flaxtl import nets

    old, new = model.card.input.size, (size, size)
    spec, params, done = nets.resized(model.card.network, model.params, old, new)
    network = model.network if spec == model.card.network else nets.build(spec, len(model.card.labels))
    card = dataclasses.replace(model.card, input=dataclasses.replace(model.card.input, size=new), network=spec)
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


def _fresh_model(card: Card, labels: tuple[str, ...]) -> Model:
    from flaxtl import nets

    network = nets.build(card.network, len(labels))
    model = Model(network, {}, dataclasses.replace(card, heads=(Head(labels=labels),)))
    return model.with_variables(network.abstract(model.sample()))
