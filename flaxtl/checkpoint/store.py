"""Saving a tree with a checksum a leaf, describing a checkpoint, and reading leaves verified."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxtl import paths
from flaxtl.checkpoint import orbax_io
from flaxtl.checkpoint.digest import Keys, Record, digest, nbytes, pack
from flaxtl.checkpoint.files import NotWrittenError, new_directory
from flaxtl.checkpoint.layout import Layout, as_saved, understand
from flaxtl.errors import CheckpointError, listed
from flaxtl.paths import Leaf
from flaxtl.places import expanded


@dataclasses.dataclass(frozen=True)
class Description:
    """What a checkpoint holds; no array was read for it. Print it.

    Attributes:
        item: the Orbax folder.
        leaves: shape and dtype by place.
        checksums: SHA-256 by place; empty where none was saved.
        metadata: what was saved with it.
        notes: what was made of its layout, one sentence each.
        layout: where each leaf is on disk.
        record: what flaxtl wrote beside the arrays.
    """

    item: Path
    leaves: dict[Leaf, jax.ShapeDtypeStruct]
    checksums: dict[Leaf, str]
    metadata: dict[str, Any]
    notes: tuple[str, ...]
    layout: Layout = dataclasses.field(repr=False)
    record: Record = dataclasses.field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(nbytes(s) for s in self.leaves.values())

    def __str__(self) -> str:
        rows = [
            (
                leaf.name,
                str(s.shape),
                s.dtype.name,
                f"{nbytes(s):,}",
                self.checksums.get(leaf, "no checksum")[:12],
            )
            for leaf, s in self.leaves.items()
        ]
        known = f"{len(self.checksums)} with a checksum"
        total = f"{len(rows)} leaves, {self.nbytes:,} bytes, {known}: {self.item}"
        return "\n".join([*self.notes, *table([("leaf", "shape", "dtype", "bytes", "sha256"), *rows]), total])


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Returns rows of text as lines with aligned columns.

    Example:
        >>> table([('a', 'bb'), ('ccc', 'd')])
        ['a    bb', 'ccc  d']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def save(
    directory: str | Path, tree: Any, *, metadata: Mapping[str, Any] | None = None, overwrite: bool = False
) -> None:
    """Writes a tree as an Orbax checkpoint with a SHA-256 a leaf.

    It is written beside its place, read back, compared with its checksums, and renamed, so that an interrupted or
    failed save leaves what was there. The tree is the item 'state', which any Orbax program reads:
    `StandardCheckpointer().restore(directory / "state")`. The checksums are custom metadata beside it.

    Args:
        directory: the place.
        tree: nested dicts (or any pytree; its keys become the names) of arrays, numbers and PRNG keys. Empty
            dicts and None have no leaves and leave no trace.
        metadata: plain data to keep with it.
        overwrite: whether an earlier checkpoint may be replaced.

    Raises:
        CheckpointError: the place is taken, writing failed, or the tree cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> place = Path(tempfile.mkdtemp()) / 'numbers'
        >>> save(place, {'head': {'bias': np.arange(3)}}, metadata={'epochs': 2})
        >>> load(place)['head']['bias'], describe(place).metadata
        (array([0, 1, 2]), {'epochs': 2})
    """
    arrays, record = pack(tree, "tree", metadata or {})
    custom = record.to_custom()
    with new_directory(expanded(directory), overwrite=overwrite) as folder:
        _write_into(folder, lambda whole: orbax_io.write(whole, arrays, custom))
        _require_readable(folder)


def save_lazily(
    directory: str | Path,
    structs: Mapping[Leaf, jax.ShapeDtypeStruct],
    make: Callable[[Leaf], np.ndarray],
    *,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes leaves as `save` does, each made when its turn comes: memory holds about twice the largest one.

    Args:
        directory: the place.
        structs: shape and dtype by place; at least one has numbers in it.
        make: place → array of that shape and dtype; called once each.
        metadata: plain data to keep with it.
        overwrite: whether an earlier checkpoint may be replaced.

    Raises:
        CheckpointError: the place is taken, writing failed, or what `make` raised.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> place = Path(tempfile.mkdtemp()) / 'numbers'
        >>> save_lazily(place, {Leaf('params', ('w',)): jax.ShapeDtypeStruct((2,), 'float32')},
        ...             lambda leaf: np.ones(2, np.float32))
        >>> load(place)
        {'params': {'w': array([1., 1.], dtype=float32)}}
    """
    record = Record("tree", dict(metadata or {}))

    def made(leaf: Leaf) -> np.ndarray:
        array = make(leaf)
        record.sha256[paths.join((leaf.collection, *leaf.keys))] = digest(array)
        return array

    lazy: dict[Keys, orbax_io.Lazy] = {}
    for leaf, struct in structs.items():
        keys = (leaf.collection, *leaf.keys)
        if nbytes(struct):
            lazy[keys] = orbax_io.Lazy(struct.shape, np.dtype(struct.dtype), functools.partial(made, leaf))
        else:
            record.empty[paths.join(keys)] = (struct.shape, np.dtype(struct.dtype).name)
            made(leaf)
    with new_directory(expanded(directory), overwrite=overwrite) as folder:
        _write_into(folder, lambda whole: orbax_io.write_lazily(whole, lazy, record.to_custom))
        _require_readable(folder)


def _write_into(folder: Path, write: Callable[[Path], None]) -> None:
    """Has Orbax, which wants to make its directory itself, write what a directory shall hold."""
    whole = folder / "whole"
    write(whole)
    for part in list(whole.iterdir()):
        os.rename(part, folder / part.name)
    whole.rmdir()


def _require_readable(folder: Path) -> None:
    """Reads back what has just been written and compares it with its checksums, before it is said to be saved.

    Raises:
        NotWrittenError: it cannot be read, or has become something else.
    """
    try:
        found = describe(folder)
        sums, kept = found.record.sha256, [keys for keys, _ in found.layout.leaves.values()]
        stored = [keys for keys in kept if paths.join(keys) not in found.record.empty]
        read = orbax_io.read_singly(found.item, stored, digest)
        _refuse_damaged(found.item, [paths.join(k) for k, found_sum in read if found_sum != sums[paths.join(k)]])
    except CheckpointError as error:
        reason = str(error).replace(f"{folder}/", "").rstrip(".")
        raise NotWrittenError(folder, f"what was written cannot be read back ({reason})") from error


def describe(directory: str | Path) -> Description:
    """Tells what a checkpoint holds without reading its arrays.

    Args:
        directory: a flaxtl model directory or any Orbax checkpoint (a CheckpointManager's: its latest step).

    Raises:
        CheckpointError: there is none, or its metadata is damaged.
    """
    item, where = orbax_io.find(directory)
    stored, custom, odd = orbax_io.metadata(item)
    record = Record.from_custom(custom, item)
    found = record.structs(stored)
    if record.kind != "plain" and {paths.join(keys) for keys in found} != set(record.sha256):
        raise CheckpointError(
            f"The checkpoint {item} is damaged: its leaves are not those whose checksums were saved with it. "
            "Use an earlier one, or fetch it again."
        )
    layout = as_saved(found) if record.kind == "tree" else understand(found)
    if not layout.leaves:
        raise CheckpointError(f"The checkpoint {item} holds no arrays. Save one that has parameters.")
    sums = {
        leaf: record.sha256[paths.join(keys)] for leaf, (keys, _) in layout.leaves.items() if record.kind != "plain"
    }
    leaves = {leaf: struct for leaf, (_, struct) in layout.leaves.items()}
    return Description(item, leaves, sums, record.metadata, (*where, *odd, *layout.notes), layout, record)


def load(directory: str | Path, *, keep: str | Iterable[str] | None = None) -> dict[str, Any]:
    """Reads a checkpoint as nested dicts of NumPy arrays, verified; only what patterns match if any is given.

    Args:
        directory: a flaxtl model directory or any Orbax checkpoint.
        keep: a pattern such as "backbone/**", or several; the bytes of other leaves are not read.

    Returns:
        The tree that `save` was given; of another program's checkpoint the variables dict, or the parameters
        where they lie bare.

    Raises:
        CheckpointError: missing or damaged; or a pattern matches nothing.
    """
    found = describe(directory)
    chosen = list(found.leaves)
    if keep is not None:
        patterns = [keep] if isinstance(keep, str) else list(keep)
        require_matches(patterns, chosen, f"of {found.item}")
        chosen = [leaf for leaf in chosen if any(paths.matches(p, leaf) for p in patterns)]
    values, _ = read_verified(found, chosen)
    return paths.unflatten({found.layout.keys(leaf): value for leaf, value in values.items()})


def require_matches(patterns: Iterable[str], leaves: Iterable[Leaf], what: str) -> None:
    """Refuses patterns that match none of the leaves, naming the nearest real ones.

    Raises:
        CheckpointError: one of them matches nothing.
    """
    places = list(leaves)
    for pattern in patterns:
        if not any(paths.matches(pattern, leaf) for leaf in places):
            near = paths.suggestion(pattern, places)
            raise CheckpointError(f"The pattern {pattern!r} matches none of the {len(places)} leaves {what}.{near}")


def nodes(leaves: Iterable[Leaf]) -> set[str]:
    """Returns the paths of leaves and of all the folders that they are in."""
    return {paths.join(leaf.keys[:depth]) for leaf in leaves for depth in range(1, len(leaf.keys) + 1)}


def read_verified(found: Description, leaves: Iterable[Leaf]) -> tuple[dict[Leaf, Any], int]:
    """Reads leaves of a checkpoint, and no byte of others, and compares each with its checksum.

    Returns:
        (values by place, how many had a checksum to compare with).

    Raises:
        CheckpointError: some cannot be read or are damaged; each damaged one is named.
    """
    places = {found.layout.leaves[leaf][0]: leaf for leaf in leaves}
    values = read_keys(found.item, found.record, {k: found.layout.leaves[leaf][1] for k, leaf in places.items()})
    verified = sum(leaf in found.checksums for leaf in places.values())
    return {leaf: values[keys] for keys, leaf in places.items()}, verified


def _refuse_damaged(item: Path, leaves: Sequence[str]) -> None:
    if leaves:
        raise CheckpointError(
            f"The checkpoint {item} is damaged: {listed(leaves, 40)} "
            f"{'does' if len(leaves) == 1 else 'do'} not have the "
            "contents that were saved (SHA-256 differs). Use an earlier one, or fetch it again."
        )


def read_keys(item: Path, record: Record, wanted: Mapping[Keys, jax.ShapeDtypeStruct]) -> dict[Keys, Any]:
    """Reads leaves by their keys on disk, verified against the record where it has checksums.

    Raises:
        CheckpointError: as of `read_verified`.
    """
    on_disk = {}
    for keys, struct in wanted.items():
        name = paths.join(keys)
        if name in record.random_keys:
            struct = jax.eval_shape(jax.random.key_data, struct)
        if name not in record.empty:
            on_disk[keys] = jax.ShapeDtypeStruct(struct.shape, struct.dtype)
    arrays = orbax_io.read(item, on_disk)
    sums = {keys: record.sha256.get(paths.join(keys)) for keys in arrays}
    _refuse_damaged(item, [paths.join(k) for k, array in arrays.items() if sums[k] and digest(array) != sums[k]])
    return {keys: record.value(keys, arrays.get(keys)) for keys in wanted}
