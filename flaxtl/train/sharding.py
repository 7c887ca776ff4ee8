"""Where the leaves of a training state live on a mesh of devices, and how many bytes each device holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA, MODEL = "data", "model"


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """Returns the mesh of all devices along "data"; the axis "model" has one place.

    Example:
        >>> dict(mesh_of(jax.devices()[:1]).shape)
        {'data': 1, 'model': 1}
    """
    places = np.array(devices, dtype=object).reshape(len(devices), 1)
    return Mesh(places, (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch [rows, …], whose rows are spread over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def largest_axis(shape: tuple[int, ...], parts: int) -> int | None:
    """Returns the largest axis that can be cut into so many equal parts, the last of equals, or None.

    Example:
        >>> largest_axis((3, 16, 16), 8), largest_axis((6, 10), 4)
        (2, None)
    """
    fitting = [axis for axis, size in enumerate(shape) if size and size % parts == 0]
    return max(fitting, key=lambda axis: (shape[axis], axis), default=None)


def fully_sharded(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Returns the sharding of a leaf that is cut along its largest axis that the devices divide; else each holds it.

    The layout of ZeRO-3 (Rajbhandari et al. 2020) and FSDP.
    """
    axis = largest_axis(shape, mesh.shape[DATA])
    return replicated(mesh) if axis is None else NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))


def gathered(leaf: jax.Array, mesh: Mesh) -> jax.Array:
    """Returns a fully sharded parameter as every device needs it to compute; its gradient is spread again.

    Left to itself XLA may gather the activations of the whole batch instead.
    """
    kept, whole = fully_sharded(mesh, leaf.shape), replicated(mesh)

    @jax.custom_vjp
    def gather(a: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(a, whole)

    def forward(a: jax.Array) -> tuple[jax.Array, None]:
        return gather(a), None

    def backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        return (jax.lax.with_sharding_constraint(gradient, kept),)

    gather.defvjp(forward, backward)
    return gather(leaf)


def shaped(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """Returns the shape of an array on the devices, in the number type that JAX gives it there."""
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype), sharding=sharding)


def placed(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Returns an array, which every process has whole, with a sharding over the devices of one or many processes."""
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


@functools.lru_cache(maxsize=8)
def _replicator(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    """Returns a compiled function that gives every device the whole array; the same for every leaf, and kept."""
    return jax.jit(lambda a: a, out_shardings=replicated(mesh))


def fetched(leaf: jax.Array) -> np.ndarray:
    """Returns an array as this process's memory holds it whole; all processes must fetch it together."""
    if not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        leaf = _replicator(leaf.sharding.mesh)(leaf)  # type: ignore[attr-defined]
    return np.asarray(leaf if leaf.is_fully_addressable else leaf.addressable_data(0))


def bytes_a_device(tree: Any) -> dict[jax.Device, int]:
    """Returns how many bytes of a tree each device of this process holds, measured from the arrays' shards.

    Example:
        >>> list(bytes_a_device({'w': jax.numpy.zeros((2, 3))}).values())
        [24]
    """
    held: dict[jax.Device, int] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return held
