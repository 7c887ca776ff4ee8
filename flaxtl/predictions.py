"""What a model says of a set of inputs: class names and probabilities, or numbers; as text, CSV, JSON, data frame."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from scipy.special import expit, logit, softmax

from flaxtl.card import Head
from flaxtl.errors import ConfigError
from flaxtl.metrics.conformal import prediction_sets

# So much of a text is shown in the terminal.
_SHOWN = 60
_SAID: dict[str, tuple[str, ...]] = {
    "classification": ("prediction", "probability"),
    "multilabel": ("prediction",),
    "regression": (),
}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is predicted of one input; as a tuple it is (key, prediction, probability).

    Attributes:
        key: what identifies the input, such as its path.
        prediction: the class's name, names joined by ';', or numbers.
        values: the probability of each class or label, or each number, by name in the order of the columns.
        task: "classification", "multilabel" or "regression".

    Example:
        >>> one = Prediction('a.png', 'yes', {'no': 0.25, 'yes': 0.75})
        >>> one.label, one.probability, one.top(1)
        ('yes', 0.75, [('yes', 0.75)])
    """

    key: str
    prediction: str
    values: Mapping[str, float]
    task: str = "classification"

    @property
    def label(self) -> str:
        """The prediction."""
        return self.prediction

    @property
    def probability(self) -> float:
        """The largest of the probabilities."""
        return max(self.values.values())

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each class or label by its name."""
        return dict(self.values)

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Returns the k likeliest names, each with its probability, the likeliest first.

        Raises:
            ConfigError: k is below 1, or what is predicted is a number.
        """
        _require_ranked(k, self.task)
        return sorted(self.values.items(), key=lambda item: -item[1])[:k]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.key, self.prediction, self.probability))


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Predictions:
    """Predictions in the order of the inputs.

    Attributes:
        keys: what identifies each input, such as its path.
        labels: class names in the order of the columns.
        values: float [inputs, labels]; probabilities, or the predicted numbers of a regression.
        task: "classification", "multilabel" or "regression".
        sets: bool [inputs, labels], the classes of each prediction set; None where the card has no quantile.
        alpha: the share of sets that may miss the truth.
        details: what a table says of each input, such as its line, id and text: name → one an input.

    Example:
        >>> found = Predictions(('a.png', 'b.png'), ('no', 'yes'), np.array([[0.25, 0.75], [0.5, 0.5]]))
        >>> found, found[0].label, len(found[:1]), found.top(1)
        (Predictions(2 inputs: yes 1, no 1), 'yes', 1, [[('yes', 0.75)], [('no', 0.5)]])
    """

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    values: np.ndarray
    task: str = "classification"
    sets: np.ndarray | None = None
    alpha: float | None = None
    details: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        keys: Sequence[str],
        logits: np.ndarray,
        head: Head,
        *,
        details: Mapping[str, Sequence[Any]] | None = None,
    ) -> Predictions:
        """Turns calibrated logits [inputs, labels] into predictions."""
        turn = {
            "classification": lambda z: softmax(z, axis=-1),
            "multilabel": expit,
            "regression": lambda z: z,
        }
        values = turn[head.task](np.asarray(logits, np.float64))
        found = cls(tuple(keys), head.labels, values, head.task, details=details or {})
        if head.conformal is None or head.task != "classification":
            return found
        held = prediction_sets(values, head.conformal)
        return dataclasses.replace(found, sets=held, alpha=head.conformal.alpha)

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, i: int) -> Prediction: ...
    @overload
    def __getitem__(self, i: slice) -> Predictions: ...

    def __getitem__(self, i: int | slice) -> Prediction | Predictions:
        """Returns the prediction of one input, or those of a slice of the inputs."""
        if isinstance(i, slice):
            return dataclasses.replace(
                self,
                keys=self.keys[i],
                values=self.values[i],
                sets=None if self.sets is None else self.sets[i],
                details={name: values[i] for name, values in self.details.items()},
            )
        row = range(len(self))[i]
        values = dict(zip(self.labels, map(float, self.values[row]), strict=True))
        return Prediction(self.keys[row], self.prediction(row), values, self.task)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if self.task == "classification":
            counts = collections.Counter(self.classes).most_common()
            said = ", ".join(f"{name} {count}" for name, count in counts[:3])
            said = f": {said}{f' and {len(counts) - 3} more classes' if len(counts) > 3 else ''}" if counts else ""
        else:
            said = f" of {self.task}: {', '.join(self.labels[:3])}{', …' if len(self.labels) > 3 else ''}"
        return f"Predictions({len(self)} inputs{said})"

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

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """Returns for each input the k likeliest names with their probabilities, the likeliest first.

        Raises:
            ConfigError: k is below 1, or what is predicted are numbers.
        """
        _require_ranked(k, self.task)
        return [one.top(k) for one in self]

    def prediction_set(self, row: int) -> list[str]:
        """Returns the classes of one input's prediction set, the likeliest first; empty where there are no sets."""
        if self.sets is None:
            return []
        return [self.labels[k] for k in np.argsort(-self.values[row], kind="stable") if self.sets[row, k]]

    def to_csv(self) -> str:
        """Returns a table with a line an input; prediction sets are left to JSON.

        Its columns are path, prediction, probability, and one a class; of several labels path, prediction, and the
        probability of each label; of numbers path, and one an output. Behind them stand the line or row, the id and
        the text of an input that comes from a table; one that is called like a column before it has "(input)" added.

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
        details = self._details()
        table.writerow(["path", *_SAID[self.task], *self.labels, *details])
        for i, (key, name, probability) in enumerate(self):
            about = (name, f"{probability:.6f}")[: len(_SAID[self.task])]
            numbers = (self._number(value) for value in self.values[i])
            table.writerow([key, *about, *numbers, *(values[i] for values in details.values())])
        return text.getvalue()

    def to_pandas(self) -> Any:
        """Returns a pandas DataFrame with the columns of `to_csv`.

        Raises:
            ConfigError: pandas is absent.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("To make a data frame, flaxtl needs pandas: pip install pandas.") from error
        said = {"prediction": self.classes, "probability": self.values.max(axis=1) if len(self) else []}
        columns: dict[str, Any] = {"path": list(self.keys), **{name: said[name] for name in _SAID[self.task]}}
        body = [pandas.DataFrame(columns), pandas.DataFrame(self.values, columns=list(self.labels))]
        details = pandas.DataFrame({name: list(values) for name, values in self._details().items()})
        return pandas.concat([*body, details] if self.details else body, axis=1)

    def _details(self) -> dict[str, Sequence[Any]]:
        """Returns the details by names that no other column has."""
        taken = {"path", *_SAID[self.task], *self.labels}
        found: dict[str, Sequence[Any]] = {}
        for name, values in self.details.items():
            while name in taken:
                name = f"{name} (input)"
            taken.add(name)
            found[name] = values
        return found

    def _number(self, value: float) -> str:
        return f"{value:.9g}" if self.task == "regression" else f"{value:.6f}"

    def to_json(self) -> str:
        """Returns a JSON list of {path, prediction, probability, set, probabilities, input}.

        There is no set where the card promises none; several labels have no one probability, and numbers are
        {path, values}. What a table says of an input, such as its line, id and text, is in "input".
        """
        return json.dumps([self._row(i) for i in range(len(self))], ensure_ascii=False, indent=2, default=str) + "\n"

    def _row(self, i: int) -> dict[str, Any]:
        named = {n: float(self._number(v)) for n, v in zip(self.labels, self.values[i], strict=True)}
        of_input = {"input": {name: values[i] for name, values in self.details.items()}} if self.details else {}
        if self.task == "regression":
            return {"path": self.keys[i], "values": named, **of_input}
        one = self.task == "classification"
        return {
            "path": self.keys[i],
            "prediction": self.prediction(i),
            **({"probability": round(float(self.values[i].max()), 6)} if one else {}),
            **({} if self.sets is None else {"set": self.prediction_set(i)}),
            "probabilities": named,
            **of_input,
        }

    def to_text(self) -> str:
        """Returns one line an input, for the terminal: the class, or each label or output with its number.

        A prediction set of several classes stands behind the class. Labels come the likeliest first, those that are
        not predicted in brackets. The beginning of a table's text stands at the end.

        Example:
            >>> found = Predictions(('a.txt',), ('good', 'long'), np.array([[0.2, 0.9]]), 'multilabel')
            >>> found.to_text()
            'a.txt  long 90.0%, (good 20.0%)\\n'
        """
        width = max((len(k) for k in self.keys), default=0)
        return "".join(f"{key:<{width}}  {self._said(i)}{self._text(i)}\n" for i, key in enumerate(self.keys))

    def _text(self, row: int) -> str:
        texts = [str(values[row]) for name, values in self.details.items() if name not in ("line", "row")]
        shown = " ".join(" | ".join(texts).split())
        if not shown:
            return ""
        return f"  {shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + '…'}"

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


def _require_ranked(k: int, task: str) -> None:
    if task == "regression":
        raise ConfigError("Numbers are predicted, which have no likeliest; take them from values.")
    if k < 1:
        raise ConfigError(f"k is {k}; expected at least 1.")
