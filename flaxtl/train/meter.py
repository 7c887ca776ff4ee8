"""How fast training goes, and how much of the time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class Meter:
    """Counts rows and time between two lines of metrics.

    Example:
        >>> meter = Meter()
        >>> for item in meter.watch(iter(['a', 'b'])):
        ...     meter.count(rows=4)
        >>> sorted(meter.line())
        ['data_wait', 'examples_per_second', 'step_seconds']
    """

    def __init__(self) -> None:
        self.steps = 0  # in all
        self.restart()

    def restart(self) -> None:
        """Begins anew, so that what was done since does not count."""
        self._began, self._waited, self._rows, self._steps = time.perf_counter(), 0.0, 0, 0

    def watch(self, items: Iterator[T]) -> Iterator[T]:
        """Yields items and counts the time that they let the loop wait."""
        while True:
            before = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            self._waited += time.perf_counter() - before
            yield item

    def count(self, rows: int) -> None:
        """Counts a step of so many examples."""
        self._rows, self._steps, self.steps = self._rows + rows, self._steps + 1, self.steps + 1

    def line(self) -> dict[str, float]:
        """Returns the figures since the last line, and begins anew."""
        passed = max(time.perf_counter() - self._began, 1e-9)
        found = {
            "examples_per_second": round(self._rows / passed, 1),
            "step_seconds": round(passed / max(self._steps, 1), 5),
            "data_wait": round(min(self._waited / passed, 1.0), 3),
        }
        self.restart()
        return found
