"""Carrying a plan out: reading what it says, verifying it, and putting the model's tree together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flaxtl import paths
from flaxtl.checkpoint.digest import is_random_key, struct_of
from flaxtl.checkpoint.output_layers import require_output_layers
from flaxtl.checkpoint.planning import Entry, Plan
from flaxtl.checkpoint.store import read_verified
from flaxtl.errors import CheckpointError
from flaxtl.paths import Leaf

Initialise = Callable[[Leaf, jax.ShapeDtypeStruct], Any]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a restore did. Print it.

    Attributes:
        plan: what was asked.
        bytes_read: bytes of the arrays that were read.
        verified: how many of them were compared with their checksum.
        zeros: whether the re-initialised leaves are zeros, as no values were given for them.
    """

    plan: Plan
    bytes_read: int
    verified: int
    zeros: bool = False

    @property
    def leaves_read(self) -> int:
        """How many leaves were read."""
        return sum(e.reads for e in self.plan.entries)

    def __str__(self) -> str:
        if self.verified == self.leaves_read:
            checked = "all verified"
        elif self.verified:
            checked = f"{self.verified} verified and {self.leaves_read - self.verified} not verified"
        else:
            checked = "not verified (the checkpoint has no checksums)"
        fresh = self.plan.count("reinitialised")
        extra = f", {fresh} re-initialised{' as zeros' if self.zeros else ''}" if fresh else ""
        return f"{self.leaves_read} leaves, {self.bytes_read:,} bytes read, {checked}{extra}: {self.plan.item}"


def restore(plan: Plan, *, sharding: Any = None, init: Any = None) -> tuple[Any, Report]:
    """Reads what a plan says, verifies it, and returns the model's tree.

    Args:
        plan: from `plan`.
        sharding: one sharding for all leaves, or a tree of them; None gives NumPy arrays.
        init: values of the re-initialised leaves: a tree in which they lie as in the model's, or
            function(place, struct) → array. None makes them zeros, which only an output layer can learn from.

    Returns:
        (a tree of the model's structure, the report).

    Raises:
        CheckpointError: a leaf is damaged (each is named) or cannot be read, or what `init`, a resize or a
            cast makes of it does not fit; or leaves other than an output layer's would become zeros.

    Example:
        >>> import tempfile
        >>> from flaxtl.checkpoint import plan, save
        >>> place = tempfile.mkdtemp() + '/theirs'
        >>> save(place, {'body': {'w': np.ones((4, 3))}, 'head': {'w': np.ones((3, 9))}})
        >>> ours = {'body': {'w': np.ones((4, 3))}, 'head': {'w': np.ones((3, 2))}}
        >>> restore(plan(place, ours, reinit='head/**'))[0]['head']['w'].tolist()
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    if init is None:
        require_output_layers(plan)
    reads = [e for e in plan.entries if e.reads and e.source is not None]
    values, verified = read_verified(plan.found, [e.source for e in reads if e.source is not None])
    made = {e.target: _converted(e, values[e.source]) for e in reads if e.source is not None}
    fill = _initialiser(init)
    for e in plan.entries:
        if e.action == "reinitialised" and e.target is not None and e.wanted is not None:
            made[e.target] = _filled(e.target, e.wanted, fill)
    tree = paths.map_with_leaf(lambda leaf, _: made[leaf], plan.like)
    if sharding is not None:
        tree = jax.device_put(tree, sharding)
    return tree, Report(plan, plan.bytes_to_read, verified, zeros=init is None)


def _converted(entry: Entry, array: Any) -> Any:
    """Returns a leaf as the model wants it: resized and cast where the plan says so."""
    stored, wanted = entry.stored, entry.wanted
    assert stored is not None
    assert wanted is not None
    assert entry.target is not None
    if entry.resize is not None:
        array = np.asarray(entry.resize(array, wanted.shape)).astype(stored.dtype, copy=False)
        if array.shape != wanted.shape:
            raise CheckpointError(
                f"The resize function for {entry.target.name} returned the shape {array.shape}; "
                f"expected {wanted.shape}."
            )
    return array if wanted.dtype == stored.dtype else _cast(entry.target, array, wanted.dtype)


def _cast(leaf: Leaf, array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Casts an array, refusing numbers that the new dtype cannot hold."""
    with np.errstate(over="ignore", invalid="ignore"):
        new = array.astype(dtype)
        if jax.dtypes.issubdtype(dtype, np.integer):
            held = bool((new.astype(object) == array.astype(object)).all())
        else:
            held = bool((np.isfinite(new) == np.isfinite(array)).all())
    if not held:
        raise CheckpointError(
            f"{leaf.name} is {array.dtype.name} and holds numbers too large for the model's {dtype.name}. "
            "Load it into a model of the wider dtype."
        )
    return new


def _initialiser(init: Any) -> Initialise:
    if init is None:
        return _zeros
    if callable(init):
        return init
    given = dict(paths.leaves(init))

    def of_tree(leaf: Leaf, struct: jax.ShapeDtypeStruct) -> Any:
        if leaf not in given:
            raise CheckpointError(f"The tree given as init has no value for {leaf.name}, which is re-initialised.")
        return given[leaf]

    return of_tree


def _zeros(leaf: Leaf, struct: jax.ShapeDtypeStruct) -> Any:
    if is_random_key(struct):
        raise CheckpointError(f"{leaf.name} is a PRNG key and cannot be zero. Give its value as init.")
    return np.zeros(struct.shape, struct.dtype)


def _filled(leaf: Leaf, struct: jax.ShapeDtypeStruct, fill: Initialise) -> Any:
    """Returns a re-initialised leaf, in the model's dtype, once its shape is checked."""
    value = fill(leaf, struct)
    found = struct_of(value)
    if found.shape != struct.shape or is_random_key(found) != is_random_key(struct):
        raise CheckpointError(
            f"The initial value of {leaf.name} is {found.dtype.name}{list(found.shape)}; "
            f"expected {struct.dtype.name}{list(struct.shape)}."
        )
    return value if is_random_key(struct) else np.asarray(value).astype(struct.dtype, copy=False)
