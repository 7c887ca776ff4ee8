"""What a model says of a set of inputs: class names and probabilities, as text, CSV or JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from flaxtl.card import Head
from flaxtl.metrics.conformal import prediction_sets


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions in the order of the inputs.

    Attributes:
        keys: what identifies each input, such as its path.
        labels: class names in the order of the columns.
        values: float [inputs, labels]; probabilities, or the predicted numbers of a regression.
        task: "classification", "multilabel" or "regression".
        sets: bool [inputs, labels], the classes of each prediction set; None where the card has no quantile.
        alpha: the share of sets that may miss the truth.
    """

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    values: np.ndarray
    task: str = "classification"
    sets: np.ndarray | None = None
    alpha: float | None = None

    @classmethod
    def of(cls, keys: Sequence[str], logits: np.ndarray, head: Head) -> Predictions:
        """Turns calibrated logits [inputs, labels] into predictions."""
        turn = {
            "classification": lambda z: softmax(z, axis=-1),
            "multilabel": expit,
            "regression": lambda z: z,
        }
        values = turn[head.task](np.asarray(logits, np.float64))
        if head.conformal is None or head.task != "classification":
            return cls(tuple(keys), head.labels, values, head.task)
        held = prediction_sets(values, head.conformal)
        return cls(tuple(keys), head.labels, values, head.task, held, head.conformal.alpha)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def probabilities(self) -> np.ndarray:
        """float [inputs, labels]."""
        return self.values

    def prediction(self, row: int) -> str:
        """Returns what is predicted for one input: a name, names joined by ';', or numbers."""
        values = self.values[row]
        if self.task == "classification":
            return self.labels[int(values.argmax())]
        if self.task == "multilabel":
            return ";".join(name for name, p in zip(self.labels, values, strict=True) if p >= 0.5)
        return ";".join(f"{v:.6g}" for v in values)

    @property
    def classes(self) -> list[str]:
        """The prediction of each input."""
        return [self.prediction(i) for i in range(len(self))]

    def prediction_set(self, row: int) -> list[str]:
        """Returns the classes of one input's prediction set, the likeliest first; empty where there are no sets."""
        if self.sets is None:
            return []
        return [self.labels[k] for k in np.argsort(-self.values[row], kind="stable") if self.sets[row, k]]

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        for i, key in enumerate(self.keys):
            yield key, self.prediction(i), float(self.values[i].max())

    def to_csv(self) -> str:
        """Returns a table: path, prediction, probability, and a column a class; prediction sets are left to JSON.

        Example:
            >>> print(Predictions(('a.png',), ('no', 'yes'), np.array([[0.25, 0.75]])).to_csv(), end='')
            path,prediction,probability,no,yes
            a.png,yes,0.750000,0.250000,0.750000
        """
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["path", "prediction", "probability", *self.labels])
        for i, (key, name, probability) in enumerate(self):
            table.writerow([key, name, f"{probability:.6f}", *(f"{p:.6f}" for p in self.values[i])])
        return text.getvalue()

    def to_json(self) -> str:
        """Returns a JSON list of {path, prediction, probability, set, probabilities}; no set where there is none."""
        return json.dumps([self._row(i) for i in range(len(self))], ensure_ascii=False, indent=2) + "\n"

    def _row(self, i: int) -> dict[str, Any]:
        named = {n: round(float(p), 6) for n, p in zip(self.labels, self.values[i], strict=True)}
        best = round(float(self.values[i].max()), 6)
        return {
            "path": self.keys[i],
            "prediction": self.prediction(i),
            "probability": best,
            **({} if self.sets is None else {"set": self.prediction_set(i)}),
            "probabilities": named,
        }

    def to_text(self) -> str:
        """Returns one line an input, for the terminal; a set of several classes stands behind it."""
        width = max((len(k) for k in self.keys), default=0)
        return "".join(f"{key:<{width}}  {name}  {p:.1%}{self._set_text(i)}\n" for i, (key, name, p) in enumerate(self))

    def _set_text(self, row: int) -> str:
        held = self.prediction_set(row)
        return f"  (one of {', '.join(held)})" if len(held) > 1 else ""
