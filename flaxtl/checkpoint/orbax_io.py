"""The one module that calls Orbax; everything else sees nested dicts of arrays and `CheckpointError`s."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from flaxtl import paths, processes
from flaxtl.checkpoint.aliases import plain
from flaxtl.checkpoint.files import NotWrittenError, set_aside
from flaxtl.errors import CheckpointError, FlaxtlError, listed
from flaxtl.places import expanded

Keys = tuple[str, ...]
T = TypeVar("T")
ITEM = "state"
_TREE_FILE = "_METADATA"
_CUSTOM_FILE = "_CHECKPOINT_METADATA"
_ITEMS = (ITEM, "default", "params", "pytree", "model", "items")
_STEP = re.compile(r"(?:.*_)?(\d+)")
# What Orbax, tensorstore and the file system raise for a checkpoint that is not as it should be. Orbax
# raises bare Exceptions for truncated data, so nothing narrower will do at this border.
_FAILURES = (Exception,)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax and tensorstore from telling in tracebacks what our sentence is about to say.

    After a failed read tensorstore's threads still report to the event loop that Orbax has closed by then;
    only that complaint is swallowed.
    """
    logger, level, hook = logging.getLogger("absl"), logging.getLogger("absl").level, sys.unraisablehook

    def unraisable(problem: sys.UnraisableHookArgs) -> None:
        if str(problem.exc_value) != "Event loop is closed":
            hook(problem)

    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = unraisable
    try:
        yield
    except BaseException:
        time.sleep(0.05)  # the stragglers' time
        raise
    finally:
        logger.setLevel(level)
        sys.unraisablehook = hook


def _alone() -> ocp.options.MultiprocessingOptions:
    """Has Orbax act in this process by itself: of several, one writes what all of them read (see `processes`)."""
    if processes.count() == 1:
        return ocp.options.MultiprocessingOptions()
    me = processes.index()
    return ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )


def _composite(**items: Any) -> ocp.CompositeCheckpointHandler:
    options = ocp.CompositeOptions(multiprocessing_options=_alone())
    return ocp.CompositeCheckpointHandler(composite_options=options, **items)


def _tree_handler(**settings: Any) -> ocp.PyTreeCheckpointHandler:
    return ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone(), **settings)


def find(directory: str | Path) -> tuple[Path, tuple[str, ...]]:
    """Returns the folder of the Orbax tree that a directory holds, and notes on how it was found.

    It is the directory itself, a flaxtl model's ``checkpoint``, a CheckpointManager's latest step, or an item
    of one of these.

    Raises:
        CheckpointError: the directory is missing, empty, or holds no Orbax tree.
    """
    root = Path(os.path.abspath(expanded(directory)))
    if not root.exists():
        raise CheckpointError(f"There is no checkpoint at {root}.{set_aside(root)}")
    if not root.is_dir():
        raise CheckpointError(f"{root} is a file; expected the directory of an Orbax checkpoint.")
    if not any(root.iterdir()):
        raise CheckpointError(f"The checkpoint directory {root} is empty.")
    for place, note in _places(root):
        item, beside = _item_of(place)
        if item is not None:
            notes = [note] if note else []
            if beside:
                notes.append(f"Beside the item {item.name!r} there lie {listed(beside)}, which are not read.")
            return item, tuple(notes)
    there = listed(sorted(d.name for d in root.iterdir()))
    raise CheckpointError(
        f"{root} is no Orbax checkpoint: there is no {_TREE_FILE} in it, in an item of it, or in its latest "
        f"step; it holds {there}. If a save or a copy was interrupted, use an earlier checkpoint."
    )


def _places(root: Path) -> Iterator[tuple[Path, str]]:
    yield root, ""
    yield root / "checkpoint", "It is a model directory of flaxtl."
    found = {d: _STEP.fullmatch(d.name) for d in root.iterdir() if d.is_dir()}
    steps = sorted((int(m.group(1)), d) for d, m in found.items() if m)
    if steps:
        yield steps[-1][1], f"Of {len(steps)} saved steps the latest, {steps[-1][1].name}, was taken."


def _item_of(place: Path) -> tuple[Path | None, list[str]]:
    """Returns the folder of a tree in a place, and the names of other trees beside it."""
    if (place / _TREE_FILE).is_file():
        return place, []
    items = [d.name for d in sorted(place.iterdir()) if (d / _TREE_FILE).is_file()] if place.is_dir() else []
    chosen = next((name for name in (*_ITEMS, *(items if len(items) == 1 else ())) if name in items), None)
    if chosen is None:
        return None, []
    return place / chosen, [name for name in items if name != chosen]


def metadata(item: Path) -> tuple[dict[Keys, jax.ShapeDtypeStruct], dict[str, Any], tuple[str, ...]]:
    """Returns (shape and dtype by keys, custom metadata, notes) without reading array bytes."""
    try:
        with _quiet(), plain(item) as place:
            found = _tree_handler().metadata(place)
            stored = paths.items(found.tree)
    except _FAILURES as error:
        raise damaged(item, error) from error
    leaves, odd = {}, []
    for keys, leaf in stored:
        shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
        if shape is None or dtype is None:
            odd.append(paths.join(keys))
        else:
            leaves[keys] = jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
    notes = (f"{listed(odd)} hold no array and are not read.",) if odd else ()
    return leaves, custom_metadata(item), notes


def custom_metadata(item: Path) -> dict[str, Any]:
    """Returns the user's metadata, which Orbax keeps beside the tree or, for an item, a folder higher."""
    custom: dict[str, Any] = {}
    for file in (item.parent / _CUSTOM_FILE, item / _CUSTOM_FILE):
        try:
            content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            custom = content.get("custom_metadata") or custom
        except (OSError, ValueError, AttributeError) as error:
            raise damaged(file, error) from error
    return custom


def read(item: Path, wanted: Mapping[Keys, jax.ShapeDtypeStruct]) -> dict[Keys, np.ndarray]:
    """Reads the named leaves, and no byte of any other, as NumPy arrays."""
    if not wanted:
        return {}
    like = paths.unflatten({k: np.empty(s.shape, s.dtype) for k, s in wanted.items()})
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
    try:
        with (
            _quiet(),
            plain(item) as place,
            ocp.Checkpointer(_tree_handler(), multiprocessing_options=_alone()) as checkpointer,
        ):
            tree = checkpointer.restore(
                place, args=ocp.args.PyTreeRestore(item=like, restore_args=arguments, partial_restore=True)
            )
    except MemoryError:
        raise
    except _FAILURES as error:
        raise damaged(item, error) from error
    return {keys: np.asarray(value) for keys, value in paths.items(tree)}


def read_singly(item: Path, leaves: Iterable[Keys], take: Callable[[np.ndarray], T]) -> Iterator[tuple[Keys, T]]:
    """Reads leaves that this module wrote one after the other, and yields what is taken of each.

    Only what is taken outlives a leaf, so that memory holds about two copies of one.

    Orbax reads all that it is asked for at once, in several threads, each of which keeps memory for the next time;
    tensorstore, on which it stands, reads the same files in one.
    """
    alone = tensorstore.Context({"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}})
    with plain(item) as place:
        for keys in leaves:
            base = {"driver": "file", "path": f"{place}/"}
            store = {"driver": "ocdbt", "base": base, "path": ".".join(keys)}
            try:
                opened = tensorstore.open({"driver": "zarr", "kvstore": store}, context=alone, open=True, read=True)
                array = np.asarray(opened.result().read().result())
            except _FAILURES as error:
                raise damaged(item, error) from error
            taken = take(array)
            del array, opened  # before the next is read
            yield keys, taken


def write(directory: Path, arrays: Mapping[Keys, np.ndarray], custom: Mapping[str, Any]) -> None:
    """Writes arrays as the item 'state' of a checkpoint directory that does not exist yet."""
    try:
        handler = _composite(**{ITEM: _tree_handler()})
        with (
            _quiet(),
            plain(directory.parent) as parent,
            ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer,
        ):
            place = parent / directory.name
            checkpointer.save(place, args=_arguments(arrays), custom_metadata=dict(custom))
    except _FAILURES as error:
        raise NotWrittenError(directory, _first_line(error)) from error


# Leaves that are made as they are written go in batches of about so many bytes, as each batch costs a thread.
_BATCH = 8 << 20
# Their chunks and files: what is not in a file yet tensorstore holds in memory, in blocks which the C library keeps
# for later where they are smaller than this.
_CHUNK = 32 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Lazy:
    """A leaf that is made when it is written, and forgotten then.

    Attributes:
        shape: of the array.
        dtype: of the array.
        make: returns the array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    make: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return self.size * self.dtype.itemsize


class _LazyHandler(ocp.type_handlers.NumpyHandler):
    """Writes lazy leaves as NumPy arrays; those in memory are together no larger than the largest one, or two batches.

    Args:
        done: called when all leaves have been made.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        super().__init__(deepcopy_host_arrays=False)
        self._done = done

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> Any:
        most, writing = max(2 * _BATCH, *(v.nbytes for v in values)), collections.deque[tuple[int, Any]]()
        for batch in _batches(list(zip(values, infos, strict=True))):
            size = sum(value.nbytes for value, _ in batch)
            while writing and sum(n for n, _ in writing) + size > most:
                writing.popleft()[1].result()
            arrays = [value.make() for value, _ in batch]
            arguments = [ocp.SaveArgs(chunk_byte_size=_CHUNK)] * len(batch)
            started = await super().serialize(arrays, [info for _, info in batch], arguments)
            del arrays  # which the writing holds as long as it needs them
            writing += [(size, future) for future in started]
        for _, future in writing:
            future.result()
        self._done()
        return []


def _batches(leaves: Sequence[tuple[Lazy, Any]]) -> Iterator[list[tuple[Lazy, Any]]]:
    """Yields leaves in order, as many at a time as a batch holds, but one at least."""
    batch: list[tuple[Lazy, Any]] = []
    for leaf in leaves:
        if batch and sum(value.nbytes for value, _ in batch) + leaf[0].nbytes > _BATCH:
            yield batch
            batch = []
        batch.append(leaf)
    yield batch


def write_lazily(directory: Path, leaves: Mapping[Keys, Lazy], custom: Callable[[], Mapping[str, Any]]) -> None:
    """Writes leaves as `write` does, each made only when its turn comes.

    Args:
        directory: does not exist yet.
        leaves: by keys.
        custom: returns the metadata; called when all leaves have been made, so that it can hold their checksums.
    """
    told: dict[str, Any] = {}
    registry = ocp.type_handlers.create_type_handler_registry((Lazy, _LazyHandler(lambda: told.update(custom()))))
    try:
        with _quiet(), plain(directory.parent) as parent:
            # Random-looking numbers shrink by some 7 %, for twice the time.
            inner = _tree_handler(type_handler_registry=registry, use_compression=False)
            handler = _composite(**{ITEM: inner})
            tree = ocp.args.PyTreeSave(paths.unflatten(leaves), ocdbt_target_data_file_size=_CHUNK)
            with ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer:
                place = parent / directory.name
                checkpointer.save(place, args=ocp.args.Composite(**{ITEM: tree}), custom_metadata=told)
    except FlaxtlError:  # of a leaf that could not be made
        raise
    except _FAILURES as error:
        raise NotWrittenError(directory, _first_line(error)) from error
    if custom_metadata(directory / ITEM) != told:
        raise NotWrittenError(directory, "this version of Orbax keeps the metadata before it has the arrays")


def _arguments(arrays: Mapping[Keys, np.ndarray]) -> Any:
    return ocp.args.Composite(**{ITEM: ocp.args.PyTreeSave(paths.unflatten(arrays))})


def damaged(place: Path, error: Exception) -> CheckpointError:
    """Returns the error for something that Orbax could not read."""
    return CheckpointError(
        f"The checkpoint {place} is damaged or incomplete: {_first_line(error)}. Use an earlier one, or fetch it again."
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(".:")


class Manager:
    """Orbax's CheckpointManager over the states of a run.

    Orbax's own policies forget the metrics of states that another process wrote, and with them the best, so
    `preserved` decides from what lies in the states themselves.

    Args:
        directory: where.
        preserved: function(all steps) → the steps to keep.
    """

    def __init__(self, directory: Path, preserved: Callable[[list[int]], set[int]]) -> None:
        self.directory = Path(os.path.abspath(expanded(directory)))
        self._swept = False
        self._open = contextlib.ExitStack()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if processes.first():
                self._recover()
            options = ocp.CheckpointManagerOptions(
                preservation_policy=_Policy(preserved),
                enable_async_checkpointing=False,
                create=False,
                multiprocessing_options=_alone(),
            )
            place = self._open.enter_context(plain(self.directory))
            with _quiet():
                self._manager = ocp.CheckpointManager(place, options=options, item_handlers={ITEM: _tree_handler()})
        except _FAILURES as error:
            self._open.close()
            raise CheckpointError(
                f"The states of the run in {self.directory} cannot be opened: {_first_line(error)}. "
                "Choose another directory, or mend this one."
            ) from error

    def _recover(self) -> None:
        """Puts back a state whose replacement was interrupted."""
        for aside in self.directory.glob("*.replaced"):
            place = aside.with_suffix("")
            if not place.exists():
                os.rename(aside, place)

    def _sweep(self) -> None:
        """Deletes what killed saves left; a process that only reads may not, for a save may be going on."""
        for left in [*self.directory.glob("*.orbax-checkpoint-tmp*"), *self.directory.glob("*.replaced")]:
            shutil.rmtree(left, ignore_errors=True)
        self._swept = True

    def steps(self) -> list[int]:
        """Returns the kept steps in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, arrays: Mapping[Keys, np.ndarray], custom: Mapping[str, Any]) -> None:
        """Writes a state, which shows only when it is complete; one of the same step is replaced."""
        if not self._swept:
            self._sweep()
        place, aside = self.item(step).parent, self.directory / f"{step}.replaced"
        try:
            with _quiet():
                if place.exists():
                    os.rename(place, aside)
                    self._manager.reload()
                self._manager.save(step, args=_arguments(arrays), custom_metadata=dict(custom), force=True)
                self._manager.wait_until_finished()
        except _FAILURES as error:
            self._undo(step, place, aside)
            raise CheckpointError(
                f"The state of step {step} could not be saved in {self.directory}: {_first_line(error)}. "
                "Earlier states are whole. Free some space and go on from them."
            ) from error
        shutil.rmtree(aside, ignore_errors=True)

    def _undo(self, step: int, place: Path, aside: Path) -> None:
        """Takes away what a failed save left and brings back what it was to replace."""
        for left in self.directory.glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(left, ignore_errors=True)
        if aside.exists() and not place.exists():
            os.rename(aside, place)
        with _quiet():
            self._manager.reload()

    def item(self, step: int) -> Path:
        """Returns the folder of a step's tree."""
        return self.directory / str(step) / ITEM

    def delete(self, step: int) -> None:
        """Deletes a state."""
        with _quiet():
            self._manager.delete(step)

    def close(self) -> None:
        """Ends Orbax's threads."""
        self._manager.close()
        self._open.close()


class _Policy(ocp.checkpoint_managers.PreservationPolicy):
    """Hands Orbax's question, which states to keep, to a function of their steps."""

    def __init__(self, preserved: Callable[[list[int]], set[int]]) -> None:
        self._preserved = preserved

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = self._preserved([c.step for c in checkpoints])
        return [c.step in kept for c in checkpoints]
