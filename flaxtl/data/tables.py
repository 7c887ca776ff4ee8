"""Tables of examples: CSV, TSV and JSON lines, holding paths or the examples themselves."""

from __future__ import annotations

import collections
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxtl.card import Task
from flaxtl.data.columns import Column, Reading, Table, source_of
from flaxtl.data.folder import BadFile
from flaxtl.data.source import Source
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
    task: Task = "classification",
    on_bad_file: BadFile = "error",
) -> Source:
    """Reads a CSV (or .tsv) file with a header line.

    Args:
        path: the table.
        input_column: holds paths, relative to the table's folder, or the text itself; "a,b" for pairs of texts, or for
            several columns of numbers. Guessed by its name; where all but the labels are numbers, these are the input.
        label_column: holds class names, for multilabel also several labels with ; or | or , between them; "a,b" for
            several outputs. Guessed by its name.
        group_by: holds the group of each example, or a pattern of paths with {} where the group stands.
        task: what the labels are.
        on_bad_file: what to do with an unreadable file.

    Raises:
        DataError: the table is missing, empty or not UTF-8, lacks a column, or names missing files.
    """
    reading = Reading(input_column, label_column, group_by, task, on_bad_file)
    return source_of(_csv_table(expanded(path)), reading)


def from_jsonl(
    path: str | Path,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    group_by: str | None = None,
    task: Task = "classification",
    on_bad_file: BadFile = "error",
) -> Source:
    """Reads a file with one JSON object a line; as `from_csv` otherwise."""
    reading = Reading(input_column, label_column, group_by, task, on_bad_file)
    return source_of(_jsonl_table(expanded(path)), reading)


def read_table(path: str | Path) -> Table:
    """Reads a table by its ending: one of `TABLES`.

    Raises:
        DataError: it is missing, not UTF-8 or not well-formed.
    """
    file = expanded(path)
    return _csv_table(file) if file.suffix.lower() in _CSV else _jsonl_table(file)


def _csv_table(file: Path) -> Table:
    # Lines end where RFC 4180 says, not at the other separators of Unicode, which may stand inside a field.
    lines = io.StringIO(_text(file), newline="")
    reader = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"Line {reader.line_num} of {file} has another number of fields than the header has.")
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{file} is not a well-formed table at line {reader.line_num}: {error}.") from error
    twice = [name for name, count in collections.Counter(reader.fieldnames or ()).items() if count > 1]
    if twice:
        raise DataError(f"{file} has more than one column {listed(map(repr, twice))}; expected names that differ.")
    return _table(file, rows)


def _jsonl_table(file: Path) -> Table:
    rows = []
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"Line {number} of {file} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise DataError(f"Line {number} of {file} holds {type(row).__name__}; expected an object.")
        rows.append(row)
    return _table(file, rows)


def _table(file: Path, rows: Sequence[dict[str, Any]]) -> Table:
    names = dict.fromkeys(key for row in rows for key in row)
    columns = {name: Column([row.get(name) for row in rows]) for name in names}
    return Table(str(file), file.name, columns, len(rows), file.parent)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"There is no table {file}.") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{file} is not UTF-8 at line {line}. Save it as UTF-8.") from error
