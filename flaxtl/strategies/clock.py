"""How much time a search may take, and whether what is planned still fits."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import jax

from flaxtl import processes
from flaxtl.errors import ConfigError

T = TypeVar("T")
# What JAX calls the two parts of getting a program ready, whether XLA compiles it or it is read from the disk.
_COMPILING = ("/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class OutOfTimeError(Exception):
    """The time is up; what was being tried is given up, and what was found before it counts."""


def seconds_of(text: str) -> float:
    """Reads a duration.

    Args:
        text: such as "90s", "10m", "1.5h"; without a unit it is seconds.

    Raises:
        ConfigError: it is no duration above 0.

    Example:
        >>> seconds_of('10m'), seconds_of('1.5h'), seconds_of('90')
        (600.0, 5400.0, 90.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text)
    if found is None or found[2] not in _UNITS or float(found[1]) <= 0:
        raise ConfigError(f"`budget` is {text!r}; expected a time such as 90s, 10m or 1.5h.")
    return float(found[1]) * _UNITS[found[2]]


class Clock:
    """Counts down from a budget; None counts down from infinity.

    Of several processes that train together the one with the least time left decides, so that all decide alike.

    Example:
        >>> Clock(None).left
        inf
    """

    def __init__(self, budget: float | None) -> None:
        self.budget = float("inf") if budget is None else budget
        self._began = time.perf_counter()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    @property
    def left(self) -> float:
        """Seconds until the budget is spent; below 0 after that. All processes must ask together."""
        return float("inf") if self.budget == float("inf") else processes.least(self.budget - self.spent)

    def while_time(self, items: Iterable[T], reserve: float = 0.0) -> Iterator[T]:
        """Yields items until the time is up but for a reserve.

        Several processes do not ask each other for each item: what they have begun they finish.

        Raises:
            OutOfTimeError: it is.
        """
        alone = processes.count() == 1
        for item in items:
            if alone and self.left <= reserve:
                raise OutOfTimeError
            yield item


@contextmanager
def compiling() -> Iterator[Callable[[], float]]:
    """Yields a function that says for how many seconds programs have been compiled since the beginning.

    Example:
        >>> with compiling() as seconds:
        ...     _ = jax.jit(lambda x: x + 1)(1.0)
        >>> seconds() > 0
        True
    """
    total = 0.0

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        nonlocal total
        if event in _COMPILING:
            total += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: total
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
