"""What a card's input does to an example: a host part that makes rows, and a device part that is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flaxtl.card import Array, Audio, Image, Input, Text
from flaxtl.data.augment import Changes
from flaxtl.data.image import ImagePreprocess
from flaxtl.data.records import Record
from flaxtl.data.rows import Form, Forms
from flaxtl.errors import CardError, DataError


class Preprocess(Protocol):
    """The preprocessing of one modality; hashable, so that compiled functions can be shared."""

    @property
    def row(self) -> Forms:
        """Shape and dtype of a row, or of each of its arrays by name."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths, ascending, that a batch of rows with a "mask" may be cut to; () where every row is full."""

    def rows(self, raw: Any, rng: np.random.Generator | None = None, augment: Changes | None = None) -> Sequence[Any]:
        """Turns one example into one or more rows of fixed shape, on the host."""

    def augmented(self, row: Any, rng: np.random.Generator, augment: Changes) -> Any:
        """Changes a row that was made without `augment`."""

    def device(self, inputs: Any) -> Any:
        """Turns a batch of rows into the network's input; compiled with the network."""


@dataclasses.dataclass(frozen=True)
class ArrayPreprocess:
    """What a card's `Array` does: check the shape; shift and scale on the device.

    Example:
        >>> pre = ArrayPreprocess(Array(shape=(2,), mean=(1.0,), std=(2.0,)))
        >>> pre.device(pre.rows([3.0, 5.0])[0]).tolist()
        [1.0, 2.0]
    """

    spec: Array

    @property
    def row(self) -> Form:
        """The card's shape and dtype."""
        return Form(tuple(self.spec.shape), np.dtype(self.spec.dtype))

    @property
    def lengths(self) -> tuple[int, ...]:
        """None: every row is full."""
        return ()

    def rows(
        self, raw: Any, rng: np.random.Generator | None = None, augment: Changes | None = None
    ) -> list[np.ndarray]:
        """Returns one row of the card's shape."""
        try:
            row = np.asarray(raw.value() if isinstance(raw, Record) else raw, self.spec.dtype)
        except (TypeError, ValueError) as error:
            raise DataError(f"An example cannot be read as numbers of {self.spec.dtype}: {error}.") from error
        if row.shape != tuple(self.spec.shape):
            raise DataError(f"An example has the shape {row.shape}; the network takes {tuple(self.spec.shape)}.")
        return [row]

    def augmented(self, row: np.ndarray, rng: np.random.Generator, augment: Changes) -> np.ndarray:
        """Returns the row as it is: there are changes for pictures and sound, none for numbers."""
        return row

    def device(self, inputs: Any) -> Any:
        """Subtracts the card's mean and divides by its std; float32."""
        import jax.numpy as jnp

        mean, std = np.asarray(self.spec.mean, np.float32), np.asarray(self.spec.std, np.float32)
        return (jnp.asarray(inputs, jnp.float32) - mean) / std


def preprocess_for(spec: Input, files: Mapping[str, Path] | None = None) -> Preprocess:
    """Returns the preprocessing of a card's input.

    Args:
        spec: the card's input.
        files: what travels with the model, by name; a text network's tokenizer is among them.

    Raises:
        CardError: this flaxtl has none for the modality.

    Example:
        >>> preprocess_for(Image(size=(8, 8))).row.shape
        (8, 8, 3)
    """
    if isinstance(spec, Image):
        return ImagePreprocess(spec)
    if isinstance(spec, Array):
        return ArrayPreprocess(spec)
    if isinstance(spec, Audio):
        from flaxtl.data.audio import AudioPreprocess

        return AudioPreprocess.of(spec)
    if isinstance(spec, Text):
        from flaxtl.data.text import TextPreprocess

        return TextPreprocess.of(spec, files or {})
    raise CardError(f"This flaxtl cannot prepare {type(spec).__name__}; it knows pictures, sound, text and numbers.")
