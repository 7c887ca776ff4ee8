"""Names of classes and files as text: one Unicode form, no undecodable bytes, and what nearly looks the same."""

from __future__ import annotations

import os
import re
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


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8, whatever the locale takes its bytes for.

    Example:
        >>> is_utf8('plain'), is_utf8('f\\udcfcnf.png')
        (True, False)
    """
    try:
        os.fsencode(name).decode("utf-8")
    except UnicodeError:
        return False
    return True


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns the groups of names that differ only in how one name is written.

    That is in capital letters, in spaces, hyphens and underscores, in characters that cannot be seen, in the kind of a
    dash or quote, or in how a whole number is written.

    Example:
        >>> similar_names(['Cat', 'dog', 'cat ', 'bird']), similar_names(['new york', 'New_York', '1', '01', '-1'])
        ([('Cat', 'cat ')], [('new york', 'New_York'), ('1', '01')])
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(_likeness(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _likeness(name: str) -> str:
    """Returns what names that differ only in how they are written have in common."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    plain = re.sub("[’‘`´]", "'", re.sub("[‐‑‒–—−]", "-", seen)).casefold().strip()
    plain = " ".join(re.sub(r"(?<=\w)[-_](?=\w)", " ", plain.replace("_", " ")).split())
    return str(int(plain)) if re.fullmatch(r"[+-]?\d+", plain) and len(plain) < 19 else plain


def similarity_notes(labels: Sequence[str]) -> list[str]:
    """Returns a sentence where classes have names that differ only in how they are written; see `similar_names`.

    Example:
        >>> similarity_notes(['Cat', 'cat'])[0][-43:]
        "apart. Merge them with classes=['Cat=cat']."
    """
    notes = []
    for group in similar_names(labels):
        into = next((name for name in reversed(group) if name.isascii() and name == name.strip()), group[-1])
        merged = ",".join(f"{name}={into}" for name in group if name != into)
        cased = {" ".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in group}
        how = (
            "differ only in capital letters or spaces"
            if len(cased) == 1
            else "are one name or number written in several ways"
        )
        notes.append(
            f"The classes {listed(map(ascii if len(cased) > 1 else repr, group))} {how}; they are kept apart. "
            f"Merge them with classes=[{merged!r}]."
        )
    return notes
