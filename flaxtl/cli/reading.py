"""From the words of a command line to a command's settings; what cannot be understood becomes one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Sequence
from typing import Any

from flaxtl import config as configs
from flaxtl.cli.wording import option, options_of
from flaxtl.errors import ConfigError
from flaxtl.setting_names import choice_instead_of, instead_of

# Options that are no settings: tyro's own, and those that `main` and `settings` take out before tyro sees the words.
_ELSEWHERE = ("--help", "--config", "--debug", "--text-column")
_NUMBER = re.compile(r"-(\d|\.\d|inf|nan).*")


def settings(name: str, words: Sequence[str]) -> Any:
    """Reads a command's settings: defaults, then --config FILE, then the other arguments.

    Args:
        name: of the command.
        words: what follows it.

    Raises:
        ConfigError: an unknown option, a value that is none, or a file that cannot be read.
        SystemExit: of code 0, where help was asked for and printed.
    """
    kind = configs.COMMANDS[name]
    rest: list[str] = []
    default: Any = None
    coming = iter(words)
    for word in coming:
        given, equals, value = word.partition("=")
        if given != "--config":
            rest.append(word)
            continue
        file = value if equals else next(coming, "")
        if not file or default is not None:
            raise ConfigError("--config needs the name of one YAML file after it.")
        default = configs.load(kind, file)
    _require_known(name, kind, rest)
    return _parsed(name, kind, _with_pairs_apart(kind, rest), default)


def _with_pairs_apart(kind: type, words: Sequence[str]) -> list[str]:
    """Returns the words with NAME=NUMBER as two, where an option takes numbers by name."""
    hints = typing.get_type_hints(kind)
    sections: list[Any] = [hint for hint in hints.values() if dataclasses.is_dataclass(hint)]
    for section in sections:
        hints |= typing.get_type_hints(section)
    by_name = {option(n) for n, h in hints.items() if any(typing.get_origin(one) is dict for one in typing.get_args(h))}
    found: list[str] = []
    current = ""
    for word in words:
        if word.startswith("--"):
            current = word.partition("=")[0]
        pair = re.fullmatch(r"(.+)=([^=]+)", word) if current in by_name and not word.startswith("--") else None
        found += [word] if pair is None else [pair[1], pair[2]]
    return found


def _require_known(name: str, kind: type, words: Sequence[str]) -> None:
    """Refuses options that the command does not have, by the name that it has for what is meant."""
    known = options_of(kind)
    there = {option(setting) for setting in known}
    there |= {word.replace("--", "--no-", 1) for word in there}
    for word in words:
        if word == "--":
            return
        given = word.partition("=")[0].replace("_", "-")
        if not word.startswith("-") or word in ("-", "-h") or _NUMBER.fullmatch(word):
            continue
        if given in there or given in _ELSEWHERE or given.startswith("--tyro-"):
            continue
        setting = word.partition("=")[0].strip("-").replace("-", "_").rpartition(".")[2]
        meant = f" Did you mean {option(setting)}?" if setting in known else instead_of(setting, list(known), option)
        if meant.startswith(" There are"):
            meant = f" flaxtl {name} --help lists them all."
        if not word.startswith("--") and "Did you mean" not in meant:
            meant = f" A path that begins with a dash is written ./{word}, any other value as --option={word}."
        raise ConfigError(f"flaxtl {name} has no option {word.partition('=')[0]}.{meant}")


def _parsed(name: str, kind: type, words: list[str], default: Any) -> Any:
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return configs.parse(kind, words, program=f"flaxtl {name}", default=default)
    except SystemExit as ended:
        if not ended.code:
            raise
        raise ConfigError(_sentence(told.getvalue(), name)) from ended


_TYPES = {"INT": "a whole number", "FLOAT": "a number", "STR": "text", "{None}": "None"}


def _sentence(box: str, name: str) -> str:
    """Returns what tyro says in a box of several lines as one sentence."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    # A line of nothing but a rule divides; where the terminal has no box characters the title is a part of its own.
    parts = "\n".join("\0" if not line.strip("-─") or line[0] in "╭╰" else line for line in lines).split("\0")
    said = [" ".join(part.split()) for part in parts if part.strip()]
    text = said[0 if "│" in box else min(1, len(said) - 1)] if said else "The command line cannot be understood."
    help_ = f"See flaxtl {name} --help."
    if found := re.match(r"invalid choice (.*) for argument '(--\S+)'\. Expected one of \((.*?),?\)", text, re.I):
        value, choices = found[1].strip("'"), re.findall(r"'([^']*)'", found[3])
        near = choice_instead_of(value, choices)
        return f"{found[2]} is {value!r}; expected one of {', '.join(map(repr, choices))}.{near or ' ' + help_}"
    if found := re.match(
        r"Error parsing (\S+): no type matching .*STR FLOAT.* could be instantiated from (.*?)\.?$", text
    ):
        told = " ".join(re.findall(r"'([^']*)'", found[2]))
        allowed = ", ".join(re.findall(r"\{([^}]*)\}", text)[0].split(","))
        return f"{found[1]} is {told!r}; expected {allowed}, or numbers by name such as daisy=2 rose=0.5. {help_}"
    if found := re.match(r"Error parsing (\S+): no type matching (\S+) could be instantiated from \[(.*?)\]", text):
        wanted = [_TYPES.get(kind, kind.strip("{}")) for kind in re.findall(r"\{[^}]*\}|[^|]+", found[2])]
        return f"{found[1]} is {found[3]}; expected {' or '.join(wanted)}. {help_}"
    if found := re.match(r"Error parsing (\S+): (?:invalid literal for int.*10|could not convert.*float): (.*)", text):
        kind = _TYPES["INT" if "invalid literal" in text else "FLOAT"]
        return f"{found[1]} is {found[2].rstrip('.')}; expected {kind}. {help_}"
    if found := re.match(r"Missing value for argument '(--[^ ']+).*'\. Expected (\d+) values", text):
        lacks = "its value" if found[2] == "1" else f"a value; expected {found[2]}"
        return f"{found[1]} lacks {lacks}. {help_}"
    if found := re.match(r"Unrecognized (?:or misplaced )?options: (.*)", text):
        return (
            f"flaxtl {name} has no place for {found[1]!r}. Quote a path that holds spaces; options that only switch "
            f"something on take no value. {help_}"
        )
    return f"{text[:1000].rstrip('.')}. {help_}"
