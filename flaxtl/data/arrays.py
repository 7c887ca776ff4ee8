"""Examples that are already arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from flaxtl.data.cells import class_names, is_list, is_missing, number
from flaxtl.data.source import Source
from flaxtl.errors import DataError, shown

_MOST_EMPTY = 50  # so many numbered classes without examples are taken for such


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
        targets: class names [n], or class numbers [n] from 0 that index `labels`, or None.
        labels: class names in order; by default the names that occur, or the numbers up to the largest.
        modality: "image", "audio" or "array".
        weights: how much each example counts, float [n].
        groups: examples of one group are never divided by a split.

    Raises:
        DataError: lengths or shapes that differ, no examples, weights below 0, or targets that are missing (None, NaN)
            or no classes.

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
    if modality == "image" and inputs.ndim not in (3, 4):
        raise DataError(
            f"The pictures have the shape {inputs.shape}; expected [n, height, width] or [n, height, width, channels]."
        )
    names, order = (None, labels) if targets is None else _names(targets, labels)
    source = Source.of(modality, inputs, names, labels=order, groups=groups)
    return source if weights is None else dataclasses.replace(source, weights=_weights(weights, len(inputs)))


def _weights(values: Any, n: int) -> np.ndarray:
    weights = np.asarray(values, np.float32)
    if weights.shape != (n,):
        raise DataError(f"The weights have the shape {weights.shape}; expected one for each of the {n} inputs.")
    if not (np.isfinite(weights).all() and weights.min() >= 0.0 and weights.max() > 0.0):
        raise DataError(f"The weights run from {weights.min()} to {weights.max()}; expected 0 or more, some above 0.")
    return weights


def _names(targets: Any, labels: Sequence[str] | None) -> tuple[list[str], Sequence[str] | None]:
    """Returns the class of each target, and the classes in order where the targets say it."""
    values = [value.item() if isinstance(value, np.generic) else value for value in targets]
    several = [i for i, value in enumerate(values) if is_list(value)]
    if several:
        raise DataError(
            f"The target of example {several[0]} holds several values; expected one class an "
            "example. For several labels or numbers write from_arrays(inputs).with_outputs(values, names, task)."
        )
    _require_labels(values)
    numbers = [None if isinstance(v, (str, bool, np.bool_)) else number(v) for v in values]
    if not values or None in numbers:
        return class_names(values), labels
    places = [value for value in numbers if value is not None]
    infinite = [i for i, place in enumerate(places) if not np.isfinite(place)]
    if infinite:
        raise DataError(
            f"The target of example {infinite[0]} is infinite; expected class numbers from 0, or class names."
        )
    if any(place != int(place) for place in places):
        raise DataError(
            f"The targets are decimals such as {next(p for p in places if p != int(p)):g}; expected class names, or "
            "class numbers. For regression write from_arrays(inputs).with_outputs(values, names, 'regression')."
        )
    low, high = int(min(places)), int(max(places))
    if low < 0 or (labels is not None and high >= len(labels)):
        known = "numbers from 0" if labels is None else f"numbers from 0 to {len(labels) - 1}"
        hint = " Where -1 stands for no label, leave these examples out." if low == -1 else ""
        raise DataError(f"The class numbers run from {low} to {high}; expected {known}.{hint}")
    if labels is None and high >= _MOST_EMPTY + 2 * len(set(places)):
        raise DataError(
            f"The class numbers run up to {high}, but only {len(set(places))} of them occur. Where the largest stands "
            "for no label, leave these examples out; if the others are classes without examples, name all classes "
            "with labels=[…]."
        )
    order = [str(i) for i in range(high + 1)] if labels is None else list(labels)
    return [order[int(place)] for place in places], order


def _require_labels(values: Sequence[Any]) -> None:
    bare = [i for i, value in enumerate(values) if is_missing(value)]
    if bare:
        raise DataError(
            f"{len(bare)} of {len(values)} targets are missing: that of example {bare[0]} is {values[bare[0]]!r}. Give "
            "these examples labels or leave them out."
        )
