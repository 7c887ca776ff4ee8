"""How fast training goes, how much of it is waiting for data, and what share of the devices' peak is made use of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class Meter:
    """Counts rows and time between two lines of metrics.

    Args:
        flops: floating-point operations of a step, on all devices together; None where they are not known.
        peak: of them a second that all devices can do at best; None where that is not known.

    Example:
        >>> meter = Meter()
        >>> for item in meter.watch(iter(['a', 'b'])):
        ...     meter.count(rows=4)
        >>> sorted(meter.line())
        ['data_wait', 'examples_per_second', 'step_seconds']
        >>> meter = Meter(flops=1e9, peak=1e12)
        >>> meter.count(rows=4)
        >>> line = meter.line()
        >>> round(line['flops_per_second'] / line['mfu'] / 1e12, 3)
        1.0
    """

    def __init__(self, flops: float | None = None, peak: float | None = None) -> None:
        self.steps = 0  # in all
        self._flops, self._peak = flops, peak
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
        """Returns the figures since the last line, and begins anew.

        "mfu" is the share of the peak that is made use of (model FLOPs utilization; Chowdhery et al. 2022, appendix B).
        """
        passed = max(time.perf_counter() - self._began, 1e-9)
        found = {
            "examples_per_second": round(self._rows / passed, 1),
            "step_seconds": round(passed / max(self._steps, 1), 5),
            "data_wait": round(min(self._waited / passed, 1.0), 3),
        }
        if self._flops:
            achieved = self._flops * self._steps / passed
            found["flops_per_second"] = float(f"{achieved:.6g}")
            if self._peak:
                found["mfu"] = float(f"{achieved / self._peak:.6g}")
        self.restart()
        return found
