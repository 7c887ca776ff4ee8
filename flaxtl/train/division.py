"""How a batch is divided while a step is traced: among devices, and into parts one after the other.

The step function is one and the same on every engine; the engine says here how its batch is divided, and the
weighted mean, the gradients and the batch statistics are then those of the whole batch.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Division:
    """How the rows that a step sees relate to the whole batch.

    Attributes:
        axis_name: the mapped axis that each device's rows lie along; None where the step sees all rows.
        parts: how many parts the rows are worked off in, one after the other, to save memory.
        gather: tree of parameters as they are kept → as the network takes them; None where these are the same.
    """

    axis_name: str | None = None
    parts: int = 1
    gather: Callable[[Any], Any] | None = None

    def whole(self, params: Any) -> Any:
        """Returns parameters as the network takes them."""
        return params if self.gather is None else self.gather(params)

    def total(self, tree: Any) -> Any:
        """Returns sums over all devices of sums over this device's rows."""
        return tree if self.axis_name is None else jax.lax.psum(tree, self.axis_name)

    def everyones(self, rows: Any) -> Any:
        """Returns arrays [rows, …] of this device's rows as those of the whole batch, in its order."""
        if self.axis_name is None:
            return rows
        return jax.tree.map(lambda a: jax.lax.all_gather(a, self.axis_name, tiled=True), rows)

    def own(self, rows: Any) -> Any:
        """Returns this device's rows of arrays [rows, …] of the whole batch."""
        if self.axis_name is None:
            return rows
        place, devices = jax.lax.axis_index(self.axis_name), jax.lax.axis_size(self.axis_name)

        def part(a: Array) -> Array:
            each = a.shape[0] // devices
            return jax.lax.dynamic_slice_in_dim(a, place * each, each)

        return jax.tree.map(part, rows)

    def cut(self, batch: Any) -> Any:
        """Returns a batch [rows, …] as [parts, rows / parts, …].

        Part p takes rows p, p + parts, …, so that each part has as many rows of each device as every other,
        and no row has to move to another device.

        Example:
            >>> Division(parts=2).cut(jnp.arange(6)).tolist()
            [[0, 2, 4], [1, 3, 5]]
        """

        def cut(a: Array) -> Array:
            return jnp.moveaxis(jnp.reshape(a, (a.shape[0] // self.parts, self.parts, *a.shape[1:])), 1, 0)

        return jax.tree.map(cut, batch)


_WHOLE = Division()
_CURRENT = contextvars.ContextVar("division", default=_WHOLE)


def current() -> Division:
    """Returns the division of the step that is being traced; by default it sees all rows, at once."""
    return _CURRENT.get()


@contextlib.contextmanager
def divided(division: Division) -> Iterator[None]:
    """Traces what is called within as a step whose batch is divided so.

    Example:
        >>> with divided(Division(parts=4)):
        ...     current().parts
        4
    """
    token = _CURRENT.set(division)
    try:
        yield
    finally:
        _CURRENT.reset(token)
