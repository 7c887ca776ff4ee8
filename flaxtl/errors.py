"""The errors that a user can mend, each a sentence: what was found, what was expected, what to do.

The command line prints such an error without a traceback and exits with code 2; anything else that
escapes is a defect of flaxtl and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """Returns up to `count` of `known` that are spelled most like `word`, best first."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=0.4)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean …?' for the nearest names, or an empty string when nothing is near."""
    near = nearest(word, known)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def listed(items: Iterable[object], most: int = 8) -> str:
    """Returns the items joined by commas, cut after `most` with the count of the rest."""
    words = [str(i) for i in items]
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")
