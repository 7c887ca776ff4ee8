"""Tables of examples: CSV, TSV and JSON lines, holding paths or the text itself."""

from __future__ import annotations

import collections
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxtl.data.folder import BadFile, modality_of, source_of_files
from flaxtl.data.source import Source
from flaxtl.errors import DataError, did_you_mean, listed

PATH_NAMES = ("path", "file", "filename", "file_name", "image", "audio")
INPUT_NAMES = (*PATH_NAMES, "text", "sentence", "input")
LABEL_NAMES = ("label", "class", "category", "target", "labels", "intent")


def from_csv(
    path: str | Path,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    on_bad_file: BadFile = "error",
) -> Source:
    """Reads a CSV (or .tsv) file with a header line.

    Args:
        path: the table.
        input_column: holds paths, relative to the table's folder, or the text itself; guessed by its name.
        label_column: holds class names; guessed by its name.
        on_bad_file: what to do with an unreadable file.

    Raises:
        DataError: the table is missing, empty or not UTF-8, lacks a column, or names missing files.
    """
    file = Path(path).expanduser()
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
    return _from_rows(file, rows, input_column, label_column, on_bad_file)


def from_jsonl(
    path: str | Path,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    on_bad_file: BadFile = "error",
) -> Source:
    """Reads a file with one JSON object a line; as `from_csv` otherwise."""
    file = Path(path).expanduser()
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
    return _from_rows(file, rows, input_column, label_column, on_bad_file)


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


def _from_rows(
    file: Path,
    rows: Sequence[dict[str, Any]],
    input_column: str | None,
    label_column: str | None,
    on_bad_file: BadFile,
) -> Source:
    if not rows:
        raise DataError(f"{file} holds no rows.")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    where = _column(file, columns, input_column, INPUT_NAMES, "input")
    what = _column(file, columns, label_column, LABEL_NAMES, "label")
    for number, row in enumerate(rows, 1):
        if row.get(where) is None or row.get(what) in (None, ""):
            raise DataError(f"Example {number} of {file} lacks {where!r} or {what!r}.")
        if isinstance(row[where], (list, dict)) or isinstance(row[what], (list, dict)):
            raise DataError(f"Example {number} of {file} has a list or an object as {where!r} or {what!r}.")
    inputs = [str(row[where]) for row in rows]
    names = [str(row[what]) for row in rows]
    if len(set(names)) < 2:
        raise DataError(f"{file} holds the one class {names[0]!r} in {what!r}; expected at least two.")
    others = [value for value in inputs if modality_of(value) is None]
    if not others:
        return _of_files(file, inputs, names, on_bad_file)
    if where.lower() in PATH_NAMES:
        raise DataError(
            f"{file} has {others[0]!r} in {where!r}, which has no ending of a picture, a sound or a .txt file. "
            "If another column holds the examples, name it with --input-column."
        )
    return Source.of("text", inputs, names, keys=[f"{file.name}:{i}" for i in range(1, len(rows) + 1)])


def _column(file: Path, columns: list[str], given: str | None, known: Sequence[str], kind: str) -> str:
    if given is not None:
        if given not in columns:
            near = did_you_mean(given, columns) or f" Its columns are {listed(columns)}."
            raise DataError(f"{file} has no column {given!r}.{near}")
        return given
    lower = {c.lower(): c for c in columns}
    found = [lower[name] for name in known if name in lower]
    if not found:
        raise DataError(
            f"{file} has the columns {listed(columns)}; which one holds the {kind} cannot be guessed. "
            f"Name it with --{kind}-column."
        )
    return found[0]


def _of_files(file: Path, inputs: list[str], names: list[str], on_bad_file: BadFile) -> Source:
    files = [file.parent / value for value in inputs]
    missing = [f for f in files if not f.is_file()]
    if missing:
        raise DataError(f"{file} names {len(missing)} files that do not exist: {listed(missing, 3)}.")
    return source_of_files(files, on_bad_file, names)
