"""From what a user names to a source: a folder, a table, a published set, or the digits that scikit-learn brings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow

from flaxtl.card import Task
from flaxtl.data.arrays import from_arrays
from flaxtl.data.audio import Clip
from flaxtl.data.columns import Reading, joined, parts_of
from flaxtl.data.folder import BadFile, from_folder
from flaxtl.data.hub_sets import from_hf
from flaxtl.data.parquet import from_parquet, has_parquet
from flaxtl.data.selecting import HOLE, select
from flaxtl.data.source import Source, Splits
from flaxtl.data.tables import TABLES, from_csv, from_jsonl
from flaxtl.data.tensorflow_sets import from_tfds
from flaxtl.data.unlabelled import to_predict
from flaxtl.errors import DataError, listed
from flaxtl.places import expanded

_PICTURES = (bytes, pillow.Image)
_SOUNDS = (bytes, Clip)


def open_source(
    spec: str | Path,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    task: Task | None = None,
    split: str | None = None,
    group_by: str | None = None,
    test_groups: Sequence[str] = (),
    classes: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    on_bad_file: BadFile = "error",
) -> Source | Splits:
    """Opens labelled data by its name.

    Args:
        spec: a folder, a .csv, .tsv, .jsonl or .parquet file, tfds:name[/config][:version] for a set that
            tensorflow-datasets has prepared, hf:owner/name[:config] for one of the Hugging Face hub or a folder that
            its library wrote, or "digits" for scikit-learn's 1,797 digits of 8×8.
        input_column: of a table; "a,b" for pairs of texts or several numbers.
        label_column: of a table; "a,b" for several outputs. Of a folder, a pattern of paths with {} for the class.
        task: what the labels are; by default one class an example.
        split: of a set with several, the one to take, or "train=…,test=…".
        group_by: a column of a table, or a pattern of paths with {} for the group.
        test_groups: groups that become the test part.
        classes: see `renamed`.
        limit: see `limited`; of several parts the training part alone is limited.
        seed: of the limit.
        on_bad_file: what to do with an unreadable file.

    Raises:
        DataError: it does not exist or cannot be read as labelled data.

    Example:
        >>> len(open_source('digits', limit=100))
        100
    """
    reading = Reading(input_column, label_column, group_by, task or "classification", on_bad_file)
    found, grouped = _opened(spec, reading, split)
    by_path = None if grouped else group_by
    return select(found, group_by=by_path, test_groups=test_groups, classes=classes, limit=limit, seed=seed)


def _opened(spec: str | Path, reading: Reading, split: str | None) -> tuple[Source | Splits, bool]:
    """Returns the data and whether its groups are in it already."""
    path, name = expanded(spec), str(spec)
    kind, colon, rest = name.partition(":")
    if colon and kind in _SETS and not path.exists():
        return _SETS[kind](rest, split=split, reading=reading), True
    if path.suffix.lower() == ".parquet" or has_parquet(path):
        return from_parquet(path, split=split, reading=reading), True
    if path.suffix.lower() in TABLES:
        read = from_csv if path.suffix.lower() in (".csv", ".tsv") else from_jsonl
        return with_split(read(path, **dataclasses.asdict(reading)), split, name), True
    if path.is_file():
        raise DataError(
            f"{path} is neither a folder nor a .csv, .tsv, .jsonl or .parquet table, which is what labelled data comes "
            "in."
        )
    if reading.task != "classification":
        raise DataError(f"{spec} says one class an example. For `task={reading.task!r}` give a table.")
    if name == "digits" and not path.exists():
        return with_split(digits(), split, name), False
    pattern = reading.label_column if reading.label_column and HOLE in reading.label_column else None
    found = from_folder(path, classes_by=pattern, on_bad_file=reading.on_bad_file)
    return with_split(found, split, str(path)), False


_SETS: dict[str, Callable[..., Source | Splits]] = {"tfds": from_tfds, "hf": from_hf}


def with_split(data: Source | Splits, split: str | None, place: str) -> Source | Splits:
    """Returns the parts that a user names of data that is read already; see `columns.parts_of`.

    Raises:
        DataError: there is no such part.
    """
    if split is None:
        return data
    parts = data.parts if isinstance(data, Splits) else {"all": data}
    chosen = parts_of(place, list(parts), split)
    sliced = [name for name in chosen.values() if name not in parts]
    if sliced:
        raise DataError(f"{place} cannot be cut at {sliced[0]!r}; expected one of {listed(parts)}. See `limit`.")
    return joined({part: parts[name] for part, name in chosen.items()})


def digits() -> Source:
    """Returns scikit-learn's handwritten digits (UCI, Alpaydin and Kaynak 1998): 1,797 grey pictures of 8×8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.round(found.images * (255.0 / 16.0)).astype(np.uint8)
    return from_arrays(pictures, found.target, labels=[str(i) for i in range(10)])


def as_source(data: Any, modality: str) -> Source:
    """Returns what `predict` was given as a source.

    Args:
        data: a Source, a path or several (of tables too), arrays [n, …] or a list of them, or (where the card says
            pictures or sound) Pillow pictures, `Clip`s or files' bytes; strings are text where the card says text.
        modality: the card's.

    Raises:
        DataError: it is nothing of these, or empty.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, Splits):
        raise DataError("The data has several parts; choose one of them, such as data.test.")
    kind = type(data).__name__
    if isinstance(data, (str, Path, bytes, pillow.Image, Clip)):
        data = [data]
    if hasattr(data, "__array__"):
        return _of_array(np.asarray(data), modality)
    if isinstance(data, Iterable):
        entries = list(data)
        if not entries:
            raise DataError("There is nothing to predict: the list is empty.")
        if modality == "text" and all(isinstance(e, str) or _is_pair(e) for e in entries):
            return Source.of("text", entries)
        if all(isinstance(e, (str, Path)) for e in entries):
            return to_predict(entries, modality=modality)
        if modality == "image" and all(hasattr(e, "__array__") or isinstance(e, _PICTURES) for e in entries):
            return Source.of("image", entries)
        if modality == "audio" and all(hasattr(e, "__array__") or isinstance(e, _SOUNDS) for e in entries):
            return Source.of("audio", entries)
        if all(hasattr(e, "__array__") for e in entries):
            return Source.of("array", entries)
    raise DataError(f"{kind} cannot be used as data; expected paths, arrays, or a Source.")


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, (tuple, list)) and len(entry) == 2 and all(isinstance(part, str) for part in entry)


def _of_array(data: np.ndarray, modality: str) -> Source:
    if modality == "audio":
        if data.ndim == 1:
            raise DataError(f"An array of shape {data.shape} looks like one clip; expected several. Give it in a list.")
        return from_arrays(data, modality="audio")
    if modality != "image":
        return from_arrays(data, modality="array")
    if data.ndim == 3 and data.shape[-1] in (1, 3, 4):
        raise DataError(f"An array of shape {data.shape} looks like one picture; expected several. Give it in a list.")
    return from_arrays(data)
