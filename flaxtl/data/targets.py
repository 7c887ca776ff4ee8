"""What columns of labels say: one class, any of several labels, or numbers; what is missing or unclear is refused."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flaxtl.card import Task
from flaxtl.data.cells import (
    class_name,
    class_names,
    is_almost_number,
    is_date,
    is_list,
    is_missing,
    is_quoted_list,
    number,
    written_list,
)
from flaxtl.data.doubts import amount_notes, doubtful_places
from flaxtl.data.names import similarity_notes
from flaxtl.data.source import Source, natural_order
from flaxtl.data.tasks import SEPARATORS, inferred_task, is_flag, rare_separator
from flaxtl.errors import DataError, listed

if TYPE_CHECKING:
    from flaxtl.data.columns import Column, Table

_LARGEST = float(np.finfo(np.float32).max)
_YES = {"1", "1.0", "true", "yes"}
_FLAG_KINDS = ({"0", "0.0", "1", "1.0"}, {"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Targets, one a row.

    Attributes:
        task: what they are.
        labels: names in the order of the classes or outputs.
        names: the class of each; for classification only.
        values: float32 [rows, outputs] otherwise.
        notes: what the user should know of how they were read.
    """

    task: Task
    labels: tuple[str, ...]
    names: tuple[str, ...] = ()
    values: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def given_to(self, source: Source, rows: Sequence[int]) -> Source:
        """Returns a source with the targets of its rows."""
        source = dataclasses.replace(source, notes=(*source.notes, *self.notes))
        if self.values is None:
            made = Source.of(source.modality, source.raw, [self.names[i] for i in rows], labels=self.labels)
            return dataclasses.replace(source, targets=made.targets, labels=made.labels)
        return source.with_outputs(self.values[np.asarray(rows, np.int64)], self.labels, self.task)


def labelled(
    table: Table, names: Sequence[str], task: Task | None, *, certain: bool = True, known: Collection[str] = ()
) -> Labelled:
    """Reads targets from columns of a table.

    Args:
        table: of labelled examples.
        names: the columns: classification takes one; multilabel one of lists (or of labels with ; or | or , between
            them), or one of 0 and 1 for each label; regression one of numbers for each output.
        task: what is in them; None infers it where it is clear.
        certain: whether the task is the user's word, by which what may stand for a missing label is a class.
        known: names that are classes even where they may stand for a missing label.

    Raises:
        DataError: labels that are missing, columns or values that the task cannot have, or a task that is not clear.
    """
    columns = {name: table.columns[name] for name in names}
    chosen, note = (task, None) if task is not None else inferred_task(table, columns)
    if chosen == "regression":
        found = _regression(table, columns)
    elif len(columns) > 1 and chosen == "classification":
        raise DataError(
            f"{table.title} is given the label columns {listed(map(repr, columns))}. One example has one class, so "
            "expected one column; for several outputs set `task='multilabel'` or `task='regression'`."
        )
    elif len(columns) > 1 or (chosen == "multilabel" and _is_flags(next(iter(columns.values())))):
        found = _flags(table, columns)
    else:
        [(name, column)] = columns.items()
        read = _multilabel if chosen == "multilabel" else _classification
        found = read(table, name, column, certain and task is not None, known)
    alike = [] if found.task == "regression" else similarity_notes(found.labels)
    notes = (*([note] if note else []), *found.notes, *alike)
    return dataclasses.replace(found, notes=notes)


def _classification(table: Table, name: str, column: Column, explicit: bool, known: Collection[str]) -> Labelled:
    values = list(column.values)
    _require(table, name, values, [i for i, value in enumerate(values) if is_missing(value)])
    for i, value in enumerate(values):
        if is_list(value) or isinstance(value, dict) or is_quoted_list(value):
            raise DataError(
                f"{table.at(i)} has a list or an object as {name!r} ({_short(value)}); expected one class. If several "
                "labels may be true of an example, set `task='multilabel'`."
            )
    if column.names:
        found = _named(table, name, column.names, values)
        return Labelled("classification", tuple(map(class_name, column.names)), tuple(found))
    _require_one_kind(table, name, values)
    notes = _doubts(table, name, values, explicit, known)
    names = class_names([value.isoformat() if hasattr(value, "isoformat") else value for value in values])
    return Labelled("classification", natural_order(set(names)), tuple(names), notes=tuple(notes))


def _named(table: Table, name: str, known: Sequence[str], values: Sequence[Any]) -> list[str]:
    """Returns the names of class numbers; -1 stands for none."""
    places = [number(value) for value in values]
    _require(table, name, values, [i for i, place in enumerate(places) if place == -1])
    for i, place in enumerate(places):
        if place is None or place not in range(len(known)):
            raise DataError(
                f"{table.at(i)} has {_short(values[i])} as {name!r}; expected a class number from 0 to "
                f"{len(known) - 1}, since the table names its classes."
            )
    return [class_name(known[int(place)]) for place in places if place is not None]


def _require(table: Table, name: str, values: Sequence[Any], rows: Sequence[int]) -> None:
    """Refuses rows without a label; a part in which none has one is named as such."""
    if not rows:
        return
    first = f"{name!r} is {_short(values[rows[0]])}"
    if len(rows) == len(values):
        raise DataError(f"{table.title} has no labels: {first} in all {len(rows)} rows. {table.way_out}")
    way_out = "Give it one or remove it."
    if len(rows) > 1:
        way_out = f"{len(rows)} of {len(values)} rows have none; give them labels or remove them."
    raise DataError(f"{table.at(rows[0])} has no label: {first}. {way_out}")


def _doubts(table: Table, name: str, values: Sequence[Any], explicit: bool, known: Collection[str]) -> list[str]:
    """Refuses what may stand for no label; where the task is given it is a class, and the notes say so."""
    rows = doubtful_places(values, known)
    if explicit:
        found = collections.Counter(class_name(values[i]).strip() for i in rows)
        return [f"{v!r} in {name!r} is read as a class, not as missing ({count} times)." for v, count in found.items()]
    if rows and len({class_name(values[i]).strip() for i in range(len(values))}) == 1:
        _require(table, name, values, rows)
    if rows:
        word = class_name(values[rows[0]]).strip()
        raise DataError(
            f"{table.at(rows[0])} has {_short(values[rows[0]])} as {name!r}, which may stand for a missing label "
            f"({len(rows)} of {len(values)} rows). Give these rows labels or remove them; if it is a class, set "
            f"`task='classification'`. To leave such rows out set `classes={[f'{word}=']!r}`."
        )
    return []


def _require_one_kind(table: Table, name: str, values: Sequence[Any]) -> None:
    """Refuses truth values among others: True may be the 1 of another row."""
    truth = [isinstance(value, (bool, np.bool_)) for value in values]
    if any(truth) and not all(truth):
        yes, no = truth.index(True), truth.index(False)
        raise DataError(
            f"{table.title} has {values[yes]} in {table.at(yes, short=True)} but {_short(values[no])} in "
            f"{table.at(no, short=True)} as {name!r}; expected values of one kind."
        )
    spelled = [next((k for k, kind in enumerate(_FLAG_KINDS) if str(v).strip().lower() in kind), None) for v in values]
    if None not in spelled and len(set(spelled)) > 1:
        one = spelled.index(spelled[0])
        other = next(i for i, kind in enumerate(spelled) if kind != spelled[0])
        raise DataError(
            f"{table.title} has {_short(values[one])} in {table.at(one, short=True)} but {_short(values[other])} in "
            f"{table.at(other, short=True)} as {name!r}, which may be the same; expected values of one kind."
        )


def _is_flags(column: Column) -> bool:
    return not column.names and all(is_flag(value) for value in column.values)


def _flags(table: Table, columns: dict[str, Column]) -> Labelled:
    """Reads a column of 0 and 1 a label; where nothing says 0 an empty cell does."""
    table_of = []
    for name, column in columns.items():
        values = list(column.values)
        texts = [str(value).strip() for value in values]
        blank = [text == "" for text in texts]
        marked = not any(is_flag(text) and text.lower() not in _YES for text in texts)
        _require(table, name, values, [i for i, v in enumerate(values) if is_missing(v) and not (marked and blank[i])])
        for i, value in enumerate(values):
            if not is_flag(value) and not blank[i]:
                raise DataError(f"{table.at(i)} has {_short(value)} as {name!r}; expected 0 or 1, no or yes.")
        table_of.append([text.lower() in _YES for text in texts])
    return Labelled("multilabel", tuple(columns), values=np.stack(table_of, axis=1).astype(np.float32))


def _multilabel(table: Table, name: str, column: Column, explicit: bool, known: Collection[str]) -> Labelled:
    values = list(column.values)
    cells, notes = _cells(table, name, values)
    sets = []
    bare = {i for i, cell in enumerate(cells) if any(is_missing(v) or (column.names and number(v) == -1) for v in cell)}
    if len(bare) == len(cells):
        _require(table, name, values, sorted(bare))
    flat = [item for i, cell in enumerate(cells) if i not in bare for item in cell]
    doubtful = set() if column.names else {class_name(flat[k]) for k in doubtful_places(flat, known)}
    for i, cell in enumerate(cells):
        if i in bare:
            raise DataError(f"{table.at(i)} has a label that is missing within {_short(values[i])} as {name!r}.")
        if any(is_list(item) or isinstance(item, dict) for item in cell):
            raise DataError(f"{table.at(i)} has lists or objects within {_short(values[i])} as {name!r}.")
        if not explicit and doubtful.intersection(map(class_name, cell)):
            raise DataError(
                f"{table.at(i)} has {_short(values[i])} as {name!r}, which may stand for a missing label. If it is one "
                "of the labels, set `task='multilabel'`."
            )
        sets.append(_named(table, name, column.names, cell) if column.names else class_names(cell))
    _refuse_vectors(table, name, cells, column)
    labels = tuple(map(class_name, column.names)) or natural_order({label for names in sets for label in names})
    if not any(sets):
        raise DataError(f"{table.title} has no labels: no row of {name!r} holds one. {table.way_out}")
    place = {label: k for k, label in enumerate(labels)}
    found = np.zeros((len(sets), len(labels)), np.float32)
    for row, names in zip(found, sets, strict=True):
        row[[place[label] for label in names]] = 1.0
    return Labelled("multilabel", tuple(labels), values=found, notes=tuple(notes))


def _cells(table: Table, name: str, values: Sequence[Any]) -> tuple[list[list[Any]], list[str]]:
    """Returns the labels of each row, and notes.

    One rule for a column: where any row holds a list, or the text of one, all rows are lists, and what is none is one
    label. Otherwise texts are divided at the separator that any of them uses, ; before | before a comma.
    """
    found: list[list[Any] | None] = []
    for i, value in enumerate(values):
        try:
            found.append(list(value) if is_list(value) else written_list(value) if isinstance(value, str) else None)
        except ValueError as error:
            raise DataError(
                f"{table.at(i)} has {_short(value)} as {name!r}, a list that cannot be read: it has {error}. Write it "
                'as ["a", "b"] or a;b.'
            ) from error
    lists = any(cell is not None for cell in found)
    blank = [i for i, v in enumerate(values) if isinstance(v, str) and not v.strip()]
    none = [] if lists else blank
    missing = {i for i, v in enumerate(values) if found[i] is None and is_missing(v)} - set(none)
    _require(table, name, values, sorted(missing))
    sign = next((s for s in SEPARATORS if any(isinstance(v, str) and s in v for v in values)), None)
    rare = None if sign or lists else rare_separator(values)
    if not lists:
        cut = sign or rare
        divided = [[part.strip() for part in str(v).split(cut) if part.strip()] if cut else [v] for v in values]
        divided = [[] if i in set(none) else cell for i, cell in enumerate(divided)]
        _refuse_two_signs(table, name, values, divided, sign)
        notes = [f"Rows with nothing in {name!r} have none of the labels ({len(none)} of {len(values)})."]
        notes = notes if none else []
        return divided, [*notes, *([f"{name!r} holds labels with {rare!r} between them."] if rare else [])]
    for i, value in enumerate(values):
        if found[i] is None and isinstance(value, str) and any(s in value for s in SEPARATORS):
            raise DataError(
                f"{table.at(i)} has {_short(value)} as {name!r}, where other rows have lists; whether it is one label "
                'or several is not clear. Write it as ["a", "b"].'
            )
    return [[value] if cell is None else cell for cell, value in zip(found, values, strict=True)], []


def _refuse_two_signs(
    table: Table, name: str, values: Sequence[Any], cells: Sequence[Sequence[Any]], sign: str | None
) -> None:
    """Refuses a label that other separators would divide into labels of other rows."""
    known = {item for cell in cells for item in cell}
    later = SEPARATORS[SEPARATORS.index(sign) + 1 :] if sign else ()
    for i, cell in enumerate(cells):
        for item in cell:
            for other in later:
                parts = [part.strip() for part in str(item).split(other)]
                if len(parts) > 1 and known.issuperset(parts):
                    raise DataError(
                        f"{table.at(i)} has {_short(values[i])} as {name!r}: some rows have {sign!r} between labels, "
                        f"this one {other!r}. Use one of them."
                    )


def _refuse_vectors(table: Table, name: str, cells: Sequence[Sequence[Any]], column: Column) -> None:
    """Refuses lists of probabilities, or of 0 and 1, one for each label: which labels they are nobody says."""
    for i, cell in enumerate(cells):
        if any(value is not None and value % 1 for value in map(number, cell)):
            raise DataError(f"{table.at(i)} has decimals within {_short(cell)} as {name!r}; expected names of labels.")
    lengths = {len(cell) for cell in cells}
    if len(cells) > 1 and len(lengths) == 1 and min(lengths) > 1 and not column.names:
        flat = [number(item) for cell in cells for item in cell]
        if set(flat) <= {0.0, 1.0}:
            raise DataError(
                f"{table.title} has lists of {min(lengths)} zeros and ones as {name!r}, and nothing says which label "
                "each stands for. Give a column of 0 and 1 for each label, or lists of the labels' names."
            )


def _regression(table: Table, columns: dict[str, Column]) -> Labelled:
    table_of = []
    notes: list[str] = []
    for name, column in columns.items():
        values = list(column.values)
        _require(table, name, values, [i for i, value in enumerate(values) if is_missing(value)])
        numbers = [number(value, padded=True) for value in values]
        for i, found in enumerate(numbers):
            if found is None or not abs(found) < _LARGEST:
                hint = " such as 1.5, with a point and no signs" if is_almost_number(values[i]) else ""
                hint = " (dates are none)" if is_date(values[i]) else hint
                raise DataError(f"{table.at(i)} has {_short(values[i])} as {name!r}; expected a finite number{hint}.")
        table_of.append(np.asarray(numbers, np.float32))
        notes += amount_notes(name, [n for n in numbers if n is not None], "remove these rows")
    return Labelled("regression", tuple(columns), values=np.stack(table_of, axis=1), notes=tuple(notes))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
