"""Tables of examples: CSV, TSV and JSON lines, holding paths or the examples themselves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from flaxtl.card import Task
from flaxtl.data.columns import Column, Reading, Table
from flaxtl.data.delimited import read_delimited, read_text_file
from flaxtl.data.folder import BadFile
from flaxtl.data.names import canonical_name
from flaxtl.data.reading import source_of
from flaxtl.data.set_parts import sources_of, tables_by_column
from flaxtl.data.source import Source, Splits
from flaxtl.errors import DataError, listed
from flaxtl.places import expanded

_CSV = (".csv", ".tsv")
TABLES = (*_CSV, ".jsonl", ".ndjson")


def from_csv(
    path: str | Path,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    group_by: str | None = None,
    task: Task | None = None,
    on_bad_file: BadFile = "error",
) -> Source:
    """Reads a CSV (or .tsv) file with a header line.

    Args:
        path: the table; semicolons or tabs between its fields are noticed.
        input_column: holds paths, relative to the table's folder, or the text itself; "a,b" for pairs of texts, or for
            several columns of numbers. Inferred from names and contents; where all but the labels are numbers, these
            are the input.
        label_column: holds class names, for multilabel also several labels with ; or | or , between them, or lists;
            "a,b" for several outputs. Inferred from names and contents.
        group_by: holds the group of each example, or a pattern of paths with {} where the group stands.
        task: what the labels are; None infers it where that is clear. What is inferred is said in the source's notes.
        on_bad_file: what to do with an unreadable file.

    Raises:
        DataError: the table is missing, empty or not UTF-8, lacks a column or labels, or names missing files.
    """
    reading = Reading(input_column, label_column, group_by, task, on_bad_file)
    return source_of(_csv_table(expanded(path)), reading)


def from_jsonl(
    path: str | Path,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    group_by: str | None = None,
    task: Task | None = None,
    on_bad_file: BadFile = "error",
) -> Source:
    """Reads a file with one JSON object a line; as `from_csv` otherwise."""
    reading = Reading(input_column, label_column, group_by, task, on_bad_file)
    return source_of(_jsonl_table(expanded(path)), reading)


def from_table(path: str | Path, reading: Reading) -> Source | Splits:
    """Reads a table by its ending; a column `split` of train, validation and test divides it.

    Raises:
        DataError: as `from_csv`.
    """
    return divided(read_table(path), reading)


def divided(table: Table, reading: Reading) -> Source | Splits:
    """Makes a source of a table, or of its parts where a column says which part of the data each row is."""
    named = ",".join(filter(None, (reading.input_column, reading.label_column, reading.group_by))).split(",")
    parts = tables_by_column(table)
    if parts is None or parts[0] in named:
        return source_of(table, reading)
    column, tables = parts
    note = f"The column {column!r} says which rows are for training, validation and test."
    tables["train"] = dataclasses.replace(tables["train"], notes=(*table.notes, note))
    return sources_of(tables, {part: part for part in tables}, reading)


def read_table(path: str | Path) -> Table:
    """Reads a table by its ending: one of `TABLES`.

    Raises:
        DataError: it is missing, not UTF-8 or not well-formed.
    """
    file = expanded(path)
    return _csv_table(file) if file.suffix.lower() in _CSV else _jsonl_table(file)


def _csv_table(file: Path) -> Table:
    found = read_delimited(file)
    columns = {name: Column([row[k] for row in found.rows]) for k, name in enumerate(found.names)}
    return _table(file, columns, found.lines, header=True, notes=found.notes)


def _jsonl_table(file: Path) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(read_text_file(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            raise DataError(f"Line {number} of {file} is not JSON: {error}. Expected one object a line.") from error
        except ValueError as error:
            raise DataError(f"Line {number} of {file} {error}.") from error
        if not isinstance(row, dict):
            raise DataError(f"Line {number} of {file} holds {type(row).__name__}; expected one object a line.")
        rows.append(row)
        lines.append(number)
    names = dict.fromkeys(key for row in rows for key in row)
    return _table(file, {name: Column([row.get(name) for row in rows]) for name in names}, lines)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [canonical_name(name) for name, _ in pairs]
    found = dict(zip(names, (value for _, value in pairs), strict=True))
    if len(found) < len(pairs):
        raise ValueError(f"has {listed(repr(n) for n in found if names.count(n) > 1)} more than once")
    return found


def _table(file: Path, columns: dict[str, Column], lines: list[int], **more: Any) -> Table:
    return Table(str(file), file.name, columns, len(lines), file.parent, unit="line", places=lines, **more)
