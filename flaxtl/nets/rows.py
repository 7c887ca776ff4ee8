"""Work on one row of a batch after the other, which on CPU stays in the cache, wherever the rows lie.

A loop over rows that lie on several devices would have each of them fetch all rows and do all of the work. Who traces a
network for several devices says so with `rows_over`, and each turn of the loop then takes one row of every device.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

Array = jax.Array
_DEVICES = contextvars.ContextVar("devices", default=1)


@contextlib.contextmanager
def rows_over(devices: int) -> Iterator[None]:
    """Traces what is called within for batches whose rows lie on so many devices, as many on each.

    Example:
        >>> with rows_over(2):
        ...     one_by_one(lambda x: 2 * x, jnp.arange(4)).tolist()
        [0, 2, 4, 6]
    """
    token = _DEVICES.set(devices)
    try:
        yield
    finally:
        _DEVICES.reset(token)


def one_by_one(function: Callable[..., Array], *arrays: Array) -> Array:
    """Returns what a function says of each row, one row of a device after the other.

    Args:
        function: a row of each array → an array.
        arrays: [batch, …] each.

    Example:
        >>> one_by_one(lambda x, y: x + y, jnp.arange(3), jnp.ones(3)).tolist()
        [1.0, 2.0, 3.0]
    """
    devices = _devices(arrays)
    if devices == 1:
        return jax.lax.map(lambda row: function(*row), arrays)
    return _together(jax.lax.map(lambda rows: jax.vmap(function)(*rows), _turns(arrays, devices)))


def summed_one_by_one(function: Callable[..., tuple[Array, Array]], *arrays: Array) -> tuple[Array, Array]:
    """Returns what a function says of each row, and the sum over the rows of the other thing that it says.

    Args:
        function: a row of each array → (array, float32 array to be summed).
        arrays: [batch, …] each.

    Example:
        >>> rows, total = summed_one_by_one(lambda x: (2 * x, x), jnp.arange(3.0))
        >>> rows.tolist(), total.tolist()
        ([0.0, 2.0, 4.0], 3.0)
    """
    devices = _devices(arrays)
    said = jax.eval_shape(function, *(jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in arrays))[1]

    def one(total: Array, rows: tuple[Array, ...]) -> tuple[Array, Array]:
        answer, part = (function if devices == 1 else jax.vmap(function))(*rows)
        return total + part, answer

    if devices == 1:
        total, answers = jax.lax.scan(one, jnp.zeros(said.shape, jnp.float32), arrays)
        return answers, total
    # Each device sums its own rows; what they come to is exchanged once, at the end.
    start = jnp.zeros((devices, *said.shape), jnp.float32)
    totals, answers = jax.lax.scan(one, start, _turns(arrays, devices))
    return _together(answers), totals.sum(0)


def _devices(arrays: tuple[Array, ...]) -> int:
    devices = _DEVICES.get()
    return devices if arrays[0].shape[0] % devices == 0 else 1


def _turns(arrays: tuple[Array, ...], devices: int) -> tuple[Array, ...]:
    """[batch, …] as [turns, devices, …]: turn t takes the t-th row of each device, and no row moves."""
    return tuple(jnp.moveaxis(a.reshape(devices, a.shape[0] // devices, *a.shape[1:]), 1, 0) for a in arrays)


def _together(turns: Array) -> Array:
    rows = jnp.moveaxis(turns, 0, 1)
    return rows.reshape(-1, *rows.shape[2:])
