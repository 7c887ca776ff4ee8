"""A column of a table that says which part of the data each row is: train, validation or test."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Collection, Mapping

from flaxtl.data.cells import class_name, is_missing
from flaxtl.data.columns import Column, Table
from flaxtl.data.part_names import part_of
from flaxtl.data.roles import LABEL_NAMES
from flaxtl.data.set_parts import PARTS, parts_of
from flaxtl.data.source import natural_order
from flaxtl.data.tasks import is_flag
from flaxtl.errors import DataError, listed

_CALLED = re.compile(
    r"((data|dataset|train_test|set|official)_?)?(splits?|subset|partition|part|set|folds?|usage|phase)"
)
_FLAG = re.compile(r"(?:is|in|for|use_for|used_for)_?([a-z]+?)(?:_?(?:set|data|split|image|sample|row))?")
# A column of more different values says something else.
_MOST = 12


@dataclasses.dataclass(frozen=True)
class Divided:
    """The parts of a table.

    Attributes:
        tables: part → its rows, without the column.
        names: part → what the column calls it.
        note: which column it was.
        lone: the part that is asked for alone; the training part is there for its classes.
    """

    tables: Mapping[str, Table]
    names: Mapping[str, str]
    note: str
    lone: str | None = None


def by_column(table: Table, taken: Collection[str], split: str | None) -> Divided | None:
    """Divides a table by a column that says which part of the data each row is; None if it has none.

    That is a column whose values are called like train and another part, or where `split` is given one that is called
    split and has the values which that names; or one such as is_train of yes and no.

    Args:
        table: whose columns are looked at.
        taken: the columns that are read as something else.
        split: see `set_parts.parts_of`.

    Raises:
        DataError: some rows have a value that is no part's name, so that it is not clear what they are for.
    """
    for name, column in table.columns.items():
        values = _values(name, column, taken)
        called = _CALLED.fullmatch(_plain(name)) is not None
        parts = {value: part for value in values if (part := part_of(value))}
        found = set(parts.values())
        if split is not None and (len(found) > 1 or (called and _names_all(split, values))):
            return _chosen(table, name, values, parts, split)
        if "train" not in found or (len(found) < 2 and (not called or len(values) < 2)):
            continue
        odd = {value: count for value, count in values.items() if value not in parts}
        if odd:
            raise _odd(table, name, values, odd)
        return _divided(table, name, parts)
    return _by_flag(table, taken) if split is None else None


def unread_notes(table: Table, taken: Collection[str]) -> list[str]:
    """Says which columns are called like one that says the part, but do not."""
    notes = []
    for name, column in table.columns.items():
        values = _values(name, column, taken)
        if len(values) > 1 and _CALLED.fullmatch(_plain(name)):
            first, second, *_ = natural_order(values)
            notes.append(
                f"The column {name!r} is not looked at: its values {listed(map(repr, natural_order(values)))} are not "
                f"called like parts of the data. If they are, say which is which, such as "
                f"`split='train={first},test={second}'`."
            )
    return notes


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())).lower()


def _values(name: str, column: Column, taken: Collection[str]) -> collections.Counter[str]:
    """Returns the few values of a column that may say the part, and how often each occurs; none of another column."""
    none: collections.Counter[str] = collections.Counter()
    if name in taken or not column.kept or column.kind is not None or _plain(name) in LABEL_NAMES:
        return none
    if any(not is_missing(v) and not isinstance(v, (str, int, float)) for v in column.values):
        return none
    said = (column.names[int(v)] if column.names and not is_missing(v) else v for v in column.values)
    counts = collections.Counter("" if is_missing(value) else class_name(value).strip() for value in said)
    return counts if len(counts) <= _MOST else none


def _names_all(split: str, values: Collection[str]) -> bool:
    """Whether all parts that a user names are values of a column."""
    return all(entry.strip().partition("=")[2] in values for entry in split.split(",")) or split.strip() in values


def _chosen(table: Table, name: str, values: Collection[str], parts: Mapping[str, str], split: str) -> Divided:
    """Divides a table as the user says; names of parts stand for the values that are called like them."""
    known = natural_order({*values, *parts.values()})
    chosen = parts_of(table.place, [value for value in known if value], split)
    wanted: dict[str, str] = {}
    for part, given in chosen.items():
        same = [given] if given in values else [value for value, own in parts.items() if own == given]
        wanted |= dict.fromkeys(same, part)
    lone = part_of(split) if "=" not in split else None
    if lone in (None, "train") or "train" not in parts.values():
        return _divided(table, name, wanted)
    wanted = dict.fromkeys(wanted, str(lone)) | {value: part for value, part in parts.items() if part == "train"}
    return dataclasses.replace(_divided(table, name, wanted), lone=lone)


def _odd(table: Table, name: str, values: Mapping[str, int], odd: Mapping[str, int]) -> DataError:
    known = [value for value in values if value not in odd]
    said, others = (listed(f"{value!r} ({values[value]} rows)" for value in group) for group in (known, list(odd)))
    named = {str(part_of(value)): value for value in known}
    if len(named) < 2 and any(odd):
        named["test"] = next(value for value in odd if value)
    entries = ",".join(f"{part}={value}" for part, value in named.items())
    return DataError(
        f"The column {name!r} of {table.place} says which part of the data each row is: {said}. No part is called "
        f"{others}. Say which parts to read, such as `split={entries!r}`, which leaves other rows out, or mend the "
        "column."
    )


def _divided(table: Table, name: str, parts: Mapping[str, str]) -> Divided:
    rest = dataclasses.replace(table, columns={n: c for n, c in table.columns.items() if n != name})
    column = table.columns[name]
    rows: dict[str, list[int]] = collections.defaultdict(list)
    called: dict[str, str] = {}
    for i, value in enumerate(column.values):
        value = column.names[int(value)] if column.names and not is_missing(value) else value
        text = "" if is_missing(value) else class_name(value).strip()
        if text in parts:
            rows[parts[text]].append(i)
            called.setdefault(parts[text], text)
    note = f"The column {name!r} says which rows are for training, validation and test."
    return Divided({part: rest.rows(rows[part]) for part in PARTS if part in rows}, called, note)


def _by_flag(table: Table, taken: Collection[str]) -> Divided | None:
    """Divides a table by a lone column such as is_train or is_test, of yes and no."""
    found = []
    for name, column in table.columns.items():
        match = _FLAG.fullmatch(_plain(name))
        values = _values(name, column, taken)
        if match and part_of(match[1]) and len(values) > 1 and all(map(is_flag, values)):
            found.append((name, part_of(match[1]), values))
    if len(found) != 1:
        return None
    [(name, part, values)] = found
    other = "test" if part == "train" else "train"
    yes = {value for value in values if value.lower() in ("1", "true", "yes")}
    return _divided(table, name, {value: str(part) if value in yes else other for value in values})
