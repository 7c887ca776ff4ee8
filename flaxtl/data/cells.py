"""What a single cell of a table says: nothing, a class's name, a number, or a list that was written as text."""

from __future__ import annotations

import ast
import datetime
import decimal
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxtl.data.names import canonical_name

# What pandas, R, spreadsheets and databases write for a missing value.
_MISSING = {
    *("", "nan", "+nan", "-nan", "<na>", "#n/a", "#na", "#n/a n/a", "nat", "null", "1.#qnan", "-1.#ind"),
    *("(null)", "<null>", "[null]", r"\n", "<none>", "<missing>", "(missing)", "(blank)"),
    *("#value!", "#ref!", "#div/0!", "#name?", "#num!", "#null!", "#calc!", "#spill!"),
}
# The same, but also what a class may be called: no relation, Namibia.
_DOUBTFUL = {"None", "NA", "N/A", "n/a", "N.A.", "n.a."}
_DOUBTFUL_WORDS = {"missing", "tbd", "todo", "unlabeled", "unlabelled", "unannotated", "no label", "not labeled"}
_DOUBTFUL_SIGNS = re.compile(r"\?+|[-–—−]+|[.…]+|\*+|_+|/+|#+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_PADDED = re.compile(r"[+-]?0\d+")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)\.0")
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})")
_ALMOST = re.compile(r"[€$£¥]?\s*[+-]?\d[\d.,\s]*[%€$£¥]?")
_ITEM = re.compile(r"\s*('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s,'\"\[\](){}:]+)\s*(,?)")
_CLOSED = {"[": "]", "(": ")", "{": "}"}
_DTYPE = re.compile(r",\s*dtype=[^,]*$")


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NaT, an empty text, or a text that programs write for a missing value.

    Example:
        >>> [is_missing(v) for v in (None, float('nan'), ' ', 'NaN', 'null', 0, 'none')]
        [True, True, True, True, True, False, False]
    """
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in _MISSING
    if isinstance(value, (float, decimal.Decimal, np.floating)):
        return bool(value != value)
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType")


def is_doubtful(value: Any) -> bool:
    """Whether a text may stand for a missing value or be a name: None, NA, ?, -.

    Example:
        >>> [is_doubtful(v) for v in ('NA', '--', 'Unlabeled', 'none', '+', 'a-b')]
        [True, True, True, False, False, False]
    """
    if not isinstance(value, str):
        return False
    text = value.strip()
    return text in _DOUBTFUL or text.lower() in _DOUBTFUL_WORDS or _DOUBTFUL_SIGNS.fullmatch(text) is not None


def is_list(value: Any) -> bool:
    """Whether a value holds several: a list, not a text that says one."""
    return isinstance(value, (list, tuple, set, frozenset)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def is_date(value: Any) -> bool:
    """Whether a value is a date or a text that is written like one.

    Example:
        >>> is_date('2024-02-29'), is_date('29.2.2024'), is_date('2024')
        (True, True, False)
    """
    if isinstance(value, str):
        return _DATE.fullmatch(value.strip()) is not None
    return isinstance(value, (datetime.date, np.datetime64))


def is_almost_number(value: Any) -> bool:
    """Whether a text is a number to people but not to programs: 1,5 or 45 % or $3.

    Example:
        >>> [is_almost_number(v) for v in ('1,5', '45 %', '$3', '15', 'a5')]
        [True, True, True, False, False]
    """
    return (
        isinstance(value, str) and number(value, padded=True) is None and _ALMOST.fullmatch(value.strip()) is not None
    )


def number(value: Any, *, padded: bool = False) -> float | None:
    """Returns a cell as a number; None for all else, and for what is written 007 unless `padded`.

    Example:
        >>> number('1e3'), number(2), number('007'), number('1_000'), number(True), number('007', padded=True)
        (1000.0, 2.0, None, None, None, 7.0)
    """
    if isinstance(value, str):
        text = value.strip().replace("−", "-")  # the sign of mathematics, as word processors write it
        return float(text) if _NUMBER.fullmatch(text) and (padded or not _PADDED.fullmatch(text)) else None
    if isinstance(value, (int, float, decimal.Decimal, np.integer, np.floating)) and not isinstance(value, bool):
        return float(value)
    return None


def class_name(value: Any) -> str:
    """Returns what a class is called that a cell names; whole numbers have no decimal point.

    Example:
        >>> class_name(1.0), class_name('007'), class_name(np.int64(3)), class_name(True)
        ('1', '007', '3', 'True')
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, (float, decimal.Decimal)) and np.isfinite(float(value)) and value == int(value):
        value = int(value)
    return canonical_name(str(value))


def class_names(values: Sequence[Any]) -> list[str]:
    """Returns what the classes of a column are called.

    A column of whole numbers that pandas wrote as decimals (1.0) has classes without the point, and truth values that
    are spelled in several ways (TRUE, true) are one class each.

    Example:
        >>> class_names(['0.0', '1.0']), class_names(['1.0', '1.5']), class_names(['TRUE', 'true', 'False'])
        (['0', '1'], ['1.0', '1.5'], ['True', 'True', 'False'])
    """
    names = [class_name(value) for value in values]
    decimals = {name for name in names if "." in name and _NUMBER.fullmatch(name)}
    if decimals and all(_WHOLE.fullmatch(name) for name in decimals):
        names = [name[:-2] if name in decimals else name for name in names]
    spelled = {name.strip() for name in names}
    if len(spelled) > 2 and {name.lower() for name in spelled} == {"true", "false"}:
        names = [name.strip().capitalize() for name in names]
    return names


def written_list(text: str) -> list[Any] | None:
    """Returns the list that a text is: as JSON, Python or NumPy write one; None if it is none.

    Args:
        text: such as ["a", "b"], ['a', 'b'], ['a' 'b'], [a, b], ('a', 'b') or {'a', 'b'}.

    Raises:
        ValueError: it begins like a list but cannot be read as one, or in two ways.

    Example:
        >>> written_list("['a' 'b c']"), written_list('[1, 2]'), written_list('[]'), written_list('a;b')
        (['a', 'b c'], [1, 2], [], None)
    """
    body = _bare(text)
    if body == "set()":
        return []
    if len(body) < 2 or _CLOSED.get(body[0]) != body[-1]:
        return None
    inner = body[1:-1].strip()
    if body[0] != "[" and inner and inner[0] not in "'\"":  # a name in brackets
        return None
    try:
        found = json.loads(body)
    except json.JSONDecodeError:
        return _items(inner) if inner else []
    if not isinstance(found, list) or any(isinstance(item, (list, dict)) for item in found):
        raise ValueError("lists within it")
    return found


def is_quoted_list(value: Any) -> bool:
    """Whether a text is surely a list that was written as text: in brackets, with quotes or commas.

    Example:
        >>> is_quoted_list("['sad']"), is_quoted_list('[deleted]')
        (True, False)
    """
    text = _bare(value) if isinstance(value, str) else ""
    opened = len(text) > 1 and _CLOSED.get(text[0]) == text[-1]
    return text == "[]" or (opened and (text[1:-1].strip()[:1] in "'\"" or (text[0] == "[" and "," in text)))


def _bare(text: str) -> str:
    """Takes off what NumPy puts around a list."""
    text = text.strip()
    wrapped = text.startswith("array(") and text.endswith(")")
    return _DTYPE.sub("", text[6:-1]).strip() if wrapped else text


def _items(inner: str) -> list[Any]:
    """Reads the items of a list that is not JSON: quoted or bare, with commas or white space between them."""
    tokens, commas, place = [], [], 0
    while place < len(inner):
        match = _ITEM.match(inner, place)
        if match is None:
            raise ValueError(f"{inner[place : place + 20]!r} in it")
        tokens.append(match[1])
        commas.append(bool(match[2]))
        place = match.end()
    if "..." in tokens:
        raise ValueError("only a part of its items")
    if any(token[0] in "'\"" for token in tokens):
        if len(set(commas[:-1])) > 1:
            raise ValueError("commas between some of its items")
        return [_item(token) for token in tokens]
    if any(commas):
        return [_item(part.strip()) for part in inner.rstrip(",").split(",")]
    if len(tokens) > 1 and not all(_NUMBER.fullmatch(token) for token in tokens):
        raise ValueError("no commas between its items")
    return [_item(token) for token in tokens]


def _item(token: str) -> Any:
    if token[:1] in ("'", '"'):
        return ast.literal_eval(token)
    if token in ("None", "nan", "NaN", "null"):
        return None
    value = number(token)
    return token if value is None else int(value) if value == int(value) else value
