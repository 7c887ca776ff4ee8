"""Which columns of a table are inputs and labels: as the user says, as they are called, or as what they hold tells."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxtl.card import Columns
from flaxtl.data.cells import is_almost_number, is_date, is_doubtful, is_list, is_missing, number
from flaxtl.data.columns import Column, Reading, Table
from flaxtl.data.folder import modality_of
from flaxtl.data.names import canonical_name
from flaxtl.errors import DataError, did_you_mean, listed

PATH_NAMES = ("path", "file", "filename", "file_name", "image", "audio")
INPUT_NAMES = (*PATH_NAMES, "text", "sentence", "input")
LABEL_NAMES = ("label", "class", "category", "target", "labels", "intent")
# Names that say it only where one column alone has such a name.
_MORE_PATHS = ("file_path", "filepath", "image_path", "image_file", "img", "img_path", "audio_path", "picture", "photo")
_MORE_INPUTS = (
    *_MORE_PATHS,
    *("content", "message", "review", "review_text", "comment", "comment_text", "tweet", "utterance", "document"),
    *("question", "query", "statement", "phrase", "headline", "description", "sentences", "texts"),
)
_MORE_LABELS = (
    *("y", "sentiment", "emotion", "tag", "tags", "topic", "genre", "genres", "species", "class_name", "class_label"),
    *("label_name", "labels_name", "classes", "categories", "rating", "score", "stars"),
    *("class_id", "label_id", "category_id", "target_id", "species_id", "class_idx", "label_idx"),
)
_INDEX = re.compile(r"unnamed(:_?\d+)?(_level_\d+)?|index|idx|id|row|row_?id|row_?number|no|nr|#|uid|uuid|guid|.+_id")
# So few rows may be numbered by chance.
_NUMBERED = 5
_WORDS_OF_A_NAME = 5
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which columns are what, and notes of what was inferred.

    Attributes:
        inputs: names of the columns of inputs.
        labels: names of the columns of labels.
        notes: what the user should know of the choice.
    """

    inputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def named(table: Table, given: str | None, purpose: str = "") -> list[str]:
    """Returns the columns that a user names: one, which may hold commas, or several with commas between.

    Args:
        table: that has them.
        given: the names.
        purpose: what they are for, as the message says it.

    Raises:
        DataError: there is no such column.
    """
    if given is None:
        return []
    there = {canonical_name(name): name for name in table.columns}
    whole = canonical_name(given)
    names = [whole] if whole in there else [name.strip() for name in whole.split(",")]
    for name in names:
        if name not in there:
            near = did_you_mean(name, table.columns) or f" Its columns are {listed(table.columns)}."
            raise DataError(f"{table.title} has no column {name!r}{purpose}.{near}")
    return [there[name] for name in names]


def roles_of(table: Table, reading: Reading) -> Roles:
    """Returns which columns are inputs and labels.

    In this order: what the user names, the columns of an earlier table, what the publisher names, what columns are
    called, their types, the one column that is left, and what they hold: many different texts or paths, few values.

    Raises:
        DataError: a column that is named is missing, or it is not clear which are meant.
    """
    before = reading.columns or Columns()
    labels = named(table, reading.label_column) or _there(table, before.labels) or _usual(table, 1)
    inputs = named(table, reading.input_column) or _there(table, before.inputs) or _usual(table, 0)
    if inputs and labels:
        return Roles(tuple(inputs), tuple(labels))
    _require_header(table)
    free = _free(table, [*inputs, *labels, *([reading.group_by] if reading.group_by else [])])
    labels = labels or _called(table, [n for n in free if n not in inputs], LABEL_NAMES, _MORE_LABELS, "label")
    inputs = inputs or _inputs_called(table, [name for name in free if name not in labels])
    if inputs and labels:
        notes = [] if reading.input_column else _in_place_of(table, before.inputs, inputs)
        return Roles(tuple(inputs), tuple(labels), tuple(notes))
    free = _telling(table, [n for n in free if n not in (*inputs, *labels)], 1 if inputs or labels else 2)
    if not labels and not inputs:
        inputs, labels = _by_content(table, free)
    elif labels:
        inputs = _input_left(table, free)
    else:
        labels = _label_left(table, free)
    note = f"{listed(map(repr, inputs))} is read as the input and {listed(map(repr, labels))} as the label."
    return Roles(tuple(inputs), tuple(labels), (f"{note} To read others, set `input_column` and `label_column`.",))


def inputs_in(table: Table, input_column: str | None, before: Columns | None) -> Roles:
    """Returns which columns are inputs of a table without labels, or whose labels are not looked at.

    Raises:
        DataError: a column that is named is missing, or it is not clear which is meant.
    """
    before = before or Columns()
    found = named(table, input_column) or _there(table, before.inputs) or _usual(table, 0)
    if found:
        return Roles(tuple(found))
    _require_header(table)
    labels = [name for name in table.columns if _plain(name) in LABEL_NAMES or name in before.labels]
    free = _free(table, labels)
    if len(table.columns) == 1:
        found = list(table.columns)
    else:
        found = _inputs_called(table, free) or _input_left(table, _telling(table, free, 1))
    return Roles(tuple(found), notes=tuple(_in_place_of(table, before.inputs, found)))


def unclear(table: Table, kind: str) -> DataError:
    """Returns the error of a column that cannot be inferred."""
    if not table.columns:
        return DataError(f"{table.title} has no columns.")
    odd = [name for name, column in table.columns.items() if almost_numbers(column)]
    written = f" The numbers in {listed(map(repr, odd))} are to be written with a point, such as 1.5." if odd else ""
    return DataError(
        f"{table.title} has the columns {listed(table.columns)}; which one holds the {kind} cannot be inferred. Name "
        f"it with `{kind}_column`.{written if kind == 'input' else ''}"
    )


def almost_numbers(column: Column) -> bool:
    """Whether a column is of numbers some of which only people can read, such as 1,5 or 45 %."""
    values = [v for v in column.values if not is_missing(v)] if column.kind is None and column.kept else []
    written = [is_almost_number(value) for value in values]
    return any(written) and all(w or number(v, padded=True) is not None for w, v in zip(written, values, strict=True))


def ids_of(table: Table, used: Sequence[str]) -> str | None:
    """Returns the column that identifies rows, if there is one."""
    return next((name for name in table.columns if name not in used and _is_called_index(name)), None)


def numbers_of(column: Column) -> np.ndarray | None:
    """Returns a column's values as float32, NaN for those that are missing; None if one is no finite number."""
    if column.kind is not None or not column.kept:
        return None
    try:
        found = np.asarray(list(map(_float, column.values)))
    except (TypeError, ValueError):
        return None
    there = found[~np.isnan(found)]
    return found.astype(np.float32) if there.size and (np.abs(there) < _LARGEST).all() else None


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        if is_missing(value) or is_doubtful(value):
            return np.nan
        raise


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _there(table: Table, names: Sequence[str]) -> list[str]:
    """Returns the columns of an earlier table, if this one has them; of several it must have all.

    Raises:
        DataError: some of several are missing, in whose place others would be read without a word.
    """
    missing = [name for name in names if name not in table.columns]
    if len(names) > 1 and missing:
        raise DataError(
            f"{table.title} has no column {listed(map(repr, missing))}, which the training data has. Its columns are "
            f"{listed(table.columns)}."
        )
    return [] if missing else list(names)


def _in_place_of(table: Table, before: Sequence[str], names: Sequence[str]) -> list[str]:
    """Notes a column that is read in place of the one that the training data has."""
    if not before or list(before) == list(names):
        return []
    return [f"{names[0]!r} of {table.name} is read, which lacks the column {before[0]!r} of the training data."]


def _usual(table: Table, place: int) -> list[str]:
    return [] if table.usual is None else [table.usual[place]]


def _is_called_index(name: str) -> bool:
    plain = _plain(name)
    return plain not in _MORE_LABELS and _INDEX.fullmatch(plain) is not None


def _free(table: Table, taken: Sequence[str]) -> list[str]:
    """Returns the columns that may be inputs or labels: not taken, not empty, and no numbering of the rows."""
    return [name for name, column in table.columns.items() if name not in taken and not _is_aside(name, column)]


def _is_aside(name: str, column: Column) -> bool:
    """Whether a column is empty or numbers the rows; paths are inputs whatever they are called."""
    if column.kind is not None or not column.kept or column.names:
        return False
    values = list(column.values)
    if all(map(is_missing, values)):
        return _plain(name) not in (*INPUT_NAMES, *LABEL_NAMES)
    paths = all(isinstance(value, str) and modality_of(value) for value in values)
    return not paths and (_is_called_index(name) or _is_numbering(name, values))


def _is_numbering(name: str, values: Sequence[Any]) -> bool:
    """Whether values count the rows, from 0 or 1; a column that is called a label may hold such by chance."""
    if len(values) < _NUMBERED or _plain(name) in (*LABEL_NAMES, *_MORE_LABELS):
        return False
    first = number(values[0])
    return first in (0.0, 1.0) and all(number(value) == first + i for i, value in enumerate(values))


def _telling(table: Table, names: list[str], least: int) -> list[str]:
    """Leaves out columns of one value, where more than so many columns are left."""
    if len(names) <= least:
        return names
    several = [n for n in names if not table.columns[n].kept or len(set(map(str, table.columns[n].values))) > 1]
    return several or names


def _called(table: Table, names: Sequence[str], known: Sequence[str], more: Sequence[str], kind: str) -> list[str]:
    """Finds a column by its name, or by a type that says it."""
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(_plain(name), []).append(name)
    found = [plain[name] for name in known if name in plain]
    if found:
        if len(found[0]) > 1:
            raise unclear(table, kind)
        return found[0]
    columns = {name: table.columns[name] for name in names}
    typed = [n for n, c in columns.items() if (c.names if kind == "label" else c.kind in ("image", "audio"))]
    if typed:
        return typed[:1]
    others = [name for plain_name in more for name in plain.get(plain_name, [])]
    return others if len(others) == 1 else []


def _inputs_called(table: Table, names: Sequence[str]) -> list[str]:
    """Finds the column of inputs by its name or type; where all but the labels are numbers, these are the input."""
    found = _called(table, names, INPUT_NAMES, _MORE_INPUTS, "input")
    if not found and len(names) > 1 and all(numbers_of(table.columns[name]) is not None for name in names):
        return list(names)
    return found


@dataclasses.dataclass(frozen=True)
class _Content:
    """What a column holds: "files", "texts", "numbers", "dates", "lists" or "mixed"; how many differ; their length."""

    kind: str
    different: int
    length: float

    @classmethod
    def of(cls, column: Column) -> _Content:
        if column.kind is not None or not column.kept:
            return cls("texts" if column.kind == "text" else "files", len(column.values), np.inf)
        values = [value for value in column.values if not is_missing(value)]
        texts = list(map(str, values))
        different, length = len(set(texts)), sum(map(len, texts)) / max(len(texts), 1)
        if any(is_list(value) or isinstance(value, dict) for value in values):
            return cls("lists", different, length)
        if all(number(value) is not None or is_almost_number(value) for value in values):
            return cls("numbers", different, length)
        if 2 * sum(number(value) is not None for value in values) >= len(values):
            return cls("mixed", different, length)
        if values and all(map(is_date, values)):
            return cls("dates", different, length)
        files = all(modality_of(text) for text in texts)
        return cls("files" if files else "texts", different, length)

    def is_input_beside(self, other: _Content) -> bool:
        """Whether this column is clearly the one of inputs, and the other that of labels."""
        if self.kind in ("numbers", "mixed", "dates", "lists") or other.kind == "files":
            return False
        if self.kind == "files" or other.kind in ("numbers", "mixed", "dates", "lists"):
            return True
        fewer = other.different < self.different
        return 2 * other.different <= self.different or (fewer and 3 * other.length <= self.length)

    def is_label_of(self, rows: int) -> bool:
        """Whether the values may be classes: each occurs about twice or more."""
        return self.kind in ("texts", "numbers", "mixed", "lists") and 1 < self.different <= rows / 2


def _by_content(table: Table, names: Sequence[str]) -> tuple[list[str], list[str]]:
    content = {name: _Content.of(table.columns[name]) for name in names}
    if len(names) == 2:
        for one, other in (names, reversed(names)):
            if content[one].is_input_beside(content[other]):
                return [one], [other]
        raise unclear(table, "input")
    if len(names) < 2:
        raise unclear(table, "label" if names and content[names[0]].kind in ("files", "texts") else "input")
    inputs = _input_left(table, names)
    return inputs, _label_left(table, [name for name in names if name not in inputs])


def _input_left(table: Table, names: Sequence[str]) -> list[str]:
    """Returns the column that is left, the only one of files, or the only one of many different texts."""
    content = {name: _Content.of(table.columns[name]) for name in names}
    possible = [name for name in names if content[name].kind in ("files", "texts")]
    files = [name for name in possible if content[name].kind == "files"]
    if len(files) == 1:
        return files
    if len(possible) > 1:
        possible = [name for name in possible if not content[name].is_label_of(table.length)]
    if len(possible) != 1 or files:
        raise unclear(table, "input")
    return possible


def _label_left(table: Table, names: Sequence[str]) -> list[str]:
    """Returns the column that is left, or the only one of few values."""
    if len(names) == 1:
        return list(names)
    found = [name for name in names if _Content.of(table.columns[name]).is_label_of(table.length)]
    if len(found) != 1:
        raise unclear(table, "label")
    return found


def _require_header(table: Table) -> None:
    """Refuses a text file whose first line is an example rather than the columns' names.

    Raises:
        DataError: a number above numbers, a path above paths, a value of the column, or a sentence as a name.
    """
    known = {*INPUT_NAMES, *LABEL_NAMES, *_MORE_INPUTS, *_MORE_LABELS}
    names = list(table.columns)
    if not table.header or any(_plain(name) in known or _is_called_index(name) for name in names):
        return
    numbered = names == [str(i) for i in range(len(names))] or names == [str(i + 1) for i in range(len(names))]
    if not numbered and any(_is_example(name, list(column.values)) for name, column in table.columns.items()):
        raise DataError(
            f"The first line of {table.place} ({', '.join(names)[:60]}) looks like an example, not like names of "
            "columns. Put a line of names above it, such as text,label, or, if these are the names, say so with the "
            "settings `input_column` and `label_column`."
        )


def _is_example(name: str, values: Sequence[Any]) -> bool:
    texts = [str(value).strip() for value in values]
    if number(name) is not None:
        return all(number(text) is not None for text in texts if text)
    if modality_of(name) is not None:
        return all(modality_of(text) is not None for text in texts)
    few = len(set(texts)) <= len(texts) / 2
    return (few and name.strip() in texts) or len(name.split()) > _WORDS_OF_A_NAME
