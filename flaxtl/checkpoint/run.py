"""The states of a training run: the latest few and the best, each leaf with its checksum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from flaxtl import paths
from flaxtl.checkpoint import orbax_io
from flaxtl.checkpoint.digest import Keys, Record, is_random_key, pack, struct_of
from flaxtl.checkpoint.store import read_keys
from flaxtl.errors import CheckpointError, listed


class RunCheckpoints:
    """Keeps a run's states through Orbax's CheckpointManager; one process at a time.

    On disk a state is a plain nested dict, so that it can be read without the classes that made it; its
    structure comes back from the `like` that `restore` is given.

    Args:
        directory: where; it is made if it is not there.
        keep: how many of the latest are kept; the best is kept besides.

    Raises:
        CheckpointError: the directory cannot be made or opened.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> store = RunCheckpoints(tempfile.mkdtemp())
        >>> store.save(10, {'w': np.ones(2)}, {'epoch': 1}, metric=0.5)
        >>> step, tree, metadata, notes = store.restore_latest({'w': np.zeros(2)})
        >>> step, tree['w'].tolist(), metadata, notes
        (10, [1.0, 1.0], {'epoch': 1}, ())
    """

    def __init__(self, directory: str | Path, keep: int = 2) -> None:
        if keep < 1:
            raise CheckpointError(f"A run cannot keep {keep} states; keep at least 1.")
        self._keep = keep
        self._damaged: set[int] = set()
        self._saving: dict[int, Record] = {}
        self._verified: set[int] = set()
        self._manager = orbax_io.Manager(Path(directory), self._preserved)

    def save(self, step: int, tree: Any, metadata: Mapping[str, Any], metric: float | None = None) -> None:
        """Writes a state; one already there for this step is replaced once the new one is whole.

        When it returns, the state is on disk. States found damaged by `restore_latest` are then deleted.

        Args:
            step: a number that rises through the whole run.
            tree: any pytree of arrays, numbers and PRNG keys.
            metadata: plain data for JSON.
            metric: larger is better; the first of equally good states counts as the best. NaN is no metric.

        Raises:
            CheckpointError: it could not be written; earlier states are whole.
        """
        number = None if metric is None or math.isnan(metric) else float(metric)
        arrays, record = pack(tree, "state", metadata, number)
        self._damaged.discard(step)
        self._verified.discard(step)
        custom = record.to_custom()
        self._saving = {int(step): record}
        try:
            self._manager.save(int(step), arrays, custom)
        finally:
            self._saving = {}

    def _preserved(self, steps: list[int]) -> set[int]:
        """Returns the steps to keep: the latest, the best, and what is there but not understood."""
        records = {step: self._record_or_none(step) for step in steps if step not in self._damaged}
        good = {step: record for step, record in records.items() if record is not None}
        best = _best(good)
        return set(sorted(good)[-self._keep :]) | (set() if best is None else {best}) | (set(records) - set(good))

    def steps(self) -> list[int]:
        """Returns the kept steps in order."""
        return self._manager.steps()

    def latest_step(self) -> int | None:
        """Returns the latest kept step, or None."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Returns the step of the best state, or None if none has a metric; unreadable ones do not count."""
        records = {step: self._record_or_none(step) for step in self.steps() if step not in self._damaged}
        return _best({step: record for step, record in records.items() if record is not None})

    def metadata_of(self, step: int) -> dict[str, Any]:
        """Returns what was saved with a state.

        Raises:
            CheckpointError: there is no such state, or its metadata is damaged.
        """
        return self._record(step).metadata

    def latest_metadata(self) -> dict[str, Any] | None:
        """Returns the metadata of the state that `restore_latest` would take, or None if there are no states.

        Raises:
            CheckpointError: there are states and every one is damaged.
        """
        if not self.steps():
            return None
        return self.metadata_of(self._latest_good()[0])

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Reads a state, verified to the bit.

        Args:
            step: which.
            like: a tree of its structure, shapes and dtypes: arrays or `jax.ShapeDtypeStruct`s.

        Returns:
            (a tree of like's structure with NumPy arrays, and typed PRNG keys where like has them; metadata).

        Raises:
            CheckpointError: there is no such state, it is damaged, or it does not fit `like`.
        """
        record, found = self._open(step)
        wanted = {keys: struct_of(value) for keys, value in paths.items(like)}
        _require_fit(self._manager.item(step), wanted, found)
        values = read_keys(self._manager.item(step), record, wanted)
        self._verified.add(step)
        leaves = [values[keys] for keys, _ in paths.items(like)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), record.metadata

    def restore_latest(self, like: Any) -> tuple[int, Any, dict[str, Any], tuple[str, ...]]:
        """Reads the latest state that is whole; damaged ones are passed over and named.

        Returns:
            (step, tree, metadata, a note on each state that was passed over).

        Raises:
            CheckpointError: there is none, none is whole, or the state does not fit `like`.
        """
        step, notes = self._latest_good()
        return (step, *self.restore(step, like), notes)

    def _latest_good(self) -> tuple[int, tuple[str, ...]]:
        """Returns the latest whole state's step and a note on each newer, damaged one."""
        notes: list[str] = []
        for step in reversed(self.steps()):
            try:
                if step not in self._verified:
                    record, found = self._open(step)
                    read_keys(self._manager.item(step), record, found)
                self._verified.add(step)
                return step, tuple(notes)
            except CheckpointError as error:
                self._damaged.add(step)
                notes.append(f"Step {step} was passed over. {error}")
        if notes:
            raise CheckpointError("\n".join([f"None of the states in {self._manager.directory} is whole.", *notes]))
        raise CheckpointError(f"There are no states in {self._manager.directory}; the run has saved none yet.")

    def _record(self, step: int) -> Record:
        item = self._manager.item(step)
        if not item.parent.is_dir():
            raise CheckpointError(
                f"There is no state of step {step} in {self._manager.directory}; "
                f"there are {listed(self.steps()) or 'none'}."
            )
        record = Record.from_custom(orbax_io.custom_metadata(item), item)
        if record.kind != "state":
            raise CheckpointError(f"{item.parent} is incomplete or was not saved by a run of flaxtl.")
        return record

    def _record_or_none(self, step: int) -> Record | None:
        if step in self._saving:
            return self._saving[step]
        try:
            return self._record(step)
        except CheckpointError:
            return None

    def _open(self, step: int) -> tuple[Record, dict[Keys, jax.ShapeDtypeStruct]]:
        """Returns a state's record and the shape and dtype of its leaves."""
        record, item = self._record(step), self._manager.item(step)
        found = record.structs(orbax_io.metadata(item)[0])
        if {paths.join(keys) for keys in found} != set(record.sha256):
            raise CheckpointError(
                f"The state {item} is damaged: its leaves are not those whose checksums were saved with it."
            )
        return record, found

    def close(self) -> None:
        """Ends Orbax's threads; the states stay."""
        self._manager.close()


def _best(records: Mapping[int, Record]) -> int | None:
    """Returns the step of the largest metric, the first of equals."""
    metrics = {step: r.metric for step, r in records.items() if r.metric is not None}
    return max(metrics, key=lambda s: (metrics[s], -s), default=None)


def _require_fit(
    item: Path, wanted: Mapping[Keys, jax.ShapeDtypeStruct], found: Mapping[Keys, jax.ShapeDtypeStruct]
) -> None:
    missing = [paths.join(k) for k in wanted if k not in found]
    over = [paths.join(k) for k in found if k not in wanted]
    different = [
        f"{paths.join(k)} is {_shown(found[k])} and not {_shown(s)}"
        for k, s in wanted.items()
        if k in found and not _same(found[k], s)
    ]
    if missing or over or different:
        raise CheckpointError(
            f"The state {item} does not fit this run. It lacks {listed(missing, 40) or 'nothing'}; "
            f"it has left over {listed(over, 40) or 'nothing'}; "
            f"different are {listed(different, 40) or 'none'}. "
            "Resume with the settings that the run was started with, or start a new run."
        )


def _same(a: jax.ShapeDtypeStruct, b: jax.ShapeDtypeStruct) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and is_random_key(a) == is_random_key(b)


def _shown(struct: jax.ShapeDtypeStruct) -> str:
    return f"{struct.dtype.name}{list(struct.shape)}"
