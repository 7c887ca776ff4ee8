"""Examples that lie in a data set's own files and are read when they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One value of a column, such as a picture's bytes.

    Attributes:
        column: reads a value when it is asked for it.
        place: which one.
        name: what identifies it in messages.

    Example:
        >>> Record(['a', 'b'], 1, 'letters:2').value()
        'b'
    """

    column: Sequence[Any]
    place: int
    name: str

    def value(self) -> Any:
        """Reads it: bytes of a file, a path, a text, an array or a `Clip`."""
        return self.column[self.place]

    def content(self) -> bytes:
        """Returns bytes that are the same for the same example, wherever it lies."""
        return content_of(self.value())

    def __str__(self) -> str:
        return self.name


def content_of(value: Any) -> bytes:
    """Returns the bytes by which two examples in memory are equal; `Clip`s with their sample rate.

    Example:
        >>> content_of('a'), content_of(np.zeros(1, np.uint8))
        (b'a', b'uint8(1,)\\x00')
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, (tuple, list)):
        parts = [content_of(part) for part in value]
        return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return content_of([content_of(getattr(value, f.name)) for f in dataclasses.fields(value)])
    if value is None:
        return b""
    if isinstance(value, Path):  # a table may name a file; its name says nothing of its content
        return value.read_bytes()
    array = np.asarray(value)
    if array.dtype == object:
        # The text of a long array is shortened, and its bytes are addresses.
        return content_of(list(array.flat)) if array.ndim else repr(value).encode("utf-8", "surrogatepass")
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()
