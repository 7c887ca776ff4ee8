"""Where the states of a run are kept: on disk, for one process or several; or the best of them in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxtl import processes
from flaxtl.checkpoint import RunCheckpoints
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


class SharedCheckpoints(RunCheckpoints):
    """The states of a run of one or several processes: the first writes, all wait for it, and each reads for itself."""

    def __init__(self, directory: str | Path, keep: int = 2) -> None:
        if not processes.first():
            processes.together("the states, opened")
        super().__init__(directory, keep)
        if processes.first():
            processes.together("the states, opened")

    def save(self, step: int, tree: Any, metadata: Mapping[str, Any], metric: float | None = None) -> None:
        """Writes a state, which every process has whole; see `RunCheckpoints.save`."""
        if processes.first():
            super().save(step, tree, metadata, metric)
        processes.together("the states, saved")
