"""CSV and TSV: which encoding, which separator, and the rows with the lines at which they begin."""

from __future__ import annotations

import codecs
import collections
import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from flaxtl.data.names import canonical_name
from flaxtl.errors import DataError, listed

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATORS = (",", "\t", ";", "|")
_CALLED = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}


@dataclasses.dataclass(frozen=True)
class Delimited:
    """What a CSV file holds.

    Attributes:
        names: of the columns.
        rows: one list of as many texts each.
        lines: the line at which each row begins.
        notes: what the user should know of how it was read.
    """

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    notes: tuple[str, ...] = ()


def read_text_file(file: Path) -> str:
    """Reads a table's text: UTF-8, or what a byte order mark says.

    Raises:
        DataError: it is missing, unreadable or in another encoding.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no table {file}.") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file} is not UTF-8 at line {line}; it may be Latin-1 or another encoding of its system. Save it as "
            "UTF-8 (in a spreadsheet: CSV UTF-8)."
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{file} holds a zero byte at line {line}; it may be UTF-16 or no text. Save it as UTF-8.")
    return text


def read_delimited(file: Path) -> Delimited:
    """Reads a CSV or TSV file with a line of names.

    The separator is the one that its ending says if all rows have as many fields by it, else another by which they
    have, or the one that a first line sep=; names. Rows in which every field is empty are left out and noted.

    Raises:
        DataError: it is missing, in another encoding, not well-formed, or has rows of different lengths.
    """
    text, usual = read_text_file(file), "\t" if file.suffix.lower() == ".tsv" else ","
    first, _, rest = text.partition("\n")
    first = first.rstrip("\r")
    if first.lower().startswith("sep=") and len(first) == 5:
        return _named(file, *_fitting(file, rest, (first[4],), 1), usual)
    others = (sign for sign in _SEPARATORS if sign != usual)
    return _named(file, *_fitting(file, text, (usual, *others), 0), usual)


def _fitting(file: Path, text: str, signs: Sequence[str], before: int) -> tuple[str, list[tuple[int, list[str]]]]:
    """Returns the separator and the rows by it, each with its line; the first of the signs that fits all rows."""
    failed: dict[str, DataError] = {}
    start = text.lstrip().splitlines()[:2]
    single = None
    for sign in signs:
        try:
            rows = _rows(file, text, sign, before)
        except DataError as error:
            failed[sign] = error
            continue
        if not rows or len(rows[0][1]) > 1:
            if rows and sign == signs[0]:
                _refuse_two(file, text, rows, signs)
            return sign, rows
        single = single or (sign, rows)
    # A sign that stands in the names and in the first row divides fields, even if some row is torn by it.
    torn = [error for sign, error in failed.items() if all(sign in line for line in start)]
    if torn or single is None:
        raise (torn or list(failed.values()))[0]
    return single


def _refuse_two(file: Path, text: str, rows: list[tuple[int, list[str]]], signs: Sequence[str]) -> None:
    """Refuses a table whose names and rows can be divided at another sign just as well."""
    for sign in signs[1:]:
        if not any(sign in name for name in rows[0][1]):
            continue
        try:
            others = _rows(file, text, sign, 0)
        except DataError:
            continue
        if len(others[0][1]) > 1:
            raise DataError(
                f"The fields of {file} can be divided at {_CALLED[signs[0]]} or at {_CALLED[sign]}. Say which with a "
                f"first line sep={sign} or sep={signs[0]}, or put names that hold the other sign in quotes."
            )


def _rows(file: Path, text: str, sign: str, before: int) -> list[tuple[int, list[str]]]:
    # Lines end where RFC 4180 says, not at the other separators of Unicode, which may stand inside a field.
    header = text.lstrip("\r\n").partition("\n")[0]
    spaced = f"{sign} " in header
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True, skipinitialspace=spaced)
    found: list[tuple[int, list[str]]] = []
    line = 1
    # The limit is the csv module's own, for all its readers; a text may be as long as a book.
    usual = csv.field_size_limit(max(len(text) + 1, csv.field_size_limit()))
    try:
        for fields in reader:
            if fields:
                found.append((line + before, fields))
                if len(fields) != len(found[0][1]) and any(field.strip() for field in fields):
                    raise DataError(
                        f"Line {line + before} of {file} has another number of fields ({len(fields)}) than the header "
                        f"has ({len(found[0][1])}), with {_CALLED.get(sign, repr(sign))} between them. Put fields "
                        "that hold the separator in quotes."
                    )
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{file} is not a well-formed table at line {reader.line_num + before}: {error}. Quotes within a field are "
            "doubled."
        ) from error
    finally:
        csv.field_size_limit(usual)
    return found


def _named(file: Path, sign: str, rows: list[tuple[int, list[str]]], usual: str) -> Delimited:
    if not rows:
        return Delimited([], [], [])
    header = [canonical_name(name.strip()) for name in rows[0][1]]
    twice = [name for name, count in collections.Counter(header).items() if count > 1 and name]
    if twice:
        raise DataError(f"{file} has more than one column {listed(map(repr, twice))}; expected names that differ.")
    full = [(line, fields) for line, fields in rows[1:] if len(header) == 1 or any(field.strip() for field in fields)]
    # A spreadsheet writes columns that were used once and are empty now.
    kept = [k for k, name in enumerate(header) if name or any(fields[k].strip() for _, fields in full)]
    notes = []
    if sign != usual and len(header) > 1:
        notes.append(f"{file.name} is read with {_CALLED.get(sign, repr(sign))} between its fields.")
    left_out = len(rows) - 1 - len(full)
    if left_out:
        notes.append(f"Rows of {file.name} in which every field is empty are left out ({left_out}).")
    names = [header[k] or f"Unnamed: {k}" for k in kept]
    return Delimited(names, [[f[k] for k in kept] for _, f in full], [line for line, _ in full], tuple(notes))
