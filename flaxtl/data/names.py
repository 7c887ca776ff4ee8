"""Names of classes and files as text: one Unicode form, no undecodable bytes, and what nearly looks the same."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence

from flaxtl.errors import listed


def canonical_name(name: str) -> str:
    """Returns the form in which two spellings of one name are equal: readable text in Unicode's composed form (NFC).

    macOS decomposes accented letters in file names (NFD), most other programs compose them. Bytes of a file name that
    are not in the locale's encoding are read as UTF-8, and where they are not UTF-8 either, written as `\\xNN`.
    Capital letters and spaces are kept: see `similar_names`.

    Example:
        >>> canonical_name('cafe\\N{COMBINING ACUTE ACCENT}') == 'caf\\N{LATIN SMALL LETTER E WITH ACUTE}'
        True
        >>> canonical_name('f\\udcfcnf')
        'f\\\\xfcnf'
    """
    return unicodedata.normalize("NFC", printable(name))


def printable(text: str) -> str:
    """Returns text that every program can write: undecodable bytes of file names become UTF-8 or `\\xNN`.

    Example:
        >>> printable('plain'), printable('f\\udcfcnf.png')
        ('plain', 'f\\\\xfcnf.png')
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        try:
            return os.fsencode(text).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # surrogates that stand for no byte
            return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns the groups of names that differ only in capital letters or in spaces around or within them.

    Example:
        >>> similar_names(['Cat', 'dog', 'cat ', 'bird'])
        [('Cat', 'cat ')]
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def similarity_notes(labels: Sequence[str]) -> list[str]:
    """Returns a sentence where classes have names that differ only in capital letters or spaces.

    Example:
        >>> similarity_notes(['Cat', 'cat'])[0][-43:]
        "apart. Merge them with classes=['Cat=cat']."
    """
    notes = []
    for group in similar_names(labels):
        merged = ",".join(f"{name}={group[-1]}" for name in group[:-1])
        notes.append(
            f"The classes {listed(map(repr, group))} differ only in capital letters or spaces; they are kept apart. "
            f"Merge them with classes=[{merged!r}]."
        )
    return notes
