"""From what a user names to a source: a folder, a table, or the digits that scikit-learn brings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow

from flaxtl.data.arrays import from_arrays
from flaxtl.data.audio import Clip
from flaxtl.data.folder import BadFile, from_files, from_folder
from flaxtl.data.source import Source, Splits
from flaxtl.data.tables import from_csv, from_jsonl
from flaxtl.errors import DataError

_PICTURES = (bytes, pillow.Image)
_SOUNDS = (bytes, Clip)


def open_source(
    spec: str | Path,
    *,
    input_column: str | None = None,
    label_column: str | None = None,
    on_bad_file: BadFile = "error",
) -> Source | Splits:
    """Opens labelled data by its name.

    Args:
        spec: a folder, a .csv, .tsv or .jsonl file, or "digits" for scikit-learn's 1,797 digits of 8×8.
        input_column: of a table.
        label_column: of a table.
        on_bad_file: what to do with an unreadable file.

    Raises:
        DataError: it does not exist or cannot be read as labelled data.

    Example:
        >>> len(open_source('digits'))
        1797
    """
    path = Path(spec).expanduser()
    if str(spec) == "digits" and not path.exists():
        return digits()
    columns: Any = {"input_column": input_column, "label_column": label_column, "on_bad_file": on_bad_file}
    if path.suffix.lower() in (".csv", ".tsv"):
        return from_csv(path, **columns)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return from_jsonl(path, **columns)
    if path.is_file():
        raise DataError(
            f"{path} is neither a folder nor a .csv, .tsv or .jsonl table, which is what labelled data comes in."
        )
    return from_folder(path, on_bad_file=on_bad_file)


def digits() -> Source:
    """Returns scikit-learn's handwritten digits (UCI, Alpaydin and Kaynak 1998): 1,797 grey pictures of 8×8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.round(found.images * (255.0 / 16.0)).astype(np.uint8)
    return from_arrays(pictures, found.target, labels=[str(i) for i in range(10)])


def as_source(data: Any, modality: str) -> Source:
    """Returns what `predict` was given as a source.

    Args:
        data: a Source, a path or several, arrays [n, …] or a list of them, or (where the card says pictures or sound)
            Pillow pictures, `Clip`s or the bytes of files; strings are text where the card says text.
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
        if modality == "text" and all(isinstance(e, str) for e in entries):
            return Source.of("text", entries)
        if all(isinstance(e, (str, Path)) for e in entries):
            return from_files(entries, modality=modality)
        if modality == "image" and all(hasattr(e, "__array__") or isinstance(e, _PICTURES) for e in entries):
            return Source.of("image", entries)
        if modality == "audio" and all(hasattr(e, "__array__") or isinstance(e, _SOUNDS) for e in entries):
            return Source.of("audio", entries)
        if all(hasattr(e, "__array__") for e in entries):
            return Source.of("array", entries)
    raise DataError(f"{kind} cannot be used as data; expected paths, arrays, or a Source.")


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
