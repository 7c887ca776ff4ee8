"""What a finished model is worth on examples, and what a run leaves of it to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import softmax

from flaxtl import metrics, processes, report
from flaxtl.data import Entry, Source
from flaxtl.metrics import Metrics, OutputMetrics
from flaxtl.model import Model
from flaxtl.train.rundir import RunDirectory


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A model's predictions on labelled examples, and the figures that they give.

    Attributes:
        source: the examples, their classes in the model's order.
        figures: each with its interval.
        probabilities: float [n, c], calibrated; None where the examples have several labels or numbers.
    """

    source: Source
    figures: Metrics | OutputMetrics
    probabilities: np.ndarray | None


def measure(model: Model, source: Source, entry: Entry | None = None, *, batch_size: int = 64) -> Measured:
    """Measures a model.

    Args:
        model: the model.
        source: labelled examples, their classes in the model's order.
        entry: the same examples further up in the network, where their activations are there already.
        batch_size: rows at a time.
    """
    logits = model.logits(source if entry is None else entry, batch_size=batch_size) / model.card.head.temperature
    targets, labels = np.asarray(source.targets), model.card.labels
    if source.task == "multilabel":
        return Measured(source, metrics.evaluate_multilabel(logits, targets, labels), None)
    if source.task == "regression":
        return Measured(source, metrics.evaluate_regression(logits, targets, labels), None)
    return Measured(source, metrics.evaluate(logits, targets, labels, kind="logits"), softmax(logits, axis=1))


def leave(run: RunDirectory, result: Mapping[str, Any], found: Measured | None) -> None:
    """Writes result.json, the predictions on the test part, and the page that tells of the run.

    Args:
        run: the directory, with the finished model in it.
        result: as plain data.
        found: on the test part, or None without any.
    """
    if not processes.first():
        return
    run.write_result(dict(result))
    shown: dict[str, Any] = {}
    if found is not None and found.probabilities is not None:
        source, targets = found.source, np.asarray(found.source.targets)
        report.keep_predictions(run.path, source.keys, targets, found.probabilities, source.labels)
        shown = {"metrics": found.figures, "probabilities": found.probabilities, "targets": targets, "source": source}
    report.write(run.path, result, **shown)
