"""The errors that a user can mend, each a sentence: what was found, what was expected, what to do.

The command line prints such an error without a traceback and exits with code 2; anything else that
escapes is a defect of flaxtl and shows its traceback.

A message names settings as Python does, in backticks: `batch_size`, or with a value `strategy='full'`. The command line
shows these as its options, --batch-size and --strategy full (see `cli.wording`), so that each reader meets the names
that he can write.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any


class FlaxtlError(Exception):
    """A problem whose cause lies in what flaxtl was given."""


class PathError(FlaxtlError):
    """A path pattern that fits nothing, or a tree that a rule list does not cover."""


class CheckpointError(FlaxtlError):
    """A checkpoint that is missing, damaged, or does not fit the model."""


class CardError(FlaxtlError):
    """A card that cannot be read, or data of another kind than the card asks for."""


class DataError(FlaxtlError):
    """Data that cannot be used as it is."""


class ConfigError(FlaxtlError):
    """A setting that does not exist or has an impossible value."""


class TrainingError(FlaxtlError):
    """Training that cannot go on, such as a loss that is no longer a finite number."""


class Preempted(FlaxtlError):
    """Training that was asked to end, and whose state is saved: no mistake, and nothing is lost."""


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Returns up to `count` of `known` that are spelled most like `word`, best first, and never `word` itself.

    Case, hyphens and underscores do not count, and a word that is one of a name's own words is near to it.

    Example:
        >>> nearest('Batch-Sise', ['batch_size', 'epochs']), nearest('size', ['batch_size', 'size'])
        (['batch_size'], ['batch_size'])
    """
    wanted = _folded(word)
    likeness = {name: _likeness(wanted, _folded(name)) for name in known if name != word}
    least = max(_NEAR, max(likeness.values(), default=0.0) - _AS_NEAR)
    near = [name for name, share in likeness.items() if share >= least]
    return sorted(near, key=lambda name: -likeness[name])[:count]


# What of two words has to be equal for one to be proposed for the other, and how much less than the best still is.
_NEAR, _AS_NEAR = 0.6, 0.15


def _folded(word: str) -> str:
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFC", word).casefold())


def _likeness(wanted: str, name: str) -> float:
    if wanted == name:
        return 1.0
    same = difflib.SequenceMatcher(a=name, b=wanted, autojunk=False).ratio()
    part = len(wanted) > 2 and (wanted in re.split(r"[_/.: ]", name) or name.startswith(wanted))
    return max(same, 0.75) if part else same


def did_you_mean(word: str, known: Iterable[str], form: Callable[[str], str] = repr) -> str:
    """Returns ' Did you mean …?' for the nearest names, or an empty string when nothing is near.

    Args:
        word: what was given.
        known: what there is.
        form: how a name is written.
    """
    near = nearest(word, known)
    return f" Did you mean {' or '.join(map(form, near))}?" if near else ""


def listed(items: Iterable[object], most: int = 200, characters: int = 2000) -> str:
    """Returns the items joined by commas: all of them up to a bound, then the count of the rest.

    Args:
        items: what to list.
        most: how many at the most.
        characters: how long it may become; the first item is always there.

    Example:
        >>> listed(['a', 'b', 'c']), listed(['a', 'b', 'c'], most=2)
        ('a, b, c', 'a, b and 1 more')
    """
    words = [str(i) for i in items]
    lengths = itertools.accumulate(len(word) + 2 for word in words)
    fit = max(1, sum(length <= characters + 2 for length in lengths))
    kept = words[: min(most, fit)]
    rest = len(words) - len(kept)
    return ", ".join(kept) + (f" and {rest} more" if rest > 0 else "")


class _Short(reprlib.Repr):
    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, (bytes, bool, float, complex, type(None))):
            return str(super().repr_instance(x, level))
        if isinstance(x, os.PathLike):
            return repr(os.fspath(x))
        return f"<{_without_article(x)}>"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 8
_SHORT.maxlevel = 3


def shown(value: object) -> str:
    """Returns a value as a message shows it: short, whatever it is.

    Plain data is written out, cut where it is long; of an array the shape is told, of any other object its type.

    Example:
        >>> shown('photos'), shown(list(range(1000))), shown(object())
        ("'photos'", '[0, 1, 2, 3, 4, 5, 6, 7, ...]', 'an object of type object')
    """
    plain = (str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset, type(None), os.PathLike)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a number of NumPy or JAX
        return str(value)
    if not isinstance(value, plain) or hasattr(value, "_fields"):
        return f"an {_without_article(value)}"
    return _SHORT.repr(os.fspath(value) if isinstance(value, os.PathLike) else value)


def _without_article(value: object) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return f"array of shape {shape} and type {dtype}"
    return f"object of type {type(value).__name__}"
