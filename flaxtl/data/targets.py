"""What columns of labels say: one class, any of several labels, or numbers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flaxtl.card import Task
from flaxtl.data.source import Source, natural_order
from flaxtl.errors import DataError, listed

if TYPE_CHECKING:
    from flaxtl.data.columns import Column

_SEPARATORS = (";", "|", ",")
_YES = {"1", "1.0", "true", "yes"}
_NO = {"0", "0.0", "false", "no", "", "none"}


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Targets, one a row.

    Attributes:
        task: what they are.
        labels: names in the order of the classes or outputs.
        names: the class of each; for classification only.
        values: float32 [rows, outputs] otherwise.
    """

    task: Task
    labels: tuple[str, ...]
    names: tuple[str, ...] = ()
    values: np.ndarray | None = None

    def given_to(self, source: Source, rows: Sequence[int]) -> Source:
        """Returns a source with the targets of its rows."""
        if self.values is None:
            made = Source.of(source.modality, source.raw, [self.names[i] for i in rows], labels=self.labels)
            return dataclasses.replace(source, targets=made.targets, labels=made.labels)
        return source.with_outputs(self.values[np.asarray(rows, np.int64)], self.labels, self.task)


def labelled(place: str, columns: Mapping[str, Column], task: Task) -> Labelled:
    """Reads targets from columns.

    Args:
        place: what messages call the table.
        columns: classification takes one; multilabel one of lists (or of labels with ; or | or , between them), or one
            of 0 and 1 for each label; regression one of numbers for each output.
        task: what is in them.

    Raises:
        DataError: columns or values that the task cannot have.
    """
    if task == "regression":
        return _regression(place, columns)
    if len(columns) > 1:
        if task == "classification":
            raise DataError(
                f"{place} is given the label columns {listed(map(repr, columns))}. One example has one class, so "
                "expected one column; for several outputs set `task` to 'multilabel' or 'regression'."
            )
        table = [_flags(place, name, column.values) for name, column in columns.items()]
        return Labelled(task, tuple(columns), values=np.stack(table, axis=1).astype(np.float32))
    [(name, column)] = columns.items()
    return _multilabel(column) if task == "multilabel" else _classification(place, name, column)


def _classification(place: str, name: str, column: Column) -> Labelled:
    values = list(column.values)
    for i, value in enumerate(values):
        if isinstance(value, (list, dict, tuple, np.ndarray)):
            raise DataError(
                f"Example {i + 1} of {place} has a list or an object as {name!r}; expected one class. If several "
                "labels may be true of an example, set `task='multilabel'`."
            )
    names = tuple(column.names[int(value)] if column.names else str(value) for value in values)
    return Labelled("classification", column.names or natural_order(set(names)), names)


def _multilabel(column: Column) -> Labelled:
    split = _splitter(column.values)
    sets = [[column.names[v] if column.names else str(v) for v in split(value)] for value in column.values]
    labels = column.names or natural_order({name for names in sets for name in names})
    place = {name: k for k, name in enumerate(labels)}
    values = np.zeros((len(sets), len(labels)), np.float32)
    for row, names in zip(values, sets, strict=True):
        row[[place[name] for name in names]] = 1.0
    return Labelled("multilabel", tuple(labels), values=values)


def _splitter(values: Sequence[Any]) -> Any:
    """Returns what makes a list of a value: a list as it is, JSON, or a text with the separator that all values use."""
    texts = [value for value in values if isinstance(value, str)]
    used = next((sign for sign in _SEPARATORS if any(sign in text for text in texts)), None)

    def split(value: Any) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, str):
            return list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
        if value.startswith("["):
            try:
                return list(json.loads(value))
            except json.JSONDecodeError:
                pass
        return [part.strip() for part in value.split(used) if part.strip()] if used else [value] if value else []

    return split


def _flags(place: str, name: str, values: Sequence[Any]) -> list[bool]:
    words = [str(value).strip().lower() for value in values]
    odd = next((i for i, word in enumerate(words) if word not in _YES | _NO), None)
    if odd is not None:
        raise DataError(f"Example {odd + 1} of {place} has {values[odd]!r} as {name!r}; expected 0 or 1, no or yes.")
    return [word in _YES for word in words]


def _regression(place: str, columns: Mapping[str, Column]) -> Labelled:
    table = []
    for name, column in columns.items():
        for i, value in enumerate(column.values):
            if not _is_number(value):
                raise DataError(f"Example {i + 1} of {place} has {value!r} as {name!r}; expected a finite number.")
        table.append([float(value) for value in column.values])
    return Labelled("regression", tuple(columns), values=np.stack(table, axis=1).astype(np.float32))


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False
