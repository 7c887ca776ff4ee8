"""Foreign weights before anything is made of them: named tensors, read one by one, and files beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that has not been read yet.

    Attributes:
        shape: its shape.
        dtype: its dtype in the file.
        read: returns it as a NumPy array of that shape and dtype; each call reads it anew.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> Tensor:
        """Wraps an array that is already in memory."""
        return cls(array.shape, array.dtype, lambda: array)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class MissingTensor(KeyError):
    """A tensor that a family expects and the weights do not have."""


@dataclasses.dataclass(frozen=True)
class Weights(Mapping[str, Tensor]):
    """Named tensors of one published network, with what was published beside them.

    Attributes:
        tensors: by name.
        config: the network's own config.json, or {}.
        preprocessor: preprocessor_config.json, or {}.
        files: further files by name, such as tokenizer.json.
        origin: where they came from: source, revision, sha256; goes into the card's provenance.
        notes: what was done to the names on the way here, one sentence each.
        prefix: what was taken off the names; in the file each is this and then the name here.
        ignore_settings: settings of the source that its reader asked to leave out.

    Example:
        >>> weights = Weights({'module.w': Tensor.of(np.zeros(2))})
        >>> list(weights.without_prefix('module.')), weights.without_prefix('module.').notes
        (['w'], ("The prefix 'module.' was taken off 1 of 1 names.",))
    """

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocessor: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    prefix: str = ""
    ignore_settings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise MissingTensor(name)
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Returns a tensor's shape, or None if there is no such tensor."""
        return self.tensors[name].shape if name in self.tensors else None

    def without_prefix(self, prefix: str) -> Weights:
        """Returns the weights with a prefix taken off the names that have it; the others stay."""
        if not prefix:
            return self
        bare = {n.removeprefix(prefix): t for n, t in self.tensors.items()}
        count = sum(n.startswith(prefix) for n in self.tensors)
        note = f"The prefix {prefix!r} was taken off {count} of {len(self.tensors)} names."
        return dataclasses.replace(self, tensors=bare, notes=(*self.notes, note), prefix=self.prefix + prefix)

    def within(self, prefix: str) -> Weights:
        """Returns only the weights below a prefix, without it."""
        kept = {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}
        note = f"Of {len(self.tensors)} tensors the {len(kept)} below {prefix!r} were taken."
        return dataclasses.replace(self, tensors=kept, notes=(*self.notes, note), prefix=self.prefix + prefix)


def count_numbered(names: Iterable[str], before: str) -> int:
    """Returns how many numbers follow a beginning in a set of names, counted from 0.

    Example:
        >>> count_numbered(['blocks.0.w', 'blocks.1.w', 'blocks.1.b', 'head.w'], 'blocks.')
        2
    """
    found = {n[len(before) :].split(".")[0] for n in names if n.startswith(before)}
    return 1 + max((int(f) for f in found if f.isdigit()), default=-1)
