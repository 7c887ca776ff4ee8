"""JSON files as tables: one object a line, a list of objects, or columns, as pandas and others write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxtl.data.columns import Column, Table
from flaxtl.data.delimited import read_text_file
from flaxtl.data.names import canonical_name
from flaxtl.errors import DataError, listed

_USUAL = ("data", "rows", "records", "examples", "items", "samples", "dataset")
JSON = (".jsonl", ".ndjson", ".json")
_EXPECTED = 'Expected one object a line, or a list of objects, such as [{"text": "good", "label": "yes"}, …]'


def json_table(file: Path) -> Table:
    """Reads a file of one JSON object a line, or one JSON document that holds a table.

    A document is a list of objects, an object in which one name alone holds such a list ({"data": […]}), or columns:
    an object of lists of one length, or of objects with the same names, as pandas writes it.

    Raises:
        DataError: it is missing, not UTF-8, no JSON, or holds no table; the message says what it holds.
    """
    text = read_text_file(file)
    document = _document(file, text)
    if document is None:
        return _lines(file, text)
    return _of_document(file, document[0])


def _document(file: Path, text: str) -> tuple[Any] | None:
    """Returns the whole file as one JSON value; None where it is one value a line, or none at all."""
    start = text.lstrip()[:1]
    if start not in ("[", "{") or (start == "{" and file.suffix.lower() != ".json"):
        return None
    try:
        return (json.loads(text, object_pairs_hook=_object),)
    except json.JSONDecodeError as error:
        first = text.strip().partition("\n")[0].strip()
        if start == "[" or not first.endswith("}"):
            raise DataError(f"{file} is not JSON: {error}. {_EXPECTED}.") from error
        return None
    except ValueError as error:
        raise DataError(f"{file} {error}.") from error


def _lines(file: Path, text: str) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
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
    return Table(str(file), file.name, _columns(rows), len(lines), file.parent, unit="line", places=lines)


def _of_document(file: Path, found: Any) -> Table:
    notes: tuple[str, ...] = ()
    if isinstance(found, dict):
        split = _pandas_split(found)
        if split is not None:
            found = split
        elif (columns := _as_columns(found)) is not None:
            length = len(next(iter(columns.values())).values)
            return Table(str(file), file.name, columns, length, file.parent)
        else:
            name = _name_of_records(file, found)
            if len(found) > 1:
                rest = listed(repr(other) for other in found if other != name)
                notes = (f"The rows of {file.name} are read from {name!r}; {rest} is not looked at.",)
            found = found[name]
    odd = next((i for i, row in enumerate(found) if not isinstance(row, dict)), None)
    if odd is not None:
        raise DataError(f"Row {odd + 1} of {file} is {type(found[odd]).__name__}. {_EXPECTED}.")
    return Table(str(file), file.name, _columns(found), len(found), file.parent, notes=notes)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    names = dict.fromkeys(key for row in rows for key in row)
    return {name: Column([row.get(name) for row in rows]) for name in names}


def _pandas_split(found: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Returns the rows of what pandas writes with orient="split"; None if it is something else."""
    names, rows = found.get("columns"), found.get("data")
    if not (isinstance(names, list) and isinstance(rows, list) and set(found) <= {"columns", "index", "data"}):
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return None
    return [dict(zip(map(canonical_name, map(str, names)), row, strict=True)) for row in rows]


def _as_columns(found: Mapping[str, Any]) -> dict[str, Column] | None:
    """Returns the columns of an object that holds one list a column, or one object of the same row names a column."""
    values = list(found.values())
    if len(values) > 1 and all(isinstance(v, list) and v and not isinstance(v[0], dict) for v in values):
        return {n: Column(v) for n, v in found.items()} if len(set(map(len, values))) == 1 else None
    numbered = all(isinstance(v, dict) and list(v) == list(values[0]) for v in values)
    if len(values) > 1 and numbered and all(key.isdecimal() for key in values[0]):
        return {name: Column(list(column.values())) for name, column in found.items()}
    return None


def _name_of_records(file: Path, found: Mapping[str, Any]) -> str:
    """Returns the name under which a list of objects stands.

    Raises:
        DataError: there is none, or several, such as one for each part of the data.
    """
    names = [n for n, v in found.items() if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)]
    # A file of settings may hold a list of objects too, deep among others.
    plain = not any(isinstance(value, (list, dict)) for other, value in found.items() if other not in names)
    if len(names) == 1 and (plain or names[0].lower() in _USUAL):
        return names[0]
    if len(names) > 1:
        raise DataError(
            f"{file} holds several lists of objects, {listed(map(repr, names))}; which one the examples are is not "
            "clear. Save each of them as a file of its own, one object a line (.jsonl)."
        )
    if not found:
        raise DataError(f"{file} holds an empty object. {_EXPECTED}.")
    raise DataError(
        f"{file} holds an object with the names {listed(map(repr, found), 5)}, which is no table. {_EXPECTED}: save it "
        "so, or as CSV with a line of names."
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [canonical_name(name) for name, _ in pairs]
    found = dict(zip(names, (value for _, value in pairs), strict=True))
    if len(found) < len(pairs):
        raise ValueError(f"has {listed(repr(n) for n in found if names.count(n) > 1)} more than once")
    return found
