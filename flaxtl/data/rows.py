"""A row, which is what one example (or a window of it) becomes on the host: an array, or arrays by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = np.ndarray | dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Form:
    """Shape and dtype of an array of a row.

    Example:
        >>> Form((4, 2), np.dtype('float32')).nbytes
        32
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


Forms = Form | Mapping[str, Form]


def row_bytes(forms: Forms) -> int:
    """Returns the size of a row in bytes."""
    return forms.nbytes if isinstance(forms, Form) else sum(f.nbytes for f in forms.values())


def real_length(row: Row) -> int:
    """Returns how many tokens of a row are real; 0 for rows without a mask."""
    return int(row["mask"].sum()) if isinstance(row, dict) and "mask" in row else 0


def trimmed(batch: dict[str, np.ndarray], lengths: Sequence[int]) -> dict[str, np.ndarray]:
    """Cuts a batch to the smallest of some lengths that holds its longest row.

    Args:
        batch: arrays [rows, length], "mask" among them, which is 1 where a row's tokens are, from the left.
        lengths: ascending; the last is the batch's own.

    Example:
        >>> trimmed({'mask': np.array([[1, 1, 1, 0, 0, 0]])}, (2, 4, 6))['mask'].shape
        (1, 4)
    """
    longest = int(batch["mask"].sum(axis=1).max())
    length = next(n for n in lengths if n >= longest)
    return {name: np.ascontiguousarray(array[:, :length]) for name, array in batch.items()}


def stack(rows: Sequence[Row]) -> Any:
    """Returns rows as one batch: an array, or arrays by name, with a new first axis.

    Example:
        >>> stack([{'a': np.zeros(2)}, {'a': np.ones(2)}])['a'].shape
        (2, 2)
    """
    first = rows[0]
    if isinstance(first, dict):
        return {name: np.stack([row[name] for row in rows]) for name in first}
    return np.stack(rows)  # type: ignore[arg-type]
