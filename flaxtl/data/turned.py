"""Turned pictures as classes of their own, for pretraining on drawings (Santoro et al. 2016, section 4.1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from flaxtl.data.image import decode
from flaxtl.data.source import Source
from flaxtl.errors import DataError


@dataclasses.dataclass(frozen=True)
class Turned:
    """A picture turned by quarters, counter-clockwise, whenever it is read."""

    raw: Any
    quarters: int

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns uint8 [h, w, c]; numpy's protocol, so that it decodes as any array."""
        return np.asarray(np.rot90(decode(self.raw), self.quarters), dtype)


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
    turns = np.where(np.tile(source.targets, 4) < 0, 0, np.repeat(np.arange(4), n))
    suffix = ("", "@90", "@180", "@270")
    return dataclasses.replace(
        source,
        details={},
        raw=[Turned(raw, quarters) for quarters in range(4) for raw in source.raw],
        targets=np.tile(source.targets, 4) + (turns * c).astype(np.int32),
        labels=tuple(name + s for s in suffix for name in source.labels),
        keys=tuple(key + s for s in suffix for key in source.keys),
        weights=np.tile(source.weights, 4),
        groups=None if source.groups is None else source.groups * 4,
    )
