"""How good a finished model is on examples that it did not see, and what a run leaves of it to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flaxtl import metrics, processes, report
from flaxtl.data import Entry, Source
from flaxtl.metrics import Metrics
from flaxtl.metrics.balance import REMEDY
from flaxtl.model import Model
from flaxtl.report import HeldOut
from flaxtl.report.held_out import Kind
from flaxtl.strategies.scaling import OutputScale
from flaxtl.strategies.work import OutOfFold
from flaxtl.train.rundir import RunDirectory

_CHOSE_THE_STEP = (
    "The best step and the temperature were chosen on the validation data, so these figures are slightly optimistic."
)


def measure(
    model: Model, source: Source, entry: Entry | None = None, *, kind: Kind = "test", batch_size: int = 64
) -> HeldOut:
    """Evaluates a model.

    Args:
        model: the model.
        source: labelled examples, their classes in the model's order.
        entry: the same examples further up in the network, where their activations are there already.
        kind: what the examples are.
        batch_size: rows at a time.
    """
    logits = model.logits(source if entry is None else entry, batch_size=batch_size) / model.card.head.temperature
    return HeldOut.of(kind, source, logits)


def of_validation(model: Model, source: Source, entry: Entry, *, chosen: bool) -> HeldOut:
    """Evaluates a model on validation data.

    Args:
        model: the model.
        source: the validation data.
        entry: the same examples further up in the network.
        chosen: whether these examples chose the best step of training.
    """
    found = measure(model, source, entry, kind="validation")
    by = "set aside from training"
    return dataclasses.replace(found, predicted_by=by, caveat=_CHOSE_THE_STEP if chosen else "")


def of_training(source: Source, out_of_fold: OutOfFold | None, scale: OutputScale) -> HeldOut | None:
    """Evaluates out-of-fold predictions; None where there are none.

    Args:
        source: the n training examples.
        out_of_fold: of these.
        scale: what their targets were scaled by for training.
    """
    if out_of_fold is None:
        return None
    known = np.flatnonzero(~np.isnan(out_of_fold.logits).any(1))
    if not len(known):
        return None
    caveat = out_of_fold.caveat
    if len(known) < len(source):
        caveat += f" {len(source) - len(known)} of {len(source)} training examples were never held out."
    return HeldOut.of(
        "cross-validation",
        source.subset(known),
        scale.in_own_unit(out_of_fold.logits[known]),
        predicted_by=out_of_fold.predicted_by,
        caveat=caveat.strip(),
    )


def class_notes(train: Source, held_out: Iterable[HeldOut | None], class_weight: Any) -> list[str]:
    """Returns what unequal classes mean for a result, and which classes its model never predicts.

    Args:
        train: the training data.
        held_out: predictions of the model.
        class_weight: as the run was asked for; what it has is not proposed.
    """
    notes, weighted = [], class_weight != "none"
    if train.task == "classification":
        counts = np.bincount(train.targets[train.targets >= 0], minlength=len(train.labels))
        notes += [note for note in (metrics.unequal_note(counts, train.labels, weighted=weighted),) if note]
    for one in held_out:
        if one is None:
            continue
        remedy = "add examples of them" if weighted or not isinstance(one.metrics, Metrics) else REMEDY
        where = {"test": "On the test data", "validation": "On the validation data"}.get(
            one.kind, "In cross-validation"
        )
        for note in one.metrics.notes(remedy):
            notes.append(f"{where}: {note[0].lower()}{note[1:]}")
    return notes


def write_outputs(run: RunDirectory, result: Mapping[str, Any], held_out: Iterable[HeldOut]) -> None:
    """Writes result.json, the predictions on held-out examples, and the report.

    Args:
        run: the directory, with the finished model in it.
        result: as plain data.
        held_out: predictions, at most one of each kind.
    """
    if not processes.first():
        return
    run.write_result(dict(result))
    held_out = list(held_out)
    for one in held_out:
        report.save_predictions(run.path, one)
    report.write(run.path, result, held_out)
