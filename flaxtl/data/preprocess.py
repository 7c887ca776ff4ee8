"""What a card's input does to an example: a host part that makes rows, and a device part that is compiled."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from flaxtl.card import Array, Image, Input
from flaxtl.data.augment import Augment
from flaxtl.data.image import ImagePreprocess
from flaxtl.errors import CardError, DataError


class Preprocess(Protocol):
    """The preprocessing of one modality; hashable, so that compiled functions can be shared."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row."""

    @property
    def row_dtype(self) -> np.dtype[Any]:
        """The dtype of one row."""

    def rows(
        self, raw: Any, rng: np.random.Generator | None = None, augment: Augment | None = None
    ) -> list[np.ndarray]:
        """Turns one example into one or more rows of fixed shape, on the host."""

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
    def row_shape(self) -> tuple[int, ...]:
        """The card's shape."""
        return self.spec.shape

    @property
    def row_dtype(self) -> np.dtype[Any]:
        """The card's dtype."""
        return np.dtype(self.spec.dtype)

    def rows(
        self, raw: Any, rng: np.random.Generator | None = None, augment: Augment | None = None
    ) -> list[np.ndarray]:
        """Returns one row of the card's shape."""
        row = np.asarray(raw, self.spec.dtype)
        if row.shape != tuple(self.spec.shape):
            raise DataError(f"An example has the shape {row.shape}; the network takes {tuple(self.spec.shape)}.")
        return [row]

    def device(self, inputs: Any) -> Any:
        """Subtracts the card's mean and divides by its std; float32."""
        import jax.numpy as jnp

        mean, std = np.asarray(self.spec.mean, np.float32), np.asarray(self.spec.std, np.float32)
        return (jnp.asarray(inputs, jnp.float32) - mean) / std


def preprocess_for(spec: Input) -> Preprocess:
    """Returns the preprocessing of a card's input.

    Raises:
        CardError: this flaxtl has none for the modality.

    Example:
        >>> preprocess_for(Image(size=(8, 8))).row_shape
        (8, 8, 3)
    """
    if isinstance(spec, Image):
        return ImagePreprocess(spec)
    if isinstance(spec, Array):
        return ArrayPreprocess(spec)
    raise CardError(f"This flaxtl cannot yet prepare {spec.modality}; it knows pictures and plain numbers.")
