"""From a table of any kind (CSV, JSON lines, Parquet, tensorflow-datasets, Hugging Face datasets) to a source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flaxtl.card import Task
from flaxtl.data.folder import SPLIT_FOLDERS, modality_of, modality_of_files, readable
from flaxtl.data.records import Record
from flaxtl.data.selecting import HOLE, from_paths
from flaxtl.data.source import Source, Splits
from flaxtl.data.targets import labelled
from flaxtl.errors import DataError, did_you_mean, listed

PATH_NAMES = ("path", "file", "filename", "file_name", "image", "audio")
INPUT_NAMES = (*PATH_NAMES, "text", "sentence", "input")
LABEL_NAMES = ("label", "class", "category", "target", "labels", "intent")


class LazyList(Sequence[Any]):
    """Values that are read together when one of them is first asked for."""

    def __init__(self, length: int, load: Callable[[], list[Any]]) -> None:
        self._length, self._load = length, load
        self._values: list[Any] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: Any) -> Any:
        if self._values is None:
            self._values = self._load()
        return self._values[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """A column of a table.

    Attributes:
        values: one a row.
        kind: the modality that the table's own types give it; None where only the values tell.
        names: of a column of class numbers, what each is called.
        kept: whether the values may be kept in memory; else each is read when it is needed.
    """

    values: Sequence[Any]
    kind: str | None = None
    names: tuple[str, ...] = ()
    kept: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Columns of one length.

    Attributes:
        place: what messages call it.
        key: what the keys of its examples begin with.
        columns: by name, in their order.
        length: number of rows.
        folder: what paths in it are relative to.
        usual: the columns of inputs and labels that its publisher names.
    """

    place: str
    key: str
    columns: Mapping[str, Column]
    length: int
    folder: Path = Path()
    usual: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    """Which columns are what.

    Attributes:
        input_column: of the inputs; two of texts, with a comma between them, are pairs, several of numbers arrays.
        label_column: of the labels; several, with commas between them, are several outputs.
        group_by: of the groups, or a pattern of the paths of files.
        task: what the labels are.
        on_bad_file: what to do with an unreadable example.
    """

    input_column: str | None = None
    label_column: str | None = None
    group_by: str | None = None
    task: Task = "classification"
    on_bad_file: Literal["error", "skip"] = "error"


def source_of(table: Table, reading: Reading) -> Source:
    """Makes a source of a table.

    Raises:
        DataError: no rows, a column that is missing or cannot be guessed, values of a wrong kind, or a bad example.
    """
    if not table.length:
        raise DataError(f"{table.place} holds no rows.")
    what = _named(table, reading.label_column) or [_guessed(table, table.columns, LABEL_NAMES, "label")]
    where = _named(table, reading.input_column) or _inputs_guessed(table, what, reading.group_by)
    _require_whole(table, where, what, reading.task)
    found = labelled(table.place, {name: table.columns[name] for name in what}, reading.task)
    source, rows = _of_inputs(table, where, reading.on_bad_file)
    source = found.given_to(source, rows)
    if reading.group_by is None:
        return source
    return dataclasses.replace(source, groups=_groups(table, source.keys, rows, reading.group_by))


def inputs_of(table: Table, input_column: str | None, on_bad_file: Literal["error", "skip"]) -> Source:
    """Makes a source without labels of a table; columns that are called like labels are not guessed to be inputs.

    Raises:
        DataError: no rows, a column that is missing or cannot be guessed, or a bad example.
    """
    if not table.length:
        raise DataError(f"{table.place} holds no rows.")
    labels = [name for name in table.columns if name.lower() in LABEL_NAMES]
    where = _named(table, input_column)
    if not where and len(table.columns) - len(labels) == 1:
        where = [name for name in table.columns if name not in labels]
    where = where or _inputs_guessed(table, labels, None)
    for name in where:
        column = table.columns[name]
        bare = [i + 1 for i in range(table.length) if column.kept and column.values[i] is None]
        if bare:
            raise DataError(f"{len(bare)} examples of {table.place} lack {name!r}: {listed(bare, 3)}.")
    return _of_inputs(table, where, on_bad_file)[0]


def joined(parts: Mapping[str, Source]) -> Source | Splits:
    """Returns the parts of a data set with one class order, the training part's; a lone one as it is."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    order = parts["train"].labels
    return Splits(**{name: part.with_labels(order) for name, part in parts.items()})


def parts_of(place: str, available: Sequence[str], split: str | None) -> dict[str, str]:
    """Returns which of the splits that a data set has is which part: part → split.

    Args:
        place: what messages call the set.
        available: the names of its splits.
        split: what the user says: None takes those called train, validation and test; one name takes this one alone;
            'train=a,test=b' says it of each. A name may have a slice behind it where the set's library takes slices.

    Raises:
        DataError: a split that the set does not have, or none of them is called train.

    Example:
        >>> parts_of('set', ['train', 'valid', 'extra'], None)
        {'train': 'train', 'validation': 'valid'}
        >>> parts_of('set', ['a', 'b'], 'train=a[:50%],test=b')
        {'train': 'a[:50%]', 'test': 'b'}
    """
    if split is not None:
        given = dict(_part(entry) for entry in split.split(","))
        for name in given.values():
            for piece in name.split("+"):
                if piece.split("[")[0] not in available:
                    near = did_you_mean(piece, available)
                    raise DataError(f"{place} has no split {piece!r}.{near} Its splits are {listed(available)}.")
        found = given
    elif len(available) == 1:
        return {"train": available[0]}
    else:
        found = {SPLIT_FOLDERS[n.lower()]: n for n in reversed(available) if n.lower() in SPLIT_FOLDERS}
    if "train" not in found:
        raise DataError(
            f"{place} has the splits {listed(available)}; which one is to be learned from is not clear. "
            "Name it with `split`, such as `split='test'` or `split='train=one,test=other'`."
        )
    return {part: found[part] for part in ("train", "validation", "test") if part in found}


def _part(entry: str) -> tuple[str, str]:
    part, equals, name = entry.strip().partition("=")
    if not equals:
        return "train", part
    if part not in SPLIT_FOLDERS or not name:
        raise DataError(f"`split` holds {entry!r}; expected a split's name, or train=, validation= or test= before it.")
    return SPLIT_FOLDERS[part], name


def _named(table: Table, given: str | None) -> list[str]:
    """Returns the columns that a user names: one, which may hold commas, or several with commas between."""
    if given is None:
        return []
    names = [given] if given in table.columns else [name.strip() for name in given.split(",")]
    for name in names:
        if name not in table.columns:
            near = did_you_mean(name, table.columns) or f" Its columns are {listed(table.columns)}."
            raise DataError(f"{table.place} has no column {name!r}.{near}")
    return names


def _guessed(table: Table, pool: Iterable[str], known: Sequence[str], kind: str) -> str:
    """Guesses a column of the pool: what the publisher names, else by name, else by a type that says it."""
    if table.usual is not None:
        return table.usual[kind == "label"]
    lower = {name.lower(): name for name in pool}
    found = [lower[name] for name in known if name in lower]
    typed = {name: table.columns[name] for name in lower.values()}
    found += [n for n, c in typed.items() if (c.names if kind == "label" else c.kind in ("image", "audio"))]
    if not found:
        raise DataError(
            f"{table.place} has the columns {listed(table.columns)}; which one holds the {kind} cannot be guessed. "
            f"Name it with --{kind}-column."
        )
    return found[0]


def _inputs_guessed(table: Table, what: list[str], group_by: str | None) -> list[str]:
    """Guesses the column of inputs by its name or type; where all but the labels are numbers, these are the input."""
    others = [name for name in table.columns if name not in (*what, group_by)]
    named = table.usual is not None or any(name.lower() in INPUT_NAMES for name in others)
    if not named and len(others) > 1 and all(_numbers(table.columns[name]) is not None for name in others):
        return others
    return [_guessed(table, others, INPUT_NAMES, "input")]


def _numbers(column: Column) -> np.ndarray | None:
    """Returns a column's values as float32, or None if one of them is no number."""
    if column.kind is not None or not column.kept:
        return None
    try:
        return np.asarray([float(value) for value in column.values], np.float32)
    except (TypeError, ValueError):
        return None


def _require_whole(table: Table, where: list[str], what: list[str], task: str) -> None:
    inputs = [table.columns[name].values for name in where if table.columns[name].kept]
    # An empty list of labels says that none applies; a class or a number must be there.
    labels = [table.columns[name].values for name in what] if task != "multilabel" else []
    names = {name for n in what for name in [table.columns[n].names] if name}
    for i in range(table.length if inputs or labels else 0):
        lacks = any(values[i] is None for values in inputs) or any(values[i] in (None, "") for values in labels)
        if lacks or (names and task == "classification" and labels[0][i] == -1):
            raise DataError(f"Example {i + 1} of {table.place} lacks {listed(map(repr, where))} or {what[0]!r}.")


def _of_inputs(table: Table, where: list[str], on_bad_file: Literal["error", "skip"]) -> tuple[Source, Sequence[int]]:
    """Returns the examples that can be read, without labels, and their rows."""
    modality, raw = _raw(table, where)
    if modality is None:
        files = _files(table, raw)
        modality, keys, raw = modality_of_files(files), [str(file) for file in files], files
    else:
        keys = _keys(table)
        if modality == "array" or all(table.columns[name].kept for name in where):
            return Source.of(modality, raw, keys=keys), range(table.length)
    kept, skipped = readable(raw, modality, on_bad_file)
    return Source.of(modality, [raw[i] for i in kept], keys=[keys[i] for i in kept], skipped=skipped), kept


def _keys(table: Table) -> list[str]:
    return [f"{table.key}:{i}" for i in range(1, table.length + 1)]


def _raw(table: Table, where: list[str]) -> tuple[str | None, Sequence[Any]]:
    """Returns the modality and the inputs; None and strings where these are paths."""
    columns = [table.columns[name] for name in where]
    if len(columns) > 1:
        return _several(table, where, columns)
    column = columns[0]
    if column.kind is not None:
        values = column.values
        kept = column.kept
        return column.kind, list(values) if kept else [Record(values, i, k) for i, k in enumerate(_keys(table))]
    for i, value in enumerate(column.values):
        if isinstance(value, (list, dict)):
            raise DataError(f"Example {i + 1} of {table.place} has a list or an object as {where[0]!r}.")
    inputs = [str(value) for value in column.values]
    others = [value for value in inputs if modality_of(value) is None]
    if not others:
        return None, inputs
    if where[0].lower() in PATH_NAMES:
        raise DataError(
            f"{table.place} has {others[0]!r} in {where[0]!r}, which has no ending of a picture, a sound or a .txt "
            "file. If another column holds the examples, name it with `input_column`."
        )
    return "text", inputs


def _several(table: Table, where: list[str], columns: Sequence[Column]) -> tuple[str, Any]:
    numbers = [_numbers(column) for column in columns]
    if all(values is not None for values in numbers):
        return "array", np.stack([values for values in numbers if values is not None], axis=1)
    if len(columns) == 2 and all(column.kind in (None, "text") for column in columns):
        first, second = (map(str, column.values) for column in columns)
        return "text", list(zip(first, second, strict=True))
    raise DataError(
        f"{table.place} has the input columns {listed(map(repr, where))}; expected one, two of texts, or several of "
        "numbers."
    )


def _files(table: Table, paths: Sequence[str]) -> list[Path]:
    files = [table.folder / path for path in paths]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{table.place} names {len(missing)} files that do not exist: {listed(missing, 3)}.")
    return files


def _groups(table: Table, keys: Sequence[str], rows: Sequence[int], group_by: str) -> tuple[str, ...]:
    if HOLE in group_by and group_by not in table.columns:
        return from_paths(keys, group_by, "group_by")
    if group_by not in table.columns:
        near = did_you_mean(group_by, table.columns) or f" Its columns are {listed(table.columns)}."
        raise DataError(f"{table.place} has no column {group_by!r} to group by.{near}")
    column = table.columns[group_by]
    values = list(column.values)
    bare = [i + 1 for i in rows if values[i] in (None, "")]
    if bare:
        raise DataError(f"{len(bare)} examples of {table.place} have no group in {group_by!r}: {listed(bare, 3)}.")
    return tuple(column.names[values[i]] if column.names else str(values[i]) for i in rows)
