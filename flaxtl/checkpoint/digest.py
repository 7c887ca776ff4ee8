"""What flaxtl writes beside the arrays: a checksum a leaf, and what Orbax itself would lose."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from flaxtl import paths
from flaxtl.errors import CheckpointError

Keys = tuple[str, ...]
Kind = Literal["plain", "tree", "state"]
ENTRY = "flaxtl"
FORMAT = 1
# Number types of ml_dtypes that tensorstore, on which Orbax stands, does not know.
_UNSTORABLE = ("uint1", "int1", "uint2", "uint4", "float6_e2m3fn", "float6_e3m2fn", "float8_e4m3")


def digest(array: Any) -> str:
    """Returns the SHA-256 of an array's dtype, shape and contents, however it is sharded.

    Example:
        >>> digest(np.zeros(2, np.float32)) == digest(np.zeros((1, 2), np.float32))
        False
    """
    array = np.asarray(array)
    array = np.ascontiguousarray(array).reshape(array.shape)
    found = hashlib.sha256(f"{array.dtype.name}{array.shape}".encode())
    found.update(memoryview(array.view(np.uint8)) if array.ndim and array.size else array.tobytes())
    return found.hexdigest()


@dataclasses.dataclass(frozen=True)
class Record:
    """What is written beside the arrays of a checkpoint.

    Attributes:
        kind: "tree" from `save`, "state" from `RunCheckpoints`, "plain" where flaxtl wrote nothing.
        metadata: the user's plain data.
        sha256: checksums by the leaf's name on disk.
        empty: shape and dtype of arrays of size zero, which Orbax does not store.
        random_keys: the implementation of typed PRNG keys, which are stored as their numbers.
        metric: of a run's state.
    """

    kind: Kind = "plain"
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)
    empty: dict[str, tuple[tuple[int, ...], str]] = dataclasses.field(default_factory=dict)
    random_keys: dict[str, str] = dataclasses.field(default_factory=dict)
    metric: float | None = None

    def to_custom(self) -> dict[str, Any]:
        """Returns the record as Orbax's custom metadata, sealed with a checksum of its own.

        Raises:
            CheckpointError: the user's metadata is no JSON, or uses the name that flaxtl uses.
        """
        if ENTRY in self.metadata:
            raise CheckpointError(f"The metadata has the key {ENTRY!r}, which flaxtl itself uses. Rename it.")
        own = {k: v for k, v in dataclasses.asdict(self).items() if k != "metadata"}
        try:
            custom = json.loads(json.dumps({**self.metadata, ENTRY: {"format": FORMAT, **own}}))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"The metadata cannot be written as JSON ({error}). Give numbers, texts, lists and dicts."
            ) from error
        custom[ENTRY]["seal"] = _seal(custom)
        return custom

    @classmethod
    def from_custom(cls, custom: Mapping[str, Any], place: Path) -> Record:
        """Reads the record from Orbax's custom metadata; one without flaxtl's entry is plain.

        Raises:
            CheckpointError: the record is damaged, or of a newer flaxtl.
        """
        if ENTRY not in custom:
            return cls(metadata=dict(custom))
        own = dict(custom[ENTRY]) if isinstance(custom[ENTRY], Mapping) else {}
        seal, version = own.pop("seal", None), own.pop("format", None)
        if version != FORMAT:
            raise CheckpointError(f"{place} has format {version!r}; this flaxtl reads format {FORMAT}.")
        rest = {k: v for k, v in custom.items() if k != ENTRY}
        known = {f.name for f in dataclasses.fields(cls)} - {"metadata"}
        if seal != _seal({**rest, ENTRY: {"format": version, **own}}) or set(own) != known:
            raise CheckpointError(
                f"The metadata of {place} is damaged: it does not have the checksum that was saved with it. "
                "Use an earlier checkpoint, or fetch it again."
            )
        own["empty"] = {name: (tuple(shape), dtype) for name, (shape, dtype) in own["empty"].items()}
        return cls(metadata=rest, **own)

    def structs(self, stored: Mapping[Keys, jax.ShapeDtypeStruct]) -> dict[Keys, jax.ShapeDtypeStruct]:
        """Returns shape and dtype of all leaves, those included that Orbax does not know as they are."""
        found = dict(stored)
        for name, (shape, dtype) in self.empty.items():
            found[paths.split(name)] = jax.ShapeDtypeStruct(shape, np.dtype(dtype))
        for name, implementation in self.random_keys.items():
            keys = paths.split(name)
            if keys in found:
                found[keys] = jax.eval_shape(_wrap(implementation), found[keys])
        return found

    def value(self, keys: Keys, array: np.ndarray | None) -> Any:
        """Returns a leaf from what Orbax read for it (None where it stores nothing)."""
        name = paths.join(keys)
        if name in self.empty:
            shape, dtype = self.empty[name]
            array = np.empty(shape, np.dtype(dtype))
        return _wrap(self.random_keys[name])(array) if name in self.random_keys else array


def _wrap(implementation: str) -> Any:
    return lambda data: jax.random.wrap_key_data(data, impl=implementation)


def _seal(custom: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(custom, sort_keys=True).encode()).hexdigest()


def is_random_key(value: Any) -> bool:
    """Says whether a leaf is a typed PRNG key (or its shape and dtype)."""
    return hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


def struct_of(value: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of an array, a number, a PRNG key, or something that has them.

    Example:
        >>> struct_of(1.0)
        ShapeDtypeStruct(shape=(), dtype=float64)
    """
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        value = np.asarray(value)
    dtype = value.dtype if is_random_key(value) else np.dtype(value.dtype)
    return jax.ShapeDtypeStruct(tuple(value.shape), dtype)


def nbytes(struct: Any) -> int:
    """Returns the bytes of an array of a shape and dtype.

    Example:
        >>> nbytes(jax.ShapeDtypeStruct((3, 4), 'float32'))
        48
    """
    return int(np.prod(struct.shape, dtype=np.int64)) * struct.dtype.itemsize


def pack(
    tree: Any, kind: Kind, metadata: Mapping[str, Any], metric: float | None = None
) -> tuple[dict[Keys, np.ndarray], Record]:
    """Returns a tree's leaves as the NumPy arrays that Orbax stores, and the record beside them.

    Raises:
        CheckpointError: no leaf, a leaf that is no array of numbers, or two leaves of one name on disk.
    """
    arrays: dict[Keys, np.ndarray] = {}
    record = Record(kind, dict(metadata), metric=metric)
    seen: dict[str, str] = {}
    for keys, value in _items(tree):
        name = paths.join(keys)
        _refuse_collision(keys, seen)
        array = _host(name, value)
        if is_random_key(value):
            record.random_keys[name] = str(jax.random.key_impl(value))
        if array.size == 0:
            record.empty[name] = (array.shape, array.dtype.name)
        else:
            arrays[keys] = array
        record.sha256[name] = digest(array)
    if not arrays:
        raise CheckpointError("The tree holds no arrays with numbers in them, so there is nothing to save.")
    return arrays, record


def _items(tree: Any) -> list[tuple[Keys, Any]]:
    try:
        found = paths.items(tree)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The tree cannot be walked ({error}). Give the keys of each dict one type.") from error
    if any(not keys for keys, _ in found):
        raise CheckpointError("A checkpoint holds a tree with named leaves; a lone array has no name.")
    return found


def _refuse_collision(keys: Keys, seen: dict[str, str]) -> None:
    """Refuses what Orbax would silently store as one: it joins keys with '.' and drops '/' at the end."""
    name, joined = paths.join(keys), ".".join(keys).rstrip("/")
    if not _encodable(name):
        raise CheckpointError(f"The leaf {name!a} has a name that is no valid text. Rename it.")
    if joined in seen:
        raise CheckpointError(
            f"The leaves {seen[joined]!r} and {name!r} would be one on disk, as Orbax joins keys with '.'. "
            "Rename one of them."
        )
    seen[joined] = name


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _host(name: str, value: Any) -> np.ndarray:
    """Returns a leaf as a NumPy array in this process's memory and byte order."""
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        raise CheckpointError(
            f"The leaf {name!r} is spread over several processes. Gather it first, for example with "
            "jax.experimental.multihost_utils.process_allgather(tree, tiled=True)."
        )
    array = np.asarray(jax.random.key_data(value) if is_random_key(value) else value)
    if not (array.dtype == np.bool_ or jax.dtypes.issubdtype(array.dtype, np.number)):
        raise CheckpointError(
            f"The leaf {name!r} is a {type(value).__name__} of dtype {array.dtype}; a checkpoint holds "
            "arrays of numbers. Put other things into the metadata."
        )
    if array.dtype.name in _UNSTORABLE:
        raise CheckpointError(
            f"The leaf {name!r} has the dtype {array.dtype}, which Orbax cannot store. Convert it to int8 or float32."
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)
