"""Which labels of a column may stand for a missing one, such as ?, - or -100, and which are plainly classes."""

from __future__ import annotations

import collections
import math
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

from flaxtl.data.cells import class_name, is_doubtful, number

# What libraries and questionnaires write in place of a missing number; -100 is what losses of PyTorch leave out.
_BELOW = {-1.0, -9.0, -99.0, -100.0, -999.0, -9999.0, -99999.0}
_ABOVE = {99.0, 255.0, 999.0, 9999.0, 65535.0, 99999.0}
# A number this many times further from zero than all others may stand for a missing one.
_FAR = 3


def doubtful_places(values: Sequence[Any], known: Collection[str] = ()) -> list[int]:
    """Returns the places of the labels that may stand for a missing one.

    Args:
        values: of a column, none of them missing.
        known: names of classes that are no doubt meant as such.

    Returns:
        Places of words and signs for nothing (NA, ?, -), unless other signs (+, !) are labels too, and of numbers that
        stand for nothing among class numbers or among words: a lone negative one, -100, 255 behind 0, 1, 2. That -1
        and 1 are two classes is plain.

    Example:
        >>> doubtful_places(['a', '?', 'b']), doubtful_places(['+', '-']), doubtful_places([0, 1, -100])
        ([1], [], [2])
        >>> doubtful_places([1, -1]), doubtful_places(['cat', '-1'], known={'-1'})
        ([], [])
    """
    texts = {value.strip() for value in values if isinstance(value, str)}
    signs = any(_is_sign(text) and not is_doubtful(text) for text in texts)
    signs = signs or (len(texts) > 1 and all(map(_is_sign, texts)))
    words = [is_doubtful(v) and not (signs and _is_sign(v.strip())) for v in values]
    numbers = [None if isinstance(v, bool) else number(v) for v in values]
    named = any(n is None and not word for n, word in zip(numbers, words, strict=True))
    odd = _odd_numbers({n for n in numbers if n is not None and math.isfinite(n)}, among_words=named)
    return [
        i
        for i, (value, word, n) in enumerate(zip(values, words, numbers, strict=True))
        if (word or n in odd) and class_name(value).strip() not in known
    ]


def _is_sign(text: str) -> bool:
    """Whether a text is of punctuation and signs of mathematics alone."""
    return bool(text) and all(unicodedata.category(c)[0] == "P" or unicodedata.category(c) == "Sm" for c in text)


def _odd_numbers(different: set[float], *, among_words: bool) -> set[float]:
    """Returns the class numbers that may stand for none."""
    negative = {value for value in different if value < 0}
    if among_words:
        return negative & _BELOW
    if len(negative) == 1:
        [lone] = negative
        return negative if different != {lone, -lone} else set()
    if negative and negative <= _BELOW:
        return negative
    usual = different - _BELOW - _ABOVE
    reach = _FAR * max(map(abs, usual), default=0.0)
    in_order = len(usual) > 1 and min(usual) in (0, 1) and max(usual) - min(usual) == len(usual) - 1
    above = different & _ABOVE if in_order else set()
    return {value for value in (different & _BELOW) | above if abs(value) > max(reach, 8)}


def amount_notes(name: str, values: Sequence[float], remedy: str) -> list[str]:
    """Says which numbers of a column may stand for a missing one.

    Args:
        name: of the column.
        values: its numbers.
        remedy: what to do if they do.

    Example:
        >>> amount_notes('price', [1.0, 2.0], 'remove these rows')
        []
    """
    return [
        f"{value:g} occurs {count} times in {name!r}, outside of all other values, and is read as an amount. If it "
        f"stands for a missing value, {remedy}."
        for value, count in doubtful_amounts(values).items()
    ]


def doubtful_amounts(values: Sequence[float]) -> dict[float, int]:
    """Returns the numbers that may stand for none among amounts, and how often each occurs.

    Those are the ones programs write for a missing number that occur several times and lie outside of all others: the
    only negative one, or one that is far from the rest.

    Example:
        >>> doubtful_amounts([0.5, -999, 3.25, -999, 2]), doubtful_amounts([0.5, -1, 3])
        ({-999.0: 2}, {})
    """
    counts = collections.Counter(map(float, values))
    rest = [value for value in counts if value not in _BELOW | _ABOVE]
    if not rest:
        return {}
    reach = _FAR * max(map(abs, rest))
    return {
        value: count
        for value, count in counts.items()
        if count > 1 and value in _BELOW | _ABOVE and ((value < 0 <= min(rest)) or abs(value) > reach)
    }
