"""The value of a setting compared with its type: converted where nothing is lost, else refused in a sentence."""

from __future__ import annotations

import contextlib
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from flaxtl.errors import ConfigError, listed, shown
from flaxtl.setting_names import choice_instead_of

T = TypeVar("T")


def require_type(value: Any, kind: type[T], name: str) -> T:
    """Returns a value that is of a type.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, kind):
        return value
    raise ConfigError(f"`{name}` is {shown(value)}; expected an object of type {kind.__name__}.")


def require_count(**settings: Any) -> None:
    """Refuses what is no whole number of at least 1.

    Raises:
        ConfigError: naming the setting, its value and what was expected.

    Example:
        >>> require_count(batch_size=0)
        Traceback (most recent call last):
        ...
        flaxtl.errors.ConfigError: `batch_size` is 0; expected a whole number of at least 1.
    """
    for name, value in settings.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"`{name}` is {shown(value)}; expected a whole number of at least 1.")


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}


def checked(value: Any, hint: Any, name: str) -> Any:
    """Returns a value as a setting keeps it.

    Args:
        value: of Python, of YAML or of NumPy.
        hint: the setting's type.
        name: of the setting, as the message writes it.

    Raises:
        ConfigError: the value is not of that type.

    Example:
        >>> checked('1e-3', float, '`learning_rate`'), checked([1, 2], tuple[float, float], '`zoom`')
        (0.001, (1.0, 2.0))
    """
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return checked(value, choices[0], name)
    if origin in (typing.Union, types.UnionType):
        return _one_of_types(value, choices, name)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ConfigError(
                f"{name} is {shown(value)}; expected one of {listed(map(repr, choices))}."
                f"{choice_instead_of(value, choices)}"
            )
        return value
    if origin is tuple:
        return _items(value, choices, name)
    if origin is dict or hint is dict:
        if isinstance(value, Mapping):
            return dict(value)
        raise ConfigError(f"{name} is {shown(value)}; expected settings of its own, by name.")
    return _plain(value, hint, name)


def _one_of_types(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    if value is None and type(None) in choices:
        return None
    kinds = [c for c in choices if c is not type(None)]
    if len(kinds) == 1:
        return checked(value, kinds[0], name)
    for kind in kinds:
        with contextlib.suppress(ConfigError):
            return checked(value, kind, name)
    named = [choice for kind in kinds if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
    words = [*map(repr, named), *(_described(kind) for kind in kinds if typing.get_origin(kind) is not Literal)]
    raise ConfigError(f"{name} is {shown(value)}; expected one of {listed(words)}.{choice_instead_of(value, named)}")


def _described(kind: Any) -> str:
    named = {dict: "values by name", tuple: "a list"}
    return _WORDS.get(kind) or named.get(typing.get_origin(kind), f"{getattr(kind, '__name__', kind)}")


def _items(value: Any, choices: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        example = f" such as [{value!r}]" if isinstance(value, str) and len(value) < 80 else ""
        raise ConfigError(f"{name} is {shown(value)}; expected a list{example}.")
    if len(choices) == 2 and choices[1] is Ellipsis:
        return tuple(checked(item, choices[0], f"An item of {name}") for item in value)
    if len(value) != len(choices):
        raise ConfigError(f"{name} is {shown(value)}; expected {len(choices)} values.")
    return tuple(checked(item, hint, f"An item of {name}") for item, hint in zip(value, choices, strict=True))


def _plain(value: Any, hint: Any, name: str) -> Any:
    truth = isinstance(value, bool) or type(value).__name__ == "bool"  # NumPy's is no int
    if hint is bool and truth:
        return bool(value)
    if hint is int and isinstance(value, numbers.Integral) and not truth:
        return int(value)
    if hint is float and isinstance(value, (numbers.Real, str)) and not truth:
        with contextlib.suppress(ValueError):
            return float(value)  # YAML reads 1e-3 as a string
    if hint is str and isinstance(value, str):
        return value
    if hint not in _WORDS:
        return value
    raise ConfigError(f"{name} is {shown(value)}; expected {_WORDS[hint]}.")
