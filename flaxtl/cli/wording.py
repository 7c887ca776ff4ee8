"""Messages as the command line says them: settings by their options."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import shlex
import typing
from typing import Any

from flaxtl import config as configs

# What a message says for readers of Python alone.
_SAID_TWICE = re.compile(r" \(--[^()]* on the command line\)")
_MARKED = re.compile(r"`([^`\n]+)`")


def option(name: str) -> str:
    """Returns the option of a setting.

    Example:
        >>> option('batch_size'), option('pretrained')
        ('--batch-size', '--from')
    """
    return f"--{options().get(name, name).replace('_', '-')}"


@functools.cache
def options() -> dict[str, str]:
    """Returns the names of the options of all commands by the names of their settings."""
    found: dict[str, str] = {}
    for kind in configs.COMMANDS.values():
        found |= options_of(kind)
    return found


def options_of(kind: type) -> dict[str, str]:
    """Returns the names of the options of one command by the names of its settings; positional ones have none."""
    found: dict[str, str] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            found |= options_of(hint)
            continue
        if typing.get_origin(hint) is dict:  # from a file alone
            continue
        marks = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
        if not any("Positional" in repr(mark) for mark in marks):
            found[name] = next((mark.name for mark in marks if getattr(mark, "name", None)), name)
    return found


def as_options(text: str) -> str:
    """Returns a message with the settings that stand in backticks written as options.

    Example:
        >>> as_options("`batch_size` is 0. Set `strategy='full'` or `resume=True`.")
        '--batch-size is 0. Set --strategy full or --resume.'
    """
    return _MARKED.sub(lambda found: _spelt(found[1]) or found[0], _SAID_TWICE.sub("", text))


def _spelt(marked: str) -> str | None:
    """Returns `name` or `name=value, …` as options; None if it is anything else."""
    if marked in options():
        return option(marked)
    try:
        call = ast.parse(f"_({marked})", mode="eval").body
        assert isinstance(call, ast.Call)
        given = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        return None
    if call.args or not given or not given.keys() <= options().keys():
        return None
    return " ".join(_with_value(name, value) for name, value in given.items())


def _with_value(name: str, value: Any) -> str:
    if value is True:
        return option(name)
    if value is False:
        return option(name).replace("--", "--no-", 1)
    values = value if isinstance(value, (list, tuple)) else [value]
    return " ".join([option(name), *(shlex.quote(str(one)) for one in values)])
