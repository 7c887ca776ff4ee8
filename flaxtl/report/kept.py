"""The predictions that a run made on its test data, kept beside its result so that runs can be compared."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flaxtl.errors import DataError

FILE_NAME = "predictions.csv"
_COLUMNS = ("key", "target")


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """Predictions on labelled data.

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
        """bool [n], whether the likeliest class is the true one."""
        return np.asarray(self.probabilities.argmax(1) == self.targets)


def keep_predictions(
    directory: str | Path,
    keys: Sequence[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
) -> Path:
    """Writes predictions.csv into a run directory: key, target, and a probability a class.

    Args:
        directory: of the run.
        keys: n.
        targets: int [n].
        probabilities: float [n, c].
        labels: c class names.

    Returns:
        The file.
    """
    file = Path(directory) / FILE_NAME
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow([*_COLUMNS, *labels])
        for key, target, row in zip(keys, targets, np.asarray(probabilities, np.float64), strict=True):
            table.writerow([key, labels[int(target)], *(f"{p:.9g}" for p in row)])
    return file


def read_predictions(directory: str | Path) -> Kept | None:
    """Reads what `keep_predictions` wrote; None where there is nothing.

    Raises:
        DataError: the file is not what was written.
    """
    file = Path(directory) / FILE_NAME
    if not file.exists():
        return None
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            head, *rows = csv.reader(stream)
        labels = tuple(head[len(_COLUMNS) :])
        if tuple(head[: len(_COLUMNS)]) != _COLUMNS:
            raise ValueError(f"its columns are {', '.join(head[:4])}")
        place = {name: k for k, name in enumerate(labels)}
        targets = np.array([place[row[1]] for row in rows], np.int64)
        values = np.array([row[len(_COLUMNS) :] for row in rows], np.float64).reshape(len(rows), len(labels))
    except (ValueError, KeyError, IndexError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not a table of predictions that a run has left ({error}). Run it again.") from error
    return Kept(tuple(row[0] for row in rows), targets, values, labels)
