"""Where the loop keeps its states when a run has no directory: in memory, with the interface of `checkpoint.RunCheckpoints`."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


class MemoryCheckpoints:
    """Keeps the latest and the best state of a run in memory."""

    def __init__(self) -> None:
        self._latest: tuple[int, Any, dict[str, Any]] | None = None
        self._best: tuple[float, int, Any, dict[str, Any]] | None = None

    def save(self, step: int, tree: Any, metadata: dict[str, Any], metric: float | None = None) -> None:
        """Keeps a copy of a state; the first of equally good ones stays the best."""
        copied = jax.tree.map(lambda a: np.array(a), tree)
        self._latest = (step, copied, metadata)
        if metric is not None and (self._best is None or metric > self._best[0]):
            self._best = (metric, step, copied, metadata)

    def best_step(self) -> int | None:
        """Returns the step of the best state, or None if no metric was given."""
        return None if self._best is None else self._best[1]

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Returns a kept state and its metadata."""
        for kept in (self._latest, self._best and self._best[1:]):
            if kept is not None and kept[0] == step:
                return kept[1], kept[2]
        raise KeyError(step)

    def restore_latest(self, like: Any) -> tuple[int, Any, dict[str, Any], tuple[str, ...]]:
        """Returns the latest state as `RunCheckpoints.restore_latest` does."""
        if self._latest is None:
            raise KeyError("no state was kept")
        return (*self._latest, ())

    def latest_metadata(self) -> dict[str, Any] | None:
        """Returns the metadata of the latest state, or None."""
        return None if self._latest is None else self._latest[2]

    def latest_step(self) -> int | None:
        """Returns the step of the latest state."""
        return None if self._latest is None else self._latest[0]
