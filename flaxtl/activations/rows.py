"""Rows that were computed before, as the loader takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxtl.activations.store import RowForm
from flaxtl.data import Changes
from flaxtl.data.rows import Form, Forms, Row


@dataclasses.dataclass(frozen=True)
class StoredRows:
    """The preprocessing of activations: there is nothing left to do but to fill up what is shorter than the longest.

    Attributes:
        form: of the rows.
        lengths: that a batch may be cut to; () where rows do not vary.
    """

    form: RowForm
    lengths: tuple[int, ...] = ()

    @property
    def row(self) -> Forms:
        """Shape and dtype of a row, filled up."""
        each = [Form(shape, np.dtype(dtype)) for shape, dtype in zip(self.form.shapes, self.form.dtypes, strict=True)]
        return dict(zip(self.form.names, each, strict=True)) if self.form.names else each[0]

    def rows(self, raw: Any, rng: np.random.Generator | None = None, augment: Changes | None = None) -> Sequence[Row]:
        """Returns an example's rows."""
        return [self._filled(row) for row in raw] if self.form.varying else raw

    def _filled(self, row: Row) -> Row:
        assert isinstance(row, dict)
        filled = {}
        for name, shape in zip(self.form.names, self.form.shapes, strict=True):
            filled[name] = np.zeros(shape, row[name].dtype)
            filled[name][: len(row[name])] = row[name]
        return filled

    def augmented(self, row: Row, rng: np.random.Generator, augment: Changes) -> Row:
        """Returns the row as it is: what is to be changed at random was changed before it was computed."""
        return row

    def device(self, inputs: Any) -> Any:
        """Returns the batch as it is."""
        return inputs
