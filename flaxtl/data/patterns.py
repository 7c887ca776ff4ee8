"""Patterns of paths: where the class or the group stands in a file's path."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from flaxtl.data.names import canonical_name
from flaxtl.errors import ConfigError, DataError, listed

HOLE = "{}"
_GROUP = "(?P<"
_WORDS = re.compile(r"(\{\}|\*|\?|#)")
_NUMBER = "(?<![0-9])[0-9]+(?![0-9])"


def is_pattern(text: str) -> bool:
    """Whether a setting is a pattern of paths rather than the name of a column.

    Example:
        >>> is_pattern('{}_*'), is_pattern('(?P<label>.+)_.*'), is_pattern('speaker')
        (True, True, False)
    """
    return HOLE in text or _GROUP in text


def from_paths(paths: Sequence[str], pattern: str, setting: str) -> tuple[str, ...]:
    """Reads a name off each path.

    Args:
        paths: of files.
        pattern: as many last parts of a path, with {} where the name stands, * for what does not matter, ? for one
            character, and # for a whole number; behind # or {} at the end of the pattern a file's ending may follow. Or
            a regular expression with one named group, (?P<label>…). Where {} or * can end in several places the first
            is meant; but if the paths differ in how many such places they have, and all end in a number, {} reaches
            up to that number.
        setting: which setting it is, for the message.

    Raises:
        DataError: a path that does not match, or paths of several shapes that can be read in more than one way.
        ConfigError: a pattern that has no {} or is no regular expression.

    Example:
        >>> from_paths(['fsdd/7_jackson_32.wav', 'fsdd/0_theo_1.wav'], '*_{}_*', '--group-by')
        ('jackson', 'theo')
        >>> from_paths(['scans/patient4/left.png'], '{}/*', '--group-by')
        ('patient4',)
        >>> from_paths(['great_pyrenees_12.jpg', 'beagle_1.jpg'], '{}_#', '--label-column')
        ('great_pyrenees', 'beagle')
        >>> from_paths(['great_pyrenees_12.jpg'], '(?P<label>.+)_[0-9]+[.]jpg', '--label-column')
        ('great_pyrenees',)
    """
    names, _ = _read(paths, pattern, setting)
    return tuple(map(canonical_name, names))


def ambiguity_notes(paths: Sequence[str], pattern: str, setting: str) -> list[str]:
    """Returns a sentence where a pattern fits paths in several ways, which says how `from_paths` reads them.

    Example:
        >>> ambiguity_notes(['7_ann_1.wav'], '{}_*', 'label_column')[0][:68]
        "label_column='{}_*' reads '7' in 7_ann_1.wav, where '7_ann' fits too"
        >>> ambiguity_notes(['7_ann_1.wav'], '{}_*_*', 'label_column')
        []
    """
    names, several = _read(paths, pattern, setting)
    if several is None:
        return []
    compiled = PathPattern.of(pattern, setting)
    others = [name for name in compiled.readings(paths[several]) if name != names[several]]
    return [
        f"{setting}={pattern!r} reads {names[several]!r} in {paths[several]}, where {listed(map(repr, others))} fits "
        f"too. {_advice(compiled, paths)}"
    ]


def _read(paths: Sequence[str], pattern: str, setting: str) -> tuple[list[str], int | None]:
    """Returns the name in each path, and the place of the first path that can be read in several ways."""
    compiled = PathPattern.of(pattern, setting)
    readings = [compiled.readings(path) for path in paths]
    odd = [path for path, names in zip(paths, readings, strict=True) if not names]
    if odd:
        raise DataError(f"{setting} {pattern!r} does not match {len(odd)} of {len(paths)} paths: {listed(odd, 3)}.")
    several = next((i for i, names in enumerate(readings) if len(names) > 1), None)
    if several is None or len({compiled.shape(path) for path in paths}) == 1:
        return [names[0] for names in readings], several
    numbered = _numbered(compiled, paths)
    if numbered is not None:
        return [numbered.readings(path)[0] for path in paths], several
    raise DataError(
        f"{setting} {pattern!r} can be read in several ways, and the paths differ in how often {compiled.signs} occurs "
        f"in them: {paths[several]} as {listed(map(repr, readings[several]))}. {_advice(compiled, paths)}"
    )


def _numbered(compiled: PathPattern, paths: Sequence[str]) -> PathPattern | None:
    """Returns the pattern with # for its last *, if it then reads every path in one way."""
    text = re.sub(r"\*$", "#", compiled.text)
    other = PathPattern.of(text, "") if text != compiled.text else None
    return other if other is not None and all(len(other.readings(path)) == 1 for path in paths) else None


def _advice(compiled: PathPattern, paths: Sequence[str]) -> str:
    """Says which patterns read each of the two ways."""
    first, last = (compiled.as_expression(greedy=greedy) for greedy in (False, True))
    numbered = _numbered(compiled, paths)
    last = last if numbered is None else numbered.text
    return f"Write '{first}' for up to the first place, or '{last}' for up to the last."


@dataclasses.dataclass(frozen=True)
class PathPattern:
    """A pattern, compiled to the expressions of all its readings.

    Attributes:
        text: as the user wrote it.
        expressions: the reading that is meant first.
        depth: how many last parts of a path it is of.
    """

    text: str
    expressions: tuple[re.Pattern[str], ...]
    depth: int

    @classmethod
    @functools.lru_cache(maxsize=64)
    def of(cls, pattern: str, setting: str) -> PathPattern:
        """Compiles a pattern; see `from_paths`."""
        text = pattern.strip("/")
        if _GROUP in text:
            return cls(text, (_regular(text, setting),), re.sub(r"\[[^]]*\]", "", text).count("/") + 1)
        if text.count(HOLE) != 1:
            raise ConfigError(
                f"{setting} is {pattern!r}; expected a column of a table, or for files a pattern with {{}} where the "
                "name stands, such as '*_{}_*.wav' for the middle of 7_jackson_32.wav."
            )
        readings = [_translated(text, *lazy) for lazy in itertools.product(("?", ""), repeat=2)]
        return cls(text, tuple(map(re.compile, readings)), len(PurePosixPath(text).parts))

    def _end(self, path: str) -> str:
        return "/".join(PurePosixPath(path).parts[-self.depth :])

    def readings(self, path: str) -> tuple[str, ...]:
        """Returns the names that the pattern can mean in a path, the one that is meant first; () if it does not fit."""
        found = [expression.fullmatch(self._end(path)) for expression in self.expressions]
        names = [next(iter(match.groupdict().values())) for match in found if match is not None]
        return tuple(dict.fromkeys(name for name in names if name))  # a group of an expression may match nothing

    def shape(self, path: str) -> tuple[int, ...]:
        """Returns how often each of the pattern's own signs occurs in the end of a path."""
        return tuple(self._end(path).count(sign) for sign in self._literals)

    @property
    def _literals(self) -> list[str]:
        return [word for word in _WORDS.split(self.text)[::2] if word.strip("/")]

    @property
    def signs(self) -> str:
        """The pattern's own signs, for messages."""
        return listed(map(repr, self._literals))

    def as_expression(self, *, greedy: bool) -> str:
        """Returns the regular expression of the shortest or the longest reading of the name."""
        return _translated(self.text, "?", "" if greedy else "?").replace("[^/]*?", "[^/]*")


def _translated(text: str, star: str, hole: str) -> str:
    """Returns a pattern as a regular expression; "?" makes a sign lazy."""
    ending = r"(?:\.[^./]+)?" if text.endswith("#") else ""
    if text.endswith(HOLE):  # a file's ending is no part of a name
        hole, ending = "?", r"(?:\.[A-Za-z0-9]{1,5})?"
    signs = {"*": f"[^/]*{star}", "?": "[^/]", "#": _NUMBER, HOLE: f"(?P<label>[^/]+{hole})"}
    return "".join(signs.get(word, _escaped(word)) for word in _WORDS.split(text)) + ending


def _escaped(text: str) -> str:
    """Returns a text as a regular expression without backslashes, which shells and messages would double."""
    return re.sub(
        r"[.^$+|()\[\]{}\\]", lambda found: f"[{found[0]}]" if found[0] not in "\\^[]" else f"\\{found[0]}", text
    )


def _regular(text: str, setting: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise ConfigError(f"{setting} {text!r} is no regular expression: {error}.") from error
    if len(compiled.groupindex) != 1:
        raise ConfigError(
            f"{setting} {text!r} has {len(compiled.groupindex)} named groups; expected one, such as (?P<label>...)."
        )
    return compiled
