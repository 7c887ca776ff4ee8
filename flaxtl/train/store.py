"""Where a run without a directory keeps its best state: in memory, used as `checkpoint.RunCheckpoints` is."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from flaxtl.errors import CheckpointError


class MemoryCheckpoints:
    """Keeps the best state of a phase in memory; there is nothing to resume, so no other is needed.

    Example:
        >>> store = MemoryCheckpoints()
        >>> for step, metric in ((1, 0.5), (2, 0.9), (3, 0.9)):
        ...     store.save(step, {'w': np.full(1, step)}, {}, metric)
        >>> store.restore(2, None)[0]['w'].tolist()
        [2]
    """

    def __init__(self) -> None:
        self._best: tuple[float, int, Any, dict[str, Any]] | None = None

    def save(self, step: int, tree: Any, metadata: dict[str, Any], metric: float | None = None) -> None:
        """Keeps a copy of a state if it is the best so far; the first of equally good ones stays."""
        if metric is not None and (self._best is None or metric > self._best[0]):
            self._best = (metric, step, jax.tree.map(lambda a: np.array(a), tree), metadata)

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Returns the kept state and its metadata.

        Raises:
            CheckpointError: another step than the best is asked for.
        """
        if self._best is None or self._best[1] != step:
            raise CheckpointError(f"The state of step {step} was not kept; only the best one is.")
        return self._best[2], self._best[3]

    def close(self) -> None:
        """Does nothing; there is nothing to end."""
