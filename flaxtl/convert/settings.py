"""A source's settings against a closed list: each is read, has the one value that is computed, or cannot matter.

What a configuration says and nobody looks at is how converted weights come to answer other numbers than their source.
So a family does not pick keys from a configuration; it says of every key what becomes of it, and any other is refused
by name. A reader who knows better leaves a setting out by ``ignore_settings``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from flaxtl.errors import CheckpointError, listed, nearest


@dataclasses.dataclass(frozen=True)
class Setting:
    """What becomes of one setting of a source.

    Attributes:
        accepts: says whether a value is honoured.
        expected: the values that are, in words.
        reason: why the setting cannot change outputs; empty for one that can.
    """

    accepts: Callable[[Any], bool]
    expected: str = ""
    reason: str = ""


# Read by whoever asks for the settings, who refuses a value that it cannot honour.
READ = Setting(lambda _: True)


def only(*values: Any) -> Setting:
    """Returns the rule of a setting that may have these values alone; None (null) means that it is not set.

    Lists equal tuples.

    Example:
        >>> only('avg').accepts('max'), only((0, 1)).accepts([0, 1]), only('avg').accepts(None)
        (False, True, True)
    """
    allowed = [_plain(v) for v in values]
    return Setting(lambda v: v is None or _plain(v) in allowed, listed([repr(v) for v in values], 30))


def where(accepts: Callable[[Any], bool], expected: str) -> Setting:
    """Returns the rule of a setting whose values are accepted by a test; `expected` says which in words."""
    return Setting(accepts, expected)


def irrelevant(reason: str, *names: str) -> dict[str, Setting]:
    """Returns the rules of settings that cannot change what comes out, for one reason."""
    return {name: Setting(lambda _: True, reason=reason) for name in names}


def read_settings(
    found: Mapping[str, Any], understood: Mapping[str, Setting], *, source: str, ignore: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the settings that matter, after all were checked against a closed list.

    A setting that is not on the list is refused unless its value is null, which in every configuration means that it
    is not set.

    Args:
        found: the source's settings, as its file holds them.
        understood: what becomes of each.
        source: what holds them, for errors, such as "config.json" or "config.json, pretrained_cfg".
        ignore: names that are left out as if the source did not say them: as they are, or below the last part of
            `source` ("pretrained_cfg.crop_pct").

    Returns:
        The settings that can change outputs and are honoured; those that are irrelevant or ignored are left out, so
        that nothing but what `understood` lists can be read.

    Raises:
        CheckpointError: settings that are not on the list or have values that are not honoured; all are named.

    Example:
        >>> table = {'depth': READ, 'global_pool': only('avg'), **irrelevant('of training', 'drop_rate')}
        >>> read_settings({'depth': 12, 'drop_rate': 0.1}, table, source='config.json')
        {'depth': 12}
    """
    place = source.rpartition(", ")[2]
    kept = {k: v for k, v in found.items() if not {k, f"{place}.{k}"} & set(ignore)}
    problems = {key: told for key, value in kept.items() if (told := _problem(key, value, understood))}
    if problems:
        them, they_do = ("it", "it does") if len(problems) == 1 else ("them", "they do")
        names = ", ".join(map(repr, problems)) + ("," if len(problems) == 1 else "")
        raise CheckpointError(
            f"{source} says {'; '.join(problems.values())}. Loaded without {them}, the network could compute something "
            f"else than its source. If you know that {they_do} not matter, load or convert with "
            f"`ignore_settings=({names})`."
        )
    return {k: v for k, v in kept.items() if k in understood and not understood[k].reason}


def _problem(key: str, value: Any, understood: Mapping[str, Setting]) -> str:
    """Returns what is wrong with a setting, or nothing."""
    rule = understood.get(key)
    if rule is None:
        near = [n for n in nearest(key, understood, 1) if n != key]
        close = f" (the nearest known one is {near[0]!r})" if near else ""
        return "" if value is None else f"{key}={_short(value)}, a setting that flaxtl does not know{close}"
    return "" if rule.accepts(value) else f"{key}={_short(value)}, where flaxtl computes {rule.expected}"


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 80 else f"{told[:77]}…"


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value
