"""What the labels of a table are, where nobody says it: one class an example, several labels, or numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flaxtl.card import Task
from flaxtl.data.cells import is_almost_number, is_date, is_list, is_missing, is_quoted_list, number, written_list
from flaxtl.data.doubts import doubtful_places
from flaxtl.errors import DataError, listed

if TYPE_CHECKING:
    from flaxtl.data.columns import Column, Table

SEPARATORS = (";", "|", ",")
# Signs that stand in the names of classes too: between labels only where the parts are labels of other rows.
_RARE_SEPARATORS = ("/", "+", "&", "\\", "\t", "\n", ":", " and ", " - ", " ", "_", "-")
_FLAGS = {"1", "1.0", "true", "yes", "0", "0.0", "false", "no"}
# Fewer different numbers than this may be classes or levels of a scale.
_MANY = 20


def is_flag(value: Any) -> bool:
    """Whether a value says yes or no: 0, 1, true, False, yes.

    Example:
        >>> is_flag(1.0), is_flag('No'), is_flag(2), is_flag(None)
        (True, True, False, False)
    """
    return str(value).strip().lower() in _FLAGS


def inferred_task(table: Table, columns: Mapping[str, Column]) -> tuple[Task, str | None]:
    """Infers the task from the columns of labels.

    Args:
        table: for messages.
        columns: of labels, by name.

    Returns:
        The task and, where it is not one class an example, a note that says so.

    Raises:
        DataError: it is not clear; the message says what to set.
    """
    if len(columns) > 1:
        return _of_several(table, columns)
    [(name, column)] = columns.items()
    values = [value for value in column.values if not is_missing(value)]
    if any(is_list(value) for value in values) or _are_written_lists(values):
        return "multilabel", f"The task is multilabel: {name!r} holds lists of labels."
    if column.names or not values:
        return "classification", None
    odd_places = set(doubtful_places(values))
    values = [value for i, value in enumerate(values) if i not in odd_places] or values  # told of with the labels
    numbers = [number(value) for value in values]
    found = [value for value in numbers if value is not None]
    if len(found) < len(values) and all(_is_amount(value) for value in values):
        raise DataError(f"{table.title} has infinite numbers in {name!r}; expected classes or finite numbers.")
    if len(found) == len(values):
        return _of_numbers(table, name, found)
    if all(is_date(value) for value in values):
        raise _unclear(table, name, f"dates such as {values[0]}", "if they are classes, set `task='classification'`")
    odd = next((value for value in values if is_almost_number(value)), None)
    if odd is not None and all(is_almost_number(value) or number(value) is not None for value in values):
        raise _unclear(
            table,
            name,
            f"numbers written like {odd!r}",
            "for regression write them with a point and no signs, such as 1.5; if they are classes, set "
            "`task='classification'`",
        )
    return _of_texts(table, name, [str(value) for value in values])


def _is_amount(value: Any) -> bool:
    """Whether a cell is a number, or a text that says infinity."""
    return number(value) is not None or str(value).strip().lower().lstrip("+-") in ("inf", "infinity", "∞")


def _unclear(table: Table, name: str, what: str, ways: str) -> DataError:
    return DataError(f"What is to be learned from {table.name} is not clear: {name!r} holds {what}; {ways}.")


def _are_written_lists(values: Sequence[Any]) -> bool:
    """Whether all texts are lists that were written as text, and some surely so."""
    if not any(is_quoted_list(value) for value in values):
        return False
    try:
        return all(isinstance(value, str) and written_list(value) is not None for value in values)
    except ValueError:  # told of where the lists are read
        return True


def _of_numbers(table: Table, name: str, values: Sequence[float]) -> tuple[Task, str | None]:
    different = sorted(set(values))
    count, examples = len(different), len(values)
    if not all(map(math.isfinite, different)):
        raise DataError(f"{table.title} has infinite numbers in {name!r}; expected classes or finite numbers.")
    if any(value % 1 for value in different):
        if count > _MANY or (examples > 4 and count > examples / 2):
            return "regression", f"The task is regression: {name!r} holds {count} different decimals."
        raise _unclear(
            table,
            name,
            f"{count} different decimals such as {next(v for v in different if v % 1):g}",
            "set `task='regression'` if they are amounts, or `task='classification'` if they are classes",
        )
    in_order = different[0] in (0, 1) and different[-1] - different[0] == count - 1
    if count > _MANY / 2 and not in_order and examples < 10 * count:
        raise _unclear(
            table,
            name,
            f"{count} different whole numbers in {examples} rows",
            "set `task='regression'` if they are amounts, or `task='classification'` if they are classes",
        )
    return "classification", None


def _of_texts(table: Table, name: str, values: Sequence[str]) -> tuple[Task, str | None]:
    """Texts with a separator are several labels where their parts are labels of other rows too."""
    kinds = set(values)
    for sign in SEPARATORS:
        divided = {value: [part.strip() for part in value.split(sign)] for value in kinds}
        several = {value: parts for value, parts in divided.items() if len(parts) > 1}
        if not several:
            continue
        of: dict[str, set[str]] = {}
        for value, parts in divided.items():
            for part in parts:
                of.setdefault(part, set()).add(value)
        whole = any(all(len(of[part]) > 1 for part in parts) for parts in several.values())
        shared = any(len(of[part]) > 1 for parts in several.values() for part in parts if part)
        words = all(len(re.findall(r"\w+", part)) <= 3 for parts in several.values() for part in parts)
        if sign != "," and shared:
            return "multilabel", f"The task is multilabel: {name!r} holds labels with {sign!r} between them."
        if whole or (sign != "," and words):
            raise _unclear(
                table,
                name,
                f"values such as {next(iter(sorted(several)))!r}",
                f"set `task='multilabel'` if {sign!r} stands between labels, or `task='classification'` if each value "
                "is one class",
            )
    rare = rare_separator(values)
    if rare is not None:
        joined = next(value for value in sorted(kinds) if rare in value.strip())
        raise _unclear(
            table,
            name,
            f"values such as {joined!r} beside their parts",
            f"set `task='multilabel'` if {rare!r} stands between labels, or `task='classification'` if each value is "
            "one class",
        )
    return "classification", None


def rare_separator(values: Sequence[Any]) -> str | None:
    """Returns the sign by which texts are surely divided into labels, though names hold it too; None if there is none.

    That is sure where most of the texts that hold the sign consist of labels of other rows.

    Example:
        >>> rare_separator(['sad', 'angry', 'sad/angry']), rare_separator(['New York', 'York', 'Old Town'])
        ('/', None)
    """
    kinds = {value.strip() for value in values if isinstance(value, str) and value.strip()}
    for sign in _RARE_SEPARATORS:
        divided = [[part.strip() for part in kind.split(sign)] for kind in kinds if sign in kind]
        if divided and 2 * sum(kinds.issuperset(parts) and len(set(parts)) > 1 for parts in divided) > len(divided):
            return sign
    return None


def _of_several(table: Table, columns: Mapping[str, Column]) -> tuple[Task, str | None]:
    names = listed(map(repr, columns))
    rows = list(zip(*(column.values for column in columns.values()), strict=True))
    if all(is_flag(value) or is_missing(value) for row in rows for value in row):
        if all(sum(number(v) == 1 or str(v).strip().lower() in ("true", "yes") for v in row) == 1 for row in rows):
            raise DataError(
                f"What is to be learned from {table.name} is not clear: each row has exactly one 1 in {names}. Set "
                "`task='multilabel'` if several may be true of an example, or give one column of "
                "classes."
            )
        return "multilabel", f"The task is multilabel: the columns {names} hold 0 and 1."
    if all(is_missing(value) or number(value) is not None for row in rows for value in row):
        return "regression", f"The task is regression: the columns {names} hold numbers."
    return "classification", None
