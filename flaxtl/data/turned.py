"""Turned pictures as classes of their own, for pretraining on drawings (Santoro et al. 2016, section 4.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxtl.data.image import decode
from flaxtl.data.source import Source
from flaxtl.errors import DataError


@dataclasses.dataclass(frozen=True)
class Turned(Sequence[np.ndarray]):
    """Raw pictures read with a quarter turn; looks like the list of pictures it stands for."""

    raw: Any
    turns: tuple[int, ...]
    place: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, i: Any) -> Any:
        return np.ascontiguousarray(np.rot90(decode(self.raw[self.place[i]]), self.turns[i]))


def with_turned_classes(source: Source) -> Source:
    """Returns the source four times over, turned by 0, 90, 180 and 270 degrees, each turn a class of its own.

    Example:
        >>> source = Source.of('image', np.zeros((2, 4, 4), np.uint8), ['a', 'b'])
        >>> with_turned_classes(source).labels
        ('a', 'b', 'a@90', 'b@90', 'a@180', 'b@180', 'a@270', 'b@270')
    """
    if source.modality != "image":
        raise DataError(f"Turned classes are for pictures; this data holds {source.modality}.")
    n, c = len(source), len(source.labels)
    turns = np.repeat(np.arange(4), n)
    suffix = ("", "@90", "@180", "@270")
    return dataclasses.replace(
        source,
        raw=Turned(source.raw, tuple(turns.tolist()), tuple(np.tile(np.arange(n), 4).tolist())),
        targets=np.tile(source.targets, 4) + (turns * c).astype(np.int32),
        labels=tuple(name + s for s in suffix for name in source.labels),
        keys=tuple(key + s for s in suffix for key in source.keys),
        weights=np.tile(source.weights, 4),
        groups=None if source.groups is None else source.groups * 4,
    )
