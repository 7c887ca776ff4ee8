"""What a model says of a set of inputs: class names and probabilities, or numbers, as text, CSV or JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, logit, softmax

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
        """Returns a table with a line an input; prediction sets are left to JSON.

        Its columns are path, prediction, probability, and one a class; of several labels path, prediction, and the
        probability of each label; of numbers path, and one an output.

        Example:
            >>> print(Predictions(('a.png',), ('no', 'yes'), np.array([[0.25, 0.75]])).to_csv(), end='')
            path,prediction,probability,no,yes
            a.png,yes,0.750000,0.250000,0.750000
            >>> print(Predictions(('a.png',), ('weight',), np.array([[72.5]]), 'regression').to_csv(), end='')
            path,weight
            a.png,72.5
        """
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        said = {"classification": ("prediction", "probability"), "multilabel": ("prediction",), "regression": ()}
        table.writerow(["path", *said[self.task], *self.labels])
        for i, (key, name, probability) in enumerate(self):
            about = (name, f"{probability:.6f}")[: len(said[self.task])]
            table.writerow([key, *about, *(self._number(value) for value in self.values[i])])
        return text.getvalue()

    def _number(self, value: float) -> str:
        return f"{value:.9g}" if self.task == "regression" else f"{value:.6f}"

    def to_json(self) -> str:
        """Returns a JSON list of {path, prediction, probability, set, probabilities}.

        There is no set where the card promises none; several labels have no one probability, and numbers are
        {path, values}.
        """
        return json.dumps([self._row(i) for i in range(len(self))], ensure_ascii=False, indent=2) + "\n"

    def _row(self, i: int) -> dict[str, Any]:
        named = {n: float(self._number(v)) for n, v in zip(self.labels, self.values[i], strict=True)}
        if self.task == "regression":
            return {"path": self.keys[i], "values": named}
        one = self.task == "classification"
        return {
            "path": self.keys[i],
            "prediction": self.prediction(i),
            **({"probability": round(float(self.values[i].max()), 6)} if one else {}),
            **({} if self.sets is None else {"set": self.prediction_set(i)}),
            "probabilities": named,
        }

    def to_text(self) -> str:
        """Returns one line an input, for the terminal: the class, or each label or output with its number.

        A prediction set of several classes stands behind the class. Labels come the likeliest first, those that are
        not predicted in brackets.

        Example:
            >>> found = Predictions(('a.txt',), ('good', 'long'), np.array([[0.2, 0.9]]), 'multilabel')
            >>> found.to_text()
            'a.txt  long 90.0%, (good 20.0%)\\n'
        """
        width = max((len(k) for k in self.keys), default=0)
        return "".join(f"{key:<{width}}  {self._said(i)}\n" for i, key in enumerate(self.keys))

    def _said(self, row: int) -> str:
        values = self.values[row]
        if self.task == "classification":
            return f"{self.prediction(row)}  {values.max():.1%}{self._set_text(row)}"
        if self.task == "regression":
            return ", ".join(f"{name} {value:.6g}" for name, value in zip(self.labels, values, strict=True))
        order = np.argsort(-values, kind="stable")
        named = [(f"{self.labels[k]} {values[k]:.1%}", values[k] >= 0.5) for k in order]
        return ", ".join(name if predicted else f"({name})" for name, predicted in named)

    def _set_text(self, row: int) -> str:
        held = self.prediction_set(row)
        return f"  (one of {', '.join(held)})" if len(held) > 1 else ""


def by_example(values: np.ndarray, index: np.ndarray, task: str) -> np.ndarray:
    """Returns the logits of examples from those of their rows: as mean probabilities, or as mean numbers.

    Args:
        values: logits, float [rows, outputs].
        index: int [rows], from 0 to examples - 1, each occurring.
        task: "classification", "multilabel" or "regression".

    Example:
        >>> rows = np.log([[0.2, 0.8], [0.4, 0.6], [0.5, 0.5]])
        >>> np.exp(by_example(rows, np.array([0, 0, 1]), "classification")).round(3).tolist()
        [[0.3, 0.7], [0.5, 0.5]]
    """
    if len(np.unique(index)) == len(index):
        return values
    if task == "classification":
        return np.log(np.maximum(mean_by_example(softmax(values, axis=-1), index), 1e-30))
    if task == "multilabel":
        means = mean_by_example(expit(values.astype(np.float64)), index)
        return logit(np.clip(means, 1e-30, 1.0 - 1e-16)).astype(np.float32)
    return mean_by_example(values, index)


def mean_by_example(values: np.ndarray, index: Iterable[int]) -> np.ndarray:
    """Averages the rows that belong to one example.

    Args:
        values: float [rows, …].
        index: int [rows], from 0 to examples - 1, each occurring.

    Returns:
        float [examples, …].

    Example:
        >>> mean_by_example(np.array([[1.0], [3.0], [5.0]]), [0, 0, 1]).tolist()
        [[2.0], [5.0]]
    """
    index = np.asarray(index)
    counts = np.bincount(index)
    if (counts == 1).all() and (index == np.arange(len(index))).all():
        return values
    total = np.zeros((len(counts), *values.shape[1:]), np.float64)
    np.add.at(total, index, values)
    return (total / counts.reshape((-1,) + (1,) * (values.ndim - 1))).astype(values.dtype)
