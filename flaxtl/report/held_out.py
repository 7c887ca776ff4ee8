"""Predictions on labelled examples that the predicting model did not see, and the figures that they give."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from scipy.special import expit, softmax

from flaxtl import metrics
from flaxtl.data import Source
from flaxtl.metrics import Metrics, OutputMetrics

Kind = Literal["test", "cross-validation", "validation"]
# Where each kind stands in a result; the first that a run has is what its report is made of.
FIELDS: dict[Kind, str] = {"test": "test", "cross-validation": "out_of_fold", "validation": "validation"}
NAMES: dict[Kind, str] = {
    "test": "the test data",
    "cross-validation": "cross-validation on the training data",
    "validation": "the validation data",
}


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions on labelled examples that the predicting model was not trained on.

    Attributes:
        kind: "test"; "cross-validation": out-of-fold predictions on training examples, each by a model that was trained
            without it; "validation": on examples set aside from training.
        source: the n examples.
        outputs: float64 [n, c], calibrated probabilities of the classes; of several labels each label's own; of
            regression the predicted numbers.
        metrics: the figures, each with its interval.
        predicted_by: what predicted each example, in words.
        caveat: what was chosen with these predictions, as a sentence; "" for nothing.
    """

    kind: Kind
    source: Source
    outputs: np.ndarray
    metrics: Metrics | OutputMetrics
    predicted_by: str = ""
    caveat: str = ""

    @classmethod
    def of(cls, kind: Kind, source: Source, logits: np.ndarray, **about: str) -> HeldOut:
        """Evaluates logits.

        Args:
            kind: where they come from.
            source: n labelled examples, their labels in the order of the outputs.
            logits: float [n, c], divided by the temperature already; of regression the predicted numbers.
            **about: predicted_by and caveat.
        """
        z, targets = np.asarray(logits, np.float64), np.asarray(source.targets)
        if source.task == "multilabel":
            return cls(kind, source, expit(z), metrics.evaluate_multilabel(z, targets, source.labels), **about)
        if source.task == "regression":
            return cls(kind, source, z, metrics.evaluate_regression(z, targets, source.labels), **about)
        # Out of fold an example without weight is not held out; elsewhere each example counts the same.
        weights = source.weights if kind == "cross-validation" else None
        found = metrics.evaluate(z, targets, source.labels, weights, kind="logits")
        return cls(kind, source, softmax(z, axis=1), found, **about)

    @property
    def probabilities(self) -> np.ndarray | None:
        """Of the classes of each example, calibrated, float64 [n, c]; None where the task is no classification."""
        return self.outputs if self.source.task == "classification" else None

    @property
    def origin(self) -> str:
        """Where the predictions come from, in words."""
        by = f"; {self.predicted_by}" if self.predicted_by else ""
        return f"{NAMES[self.kind]}{by}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as plain data for JSON."""
        about = {"predicted_by": self.predicted_by, "caveat": self.caveat} if self.predicted_by else {}
        return {**self.metrics.to_dict(), **about}
