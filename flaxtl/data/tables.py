"""Tables of examples: CSV, TSV and JSON, holding paths or the examples themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flaxtl.card import Task
from flaxtl.data.columns import Column, Reading, Table
from flaxtl.data.delimited import read_delimited
from flaxtl.data.folder import BadFile
from flaxtl.data.json_tables import JSON, json_table
from flaxtl.data.reading import source_of
from flaxtl.data.set_parts import sources_of, with_split
from flaxtl.data.source import Source, Splits
from flaxtl.data.split_columns import by_column, unread_notes
from flaxtl.places import expanded

_CSV = (".csv", ".tsv")
TABLES = (*_CSV, *JSON)


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
    """Reads a file with one JSON object a line, or one list of objects; as `from_csv` otherwise."""
    reading = Reading(input_column, label_column, group_by, task, on_bad_file)
    return source_of(json_table(expanded(path)), reading)


def from_table(path: str | Path, reading: Reading, split: str | None = None) -> Source | Splits:
    """Reads a table by its ending; a column `split` of train, validation and test divides it.

    Raises:
        DataError: as `from_csv`.
    """
    return divided(read_table(path), reading, split)


def divided(table: Table, reading: Reading, split: str | None = None) -> Source | Splits:
    """Makes a source of a table, or of its parts where a column says which part of the data each row is.

    Args:
        table: to read.
        reading: which columns are what.
        split: the parts to read, see `set_parts.parts_of`.

    Raises:
        DataError: as `source_of`; rows of which it is not clear what they are for; there is no such part.
    """
    named = ",".join(filter(None, (reading.input_column, reading.label_column, reading.group_by))).split(",")
    found = by_column(table, named, split)
    if found is None:
        table = dataclasses.replace(table, notes=(*table.notes, *unread_notes(table, named)))
        return with_split(source_of(table, reading), split, table.place)
    tables = dict(found.tables)
    first = next(iter(tables))
    tables[first] = dataclasses.replace(tables[first], notes=(*table.notes, found.note))
    read = sources_of(tables, found.names, reading)
    return read.parts[found.lone] if isinstance(read, Splits) and found.lone is not None else read


def read_table(path: str | Path) -> Table:
    """Reads a table by its ending: one of `TABLES`.

    Raises:
        DataError: it is missing, not UTF-8 or not well-formed.
    """
    file = expanded(path)
    return _csv_table(file) if file.suffix.lower() in _CSV else json_table(file)


def _csv_table(file: Path) -> Table:
    found = read_delimited(file)
    columns = {name: Column([row[k] for row in found.rows]) for k, name in enumerate(found.names)}
    length, lines = len(found.rows), found.lines
    place = (str(file), file.name, columns, length, file.parent)
    return Table(*place, unit="line", places=lines, header=True, notes=found.notes)
