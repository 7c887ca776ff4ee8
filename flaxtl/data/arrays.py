"""Examples that are already arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from flaxtl.data.source import Source
from flaxtl.errors import DataError, shown


def from_arrays(
    inputs: Any,
    targets: Any = None,
    *,
    labels: Sequence[str] | None = None,
    modality: Literal["image", "audio", "array"] = "image",
    weights: Any = None,
    groups: Sequence[str] | None = None,
) -> Source:
    """Makes a source of arrays.

    Args:
        inputs: pictures as uint8, or floats in 0…1, [n, height, width] or [n, height, width, channels]; with
            modality="audio" clips of one length, [n, samples] or [n, samples, channels]; or with modality="array"
            any numbers [n, …].
        targets: class names [n], or int class numbers [n] that index `labels`, or None.
        labels: class names in order; by default the names that occur, or the numbers up to the largest.
        modality: "image", "audio" or "array".
        weights: how much each example counts, float [n].
        groups: examples of one group are never divided by a split.

    Raises:
        DataError: lengths or shapes that differ, no examples, weights below 0, or targets that are no classes.

    Example:
        >>> from_arrays(np.zeros((3, 8, 8)), ['b', 'a', 'b']).targets.tolist()
        [1, 0, 1]
    """
    try:
        inputs = np.asarray(inputs)
    except ValueError as error:
        raise DataError("The inputs differ in shape; expected arrays of one shape, or files in a folder.") from error
    if inputs.ndim == 0 or len(inputs) == 0:
        raise DataError("The arrays hold no examples.")
    if inputs.dtype.kind in "OSUMmc":
        raise DataError(f"The inputs are {shown(inputs)}; expected numbers, such as pictures as uint8.")
    targets = None if targets is None else _array_of(targets)
    if modality == "image" and inputs.ndim not in (3, 4):
        raise DataError(
            f"The pictures have the shape {inputs.shape}; expected [n, height, width] or [n, height, width, channels]."
        )
    names = None if targets is None else _names(np.asarray(targets), labels)
    order = labels
    if order is None and names is not None and np.asarray(targets).dtype.kind in "iu":
        order = [str(i) for i in range(int(np.max(np.asarray(targets))) + 1)]
    source = Source.of(modality, inputs, names, labels=order, groups=groups)
    return source if weights is None else dataclasses.replace(source, weights=_weights(weights, len(inputs)))


def _array_of(targets: Any) -> np.ndarray:
    try:
        return np.asarray(targets)
    except ValueError as error:
        raise DataError("The targets are lists that differ in length; expected one class an example.") from error


def _weights(values: Any, n: int) -> np.ndarray:
    weights = np.asarray(values, np.float32)
    if weights.shape != (n,):
        raise DataError(f"The weights have the shape {weights.shape}; expected one for each of the {n} inputs.")
    if not (np.isfinite(weights).all() and weights.min() >= 0.0 and weights.max() > 0.0):
        raise DataError(f"The weights run from {weights.min()} to {weights.max()}; expected 0 or more, some above 0.")
    return weights


def _names(targets: np.ndarray, labels: Sequence[str] | None) -> list[str]:
    if targets.ndim != 1:
        raise DataError(f"The targets have the shape {targets.shape}; expected one class an example.")
    if targets.dtype.kind in "fc":
        raise DataError(f"The targets are {targets.dtype}; expected class names, or class numbers as integers.")
    if len(targets) == 0 or targets.dtype.kind not in "iu":
        return [str(t) for t in targets]
    if targets.min() < 0 or (labels is not None and targets.max() >= len(labels)):
        known = "numbers from 0" if labels is None else f"numbers from 0 to {len(labels) - 1}"
        raise DataError(f"The class numbers run from {targets.min()} to {targets.max()}; expected {known}.")
    return [str(t) if labels is None else labels[t] for t in targets]
