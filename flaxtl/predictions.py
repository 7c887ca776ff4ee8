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


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions in the order of the inputs.

    Attributes:
        keys: what identifies each input, such as its path.
        labels: class names in the order of the columns.
        values: float [inputs, labels]; probabilities, or the predicted numbers of a regression.
        task: "classification", "multilabel" or "regression".
    """

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    values: np.ndarray
    task: str = "classification"

    @classmethod
    def of(cls, keys: Sequence[str], logits: np.ndarray, head: Head) -> Predictions:
        """Turns calibrated logits [inputs, labels] into predictions."""
        turn = {
            "classification": lambda z: softmax(z, axis=-1),
            "multilabel": expit,
            "regression": lambda z: z,
        }
        return cls(tuple(keys), head.labels, turn[head.task](np.asarray(logits, np.float64)), head.task)

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

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        for i, key in enumerate(self.keys):
            yield key, self.prediction(i), float(self.values[i].max())

    def to_csv(self) -> str:
        """Returns a table: path, prediction, probability, and a column a class.

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
        """Returns a JSON list of {path, prediction, probability, probabilities}."""
        return json.dumps([self._row(i) for i in range(len(self))], ensure_ascii=False, indent=2) + "\n"

    def _row(self, i: int) -> dict[str, Any]:
        named = {n: round(float(p), 6) for n, p in zip(self.labels, self.values[i], strict=True)}
        best = round(float(self.values[i].max()), 6)
        return {
            "path": self.keys[i],
            "prediction": self.prediction(i),
            "probability": best,
            "probabilities": named,
        }

    def to_text(self) -> str:
        """Returns one line an input, for the terminal."""
        width = max((len(k) for k in self.keys), default=0)
        return "".join(f"{key:<{width}}  {name}  {p:.1%}\n" for key, name, p in self)
