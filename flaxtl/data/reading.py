"""From a table to a source: its inputs, labels, groups, and what else is to be shown of each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import numpy as np

from flaxtl.card import Columns
from flaxtl.data.cells import class_name, is_almost_number, is_missing
from flaxtl.data.columns import Reading, Table
from flaxtl.data.doubts import amount_notes
from flaxtl.data.folder import modality_of, modality_of_files, readable
from flaxtl.data.patterns import from_paths, is_pattern
from flaxtl.data.records import Record
from flaxtl.data.roles import PATH_NAMES, almost_numbers, ids_of, inputs_in, named, numbers_of, roles_of
from flaxtl.data.source import Source
from flaxtl.data.targets import labelled
from flaxtl.errors import DataError, listed

OnBadFile = Literal["error", "skip"]


def source_of(table: Table, reading: Reading) -> Source:
    """Makes a source of a table.

    Raises:
        DataError: no rows, a column that is missing or cannot be inferred, values of a wrong kind, labels that are
            missing, or a bad example.
    """
    _require_rows(table)
    roles = roles_of(table, reading)
    _require_whole(table, roles.inputs)
    certain = reading.certain and reading.task is not None
    found = labelled(table, roles.labels, reading.task, certain=certain, known=reading.classes)
    source, rows = _of_inputs(table, roles.inputs, reading.on_bad_file)
    source = dataclasses.replace(
        source, notes=(*table.notes, *roles.notes), columns=Columns(roles.inputs, roles.labels)
    )
    source = found.given_to(source, rows)
    source = dataclasses.replace(source, notes=(*source.notes, *_amount_notes(table, roles.inputs)))
    if reading.group_by is None:
        return source
    return dataclasses.replace(source, groups=_groups(table, source.keys, rows, reading.group_by))


def _amount_notes(table: Table, names: Sequence[str]) -> list[str]:
    """Says which columns of numbers hold what may stand for a missing number."""
    columns = [(name, numbers_of(table.columns[name])) for name in names] if len(names) > 1 else []
    remedy = "fill these cells or remove the rows"
    return [
        note for name, values in columns if values is not None for note in amount_notes(name, values.tolist(), remedy)
    ]


def inputs_of(table: Table, input_column: str | None, on_bad_file: OnBadFile, before: Columns | None = None) -> Source:
    """Makes a source without labels of a table.

    Args:
        table: whose labels, if it has any, are not looked at.
        input_column: of the inputs; None takes those of `before`, or infers them.
        on_bad_file: what to do with an unreadable example.
        before: the columns that a model was trained on.

    Raises:
        DataError: no rows, a column that is missing or cannot be inferred, or a bad example.
    """
    _require_rows(table)
    roles = inputs_in(table, input_column, before)
    _require_whole(table, roles.inputs)
    source, _ = _of_inputs(table, roles.inputs, on_bad_file)
    return dataclasses.replace(source, notes=(*table.notes, *roles.notes), columns=Columns(roles.inputs))


def _require_rows(table: Table) -> None:
    if not table.length:
        raise DataError(f"{table.title} holds no rows.")


def _require_whole(table: Table, names: Sequence[str]) -> None:
    """Refuses rows without an input; an empty text is a text."""
    for name in names:
        column = table.columns[name]
        if not column.kept:
            continue
        bare = [i for i, value in enumerate(column.values) if not isinstance(value, str) and is_missing(value)]
        if bare:
            raise DataError(
                f"{table.at(bare[0])} has nothing in {name!r} ({len(bare)} of {table.length} rows). Fill such rows or "
                "remove them."
            )


def _of_inputs(table: Table, names: Sequence[str], on_bad_file: OnBadFile) -> tuple[Source, Sequence[int]]:
    """Returns the examples that can be read, without labels, and their rows."""
    modality, raw = _raw(table, names)
    rows: Sequence[int] = range(table.length)
    skipped: list[tuple[str, str]] = []
    keys = table.keys
    if modality is None:
        raw = _files(table, names[0], raw)
        modality, keys = modality_of_files(raw), [str(file) for file in raw]
        rows, skipped = readable(raw, modality, on_bad_file)
    elif modality != "array" and not all(table.columns[name].kept for name in names):
        rows, skipped = readable(raw, modality, on_bad_file)
    if len(rows) < table.length:
        raw, keys = [raw[i] for i in rows], [keys[i] for i in rows]
    source = Source.of(modality, raw, keys=keys, skipped=skipped)
    return dataclasses.replace(source, details=_details(table, names, modality, rows)), rows


def _details(table: Table, names: Sequence[str], modality: str, rows: Sequence[int]) -> dict[str, list[Any]]:
    """Returns what predictions show of rows beside their keys: the line or row, the id, and texts."""
    found: dict[str, list[Any]] = {table.unit: [table.numbers[i] for i in rows]}
    ids = ids_of(table, names)
    shown = [*([ids] if ids else []), *(names if modality == "text" else [])]
    for name in shown:
        column = table.columns[name]
        if column.kept:
            found[name] = [column.values[i] for i in rows]
    return found


def _raw(table: Table, names: Sequence[str]) -> tuple[str | None, Sequence[Any]]:
    """Returns the modality and the inputs; None and strings where these are paths."""
    columns = [table.columns[name] for name in names]
    if len(columns) > 1:
        return _several(table, names)
    column = columns[0]
    if column.kind == "array" and column.kept:
        _require_numbers(table, names[0])
    if column.kind is not None:
        values = column.values
        return column.kind, list(values) if column.kept else [Record(values, i, k) for i, k in enumerate(table.keys)]
    for i, value in enumerate(column.values):
        if isinstance(value, (list, dict)):
            raise DataError(f"{table.at(i)} has a list or an object as {names[0]!r}.")
    inputs = [value if isinstance(value, str) else class_name(value) for value in column.values]
    others = [i for i, value in enumerate(inputs) if modality_of(value) is None]
    if not others:
        return None, inputs
    if names[0].lower() in PATH_NAMES:
        raise DataError(
            f"{table.at(others[0])} has {inputs[others[0]]!r} in {names[0]!r}, which has no ending of a picture, a "
            "sound or a .txt file. If another column holds the examples, name it with "
            "`input_column`."
        )
    return "text", inputs


def _several(table: Table, names: Sequence[str]) -> tuple[str, Any]:
    columns = [table.columns[name] for name in names]
    numbers = [numbers_of(column) for column in columns]
    _refuse_almost_numbers(table, names)
    if all(values is not None for values in numbers):
        found = np.stack([values for values in numbers if values is not None], axis=1)
        bare = np.argwhere(np.isnan(found))
        if len(bare):
            row, place = map(int, bare[0])
            raise DataError(
                f"{table.at(row)} has {columns[place].values[row]!r} in {names[place]!r}; expected a number in each "
                f"cell. {len(bare)} cells are missing: fill them or leave these rows out."
            )
        return "array", found
    if len(columns) == 2 and all(column.kind in (None, "text") for column in columns):
        first, second = (map(str, column.values) for column in columns)
        return "text", list(zip(first, second, strict=True))
    raise DataError(
        f"{table.title} has the input columns {listed(map(repr, names))}; expected one, two of texts, or several of "
        "numbers."
    )


def _refuse_almost_numbers(table: Table, names: Sequence[str]) -> None:
    """Refuses columns of numbers that only people can read, which would be texts."""
    for name in names:
        column = table.columns[name]
        if almost_numbers(column):
            odd = next(i for i, value in enumerate(column.values) if is_almost_number(value))
            raise DataError(
                f"{table.at(odd)} has {column.values[odd]!r} in {name!r}; expected a number such as 1.5, with a point "
                "and no other signs."
            )


def _require_numbers(table: Table, name: str) -> None:
    """Refuses lists of numbers with holes, or of several lengths."""
    shapes: dict[tuple[int, ...], int] = {}
    for i, value in enumerate(table.columns[name].values):
        try:
            row = np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{table.at(i)} has in {name!r} what is no array of numbers: {error}.") from error
        if not np.isfinite(row).all():
            raise DataError(f"{table.at(i)} has numbers in {name!r} that are missing or infinite. Fill or remove them.")
        shapes.setdefault(row.shape, i)
    if len(shapes) > 1:
        (one, first), (other, second), *_ = shapes.items()
        raise DataError(
            f"{table.title} has arrays of several shapes in {name!r}: {one} in {table.at(first, short=True)}, {other} "
            f"in {table.at(second, short=True)}; expected one shape."
        )


def _files(table: Table, name: str, paths: Sequence[str]) -> list[Path]:
    listings: dict[Path, dict[str, str]] = {}
    found = [_file(table.folder, path, listings) for path in paths]
    missing = [i for i, file in enumerate(found) if not file.is_file()]
    if missing:
        raise DataError(
            f"{table.title} names {len(missing)} files that do not exist: {listed((found[i] for i in missing), 3)} "
            f"({name!r}, first in {table.at(missing[0], short=True)}). Paths are relative to {table.folder}."
        )
    return found


def _file(folder: Path, path: str, listings: dict[Path, dict[str, str]]) -> Path:
    """Returns the file that a table names; of another system's file names those that look the same count.

    Args:
        folder: that paths are relative to.
        path: as the table has it.
        listings: what lies in folders by the names that it looks like; filled as folders are looked into.
    """
    file = folder / path.strip()
    if file.is_file():
        return file
    place = folder
    for part in Path(path.strip().replace("\\", "/")).parts:
        if not (place / part).exists() and place.is_dir():
            if place not in listings:
                listings[place] = {normalize("NFC", entry.name): entry.name for entry in place.iterdir()}
            part = listings[place].get(normalize("NFC", part), part)
        place = place / part
    return place if place.is_file() else file


def _groups(table: Table, keys: Sequence[str], rows: Sequence[int], group_by: str) -> tuple[str, ...]:
    if is_pattern(group_by) and group_by not in table.columns:
        return from_paths(keys, group_by, "--group-by")
    name, *more = named(table, group_by, " to group by")
    if more:
        raise DataError(f"`group_by` names the columns {listed(map(repr, [name, *more]))}; expected one.")
    column = table.columns[name]
    values = list(column.values)
    bare = [i for i in rows if is_missing(values[i])]
    if bare:
        raise DataError(
            f"{table.at(bare[0])} has no group in {name!r} ({len(bare)} of {table.length} rows). Fill such rows or "
            "remove them."
        )
    return tuple(column.names[values[i]] if column.names else class_name(values[i]) for i in rows)
