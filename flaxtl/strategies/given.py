"""Data as jobs are given it: opened by the settings, its parts told apart, and what the user should know of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from flaxtl import config as configs
from flaxtl import data
from flaxtl.card import Card, Columns, Text
from flaxtl.convert import load
from flaxtl.data import Source, Splits
from flaxtl.data.contents import skipped_notes
from flaxtl.data.duplicates import same_content
from flaxtl.data.text import TextPreprocess, cut_texts
from flaxtl.data.traits import adaptations
from flaxtl.errors import ConfigError, DataError, shown
from flaxtl.model import Model
from flaxtl.strategies.checks import require_labelled


def model_of(given: Any) -> Model:
    """Returns a model, or the one that a name or path leads to.

    Raises:
        FlaxtlError: it is neither, or cannot be loaded.
    """
    if isinstance(given, (Source, Splits)):
        raise ConfigError("The data is given in place of the model; expected the model first, then the data.")
    return given if isinstance(given, Model) else load(given)


def opened(
    given: Any,
    options: configs.Data,
    seed: int = 0,
    columns: Columns | None = None,
    known_classes: Sequence[str] = (),
) -> Splits:
    """Opens data by its name, or takes it as it is, and selects from it what the settings say.

    Args:
        given: what `data.open_source` takes, a Source, or Splits.
        options: how it is read.
        seed: of a limit.
        columns: of an earlier table, see `data.open_source`.
        known_classes: names that are classes whatever they look like, see `data.open_source`.

    Raises:
        DataError: it is none of these, or cannot be read.
    """
    if isinstance(given, (str, os.PathLike)):
        known: dict[str, Any] = {"columns": columns, "known_classes": known_classes}
        found = data.open_source(os.fspath(given), **dataclasses.asdict(options), seed=seed, **known)
    elif isinstance(given, (Source, Splits)):
        found = data.with_split(given, options.split, "The data")
        chosen = {n: getattr(options, n) for n in ("group_by", "test_groups", "classes", "limit")}
        found = data.select(found, **chosen, seed=seed)
    else:
        if isinstance(given, Model):
            raise DataError("A model is given in place of the data; expected the model first, then the data.")
        raise DataError(
            f"The data is {shown(given)}; expected a path, a Source or Splits. "
            "Make a Source of arrays with flaxtl.data.from_arrays(inputs, targets)."
        )
    splits = Splits(found) if isinstance(found, Source) else found
    if options.task is not None and splits.train.task != options.task:
        raise DataError(f"The data is of {splits.train.task}, but `task` says {options.task}.")
    return splits


def measured(given: Any, card: Card, options: configs.Data) -> Source:
    """Opens what a model is to be measured on: the test part, else the validation part, else all there is.

    Its labels are the model's, in the model's order; some of them may be without examples.
    """
    card_task = card.head.task
    # Groups matter to splits alone, and a class that is renamed need not occur here.
    group_by = options.group_by if options.test_groups else None
    reading = dataclasses.replace(options, task=card_task, group_by=group_by, classes=(), limit=None)
    splits = opened(given, reading, columns=card.columns, known_classes=card.labels)
    source = splits.test or splits.validation or splits.train
    require_labelled(source)
    card.require_modality(source.modality)
    chosen = data.select(source, classes=options.classes, limit=options.limit, known=False)
    assert isinstance(chosen, Source)
    return chosen.with_labels(card.labels)


def held_out(given: Any, train: Source, options: configs.Data = configs.Data()) -> Source | None:  # noqa: B008
    """Opens test data for what is trained; None without any. What is taken of the training data is not taken of it."""
    if given is None:
        return None
    columns: dict[str, Any] = {"input_column": options.input_column, "label_column": options.label_column}
    reading = configs.Data(**columns, task=train.task, on_bad_file=options.on_bad_file)
    splits = opened(given, reading, columns=train.columns, known_classes=train.labels)
    source = data.select(splits.test or splits.validation or splits.train, classes=options.classes, known=False)
    assert isinstance(source, Source)
    require_labelled(source)
    if source.modality != train.modality:
        raise DataError(f"The test data is {source.modality}, but the training data {train.modality}.")
    return source.with_labels(train.labels)


def with_validation(train: Source, given: Source | None, fraction: float, seed: int) -> tuple[Source, Source | None]:
    """Returns the training and validation parts: the one that is there, else a share that is held out."""
    if given is not None:
        require_labelled(given)
        return train, given.with_labels(train.labels)
    if fraction == 0.0:
        return train, None
    kept, held = data.stratified_split(train.targets, fraction, seed, train.groups)
    if len(held) == 0:
        raise DataError(
            f"{len(train)} examples are too few to hold out {fraction:.0%} of each class. Leave `validation` at 0."
        )
    return train.subset(kept), train.subset(held)


def fitted(model: Model, source: Source) -> Model:
    """Returns the model with a card for pairs where the examples are pairs of texts and its card says single ones."""
    spec = model.card.input
    if not isinstance(spec, Text) or spec.pair or not isinstance(source.raw[0], (tuple, list)):
        return model
    card = dataclasses.replace(model.card, input=dataclasses.replace(spec, pair=True))
    return dataclasses.replace(model, card=card, notes=(*model.notes, "an example is a pair of texts"))


def known_of(model: Model, parts: Mapping[str, Source | None]) -> list[str]:
    """Says what the user should know of the data: how it was read, files left out, examples adapted or on both sides.

    Args:
        model: that takes them.
        parts: "train" and others by name.
    """
    there = {name: part for name, part in parts.items() if part is not None}
    notes: list[str] = []
    for name, part in there.items():
        notes += skipped_notes(part.skipped, "" if name == "train" else f" of the {name} data")
        fresh = [note for note in part.notes if note not in notes]
        notes += fresh if name == "train" else [f"Of the {name} data: {note}" for note in fresh]
    notes += adaptations(list(there.values()), model.card.input)
    preprocess = model.pipeline.preprocess
    if isinstance(preprocess, TextPreprocess):
        notes += cut_texts([raw for part in there.values() for raw in part.raw], preprocess)
    for name, part in there.items():
        if name != "train" and "train" in there:
            notes += _on_both_sides(there["train"], part, name)
    return notes


def _on_both_sides(train: Source, part: Source, name: str) -> list[str]:
    groups = same_content([train, part], apart=True)
    twice = [(places[0][1], i) for places in groups for source, i in places if source == 1]
    if not twice:
        return []
    first, other = twice[0]
    return [
        f"{len(twice)} of the {len(part)} {name} examples are among the training examples too, such as "
        f"{part.keys[other]} ({train.keys[first]}), so the figures on them flatter the model. Remove them from one "
        "side."
    ]
