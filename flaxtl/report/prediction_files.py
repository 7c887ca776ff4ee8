"""Predictions on held-out examples, saved beside a run's result: to read in a spreadsheet, and to compare runs by."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flaxtl.errors import DataError
from flaxtl.report.held_out import HeldOut, Kind

# One file for each kind, so that predictions on test data and on training data are never mixed.
FILE_NAMES: dict[Kind, str] = {
    "test": "predictions.csv",
    "cross-validation": "out_of_fold.csv",
    "validation": "validation.csv",
}
_COLUMNS = ("key", "target")
_TARGET = "target:"  # before the name of an output, where there is more than one target


@dataclasses.dataclass(frozen=True, eq=False)
class SavedPredictions:
    """Class predictions of a run, as they were saved.

    Attributes:
        keys: what identifies each example.
        targets: int [n], numbers of labels.
        probabilities: float [n, c].
        labels: c class names.
    """

    keys: tuple[str, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    labels: tuple[str, ...]

    @property
    def right(self) -> np.ndarray:
        """bool [n], whether the class with the highest probability is the true one."""
        return np.asarray(self.probabilities.argmax(1) == self.targets)


def save_predictions(directory: str | Path, held_out: HeldOut) -> Path:
    """Writes predictions into a run directory: one line an example, with its key, target and predictions.

    Of classes the columns are key, target and the probability of each class; of several labels and of numbers key, the
    target of each output, and its probability or number.

    Args:
        directory: of the run.
        held_out: the predictions; each kind has a file of its own (`FILE_NAMES`).

    Returns:
        The file.
    """
    file = Path(directory) / FILE_NAMES[held_out.kind]
    source = held_out.source
    head = [*_COLUMNS] if held_out.probabilities is not None else ["key", *(_TARGET + n for n in source.labels)]
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow([*head, *source.labels])
        for key, targets, row in zip(source.keys, _targets(held_out), held_out.outputs, strict=True):
            table.writerow([key, *targets, *(f"{p:.9g}" for p in row)])
    return file


def _targets(held_out: HeldOut) -> Iterator[list[str]]:
    source = held_out.source
    for target in np.asarray(source.targets):
        yield [source.labels[int(target)]] if np.ndim(target) == 0 else [f"{v:.9g}" for v in target]


def read_predictions(directory: str | Path, kind: Kind = "test") -> SavedPredictions | None:
    """Reads what `save_predictions` wrote of a classifier; None where there is no such file, or one of another task.

    Args:
        directory: of the run.
        kind: of the predictions.

    Raises:
        DataError: the file is not what was written.
    """
    file = Path(directory) / FILE_NAMES[kind]
    if not file.exists():
        return None
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            head, *rows = csv.reader(stream)
        if head[:1] == ["key"] and len(head) > 1 and head[1].startswith(_TARGET):
            return None
        labels = tuple(head[len(_COLUMNS) :])
        if tuple(head[: len(_COLUMNS)]) != _COLUMNS:
            raise ValueError(f"its columns are {', '.join(head[:4])}")
        place = {name: k for k, name in enumerate(labels)}
        targets = np.array([place[row[1]] for row in rows], np.int64)
        values = np.array([row[len(_COLUMNS) :] for row in rows], np.float64).reshape(len(rows), len(labels))
    except (ValueError, KeyError, IndexError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not a table of predictions of a run ({error}). Run it again.") from error
    return SavedPredictions(tuple(row[0] for row in rows), targets, values, labels)
