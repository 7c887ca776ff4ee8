"""What a model is asked about from Python: paths, texts, pictures, clips, arrays, one of them or many."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image as pillow

from flaxtl.card import Columns
from flaxtl.data.arrays import from_arrays
from flaxtl.data.audio import Clip
from flaxtl.data.cells import is_missing
from flaxtl.data.folder import modality_of
from flaxtl.data.source import Source, Splits
from flaxtl.data.tables import TABLES
from flaxtl.data.unlabelled import to_predict
from flaxtl.errors import ConfigError, DataError, listed
from flaxtl.places import expanded

_PICTURES = (bytes, pillow.Image)
_SOUNDS = (bytes, Clip)
# A picture is wider than this; what is narrower may be several grey ones.
_NARROW = 4


def as_source(data: Any, modality: str, *, columns: Columns | None = None, shape: Sequence[int] = ()) -> Source:
    """Returns what `predict` was given as a source.

    Args:
        data: a Source, a path or several (of tables too), arrays [n, …] or a list of them, or (where the card says
            pictures or sound) one array of a picture [height, width(, channels)] or of a clip [samples(, channels)],
            Pillow pictures, `Clip`s or files' bytes; strings are text where the card says text.
        modality: the card's.
        columns: of the table that the model was trained on, see `to_predict`.
        shape: of one example, where the card says plain numbers of a known shape.

    Raises:
        DataError: it is nothing of these, empty, or a text that is the name of a file.

    Example:
        >>> len(as_source(np.zeros((32, 32, 3)), 'image')), as_source(['good', 'bad'], 'text').raw
        (1, ['good', 'bad'])
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, Splits):
        raise DataError("The data has several parts; choose one of them, such as data.test.")
    _refuse(data, modality)
    data = data.read() if isinstance(data, io.IOBase) else data
    if isinstance(data, (str, PurePath, bytes, pillow.Image, Clip)):
        data = [data]
    if hasattr(data, "__array__"):
        array = np.asarray(data)
        if array.dtype.kind in "OUT" and array.ndim == 1:  # names of files, texts, or arrays of several shapes
            data = list(array)
        else:
            return _of_array(array, modality, tuple(shape))
    if not isinstance(data, Iterable):
        raise _not_data(data, modality)
    return _of_entries(list(data), data, modality, columns)


def _refuse(data: Any, modality: str) -> None:
    """Refuses what has no order of examples, or whose columns have names, unless these are plain numbers."""
    if isinstance(data, (Mapping, set, frozenset)):
        raise DataError(f"{type(data).__name__} cannot be used as data; give a list of its examples.")
    frame = hasattr(data, "columns") and hasattr(data, "iloc")
    if hasattr(data, "column_names") or (frame and modality != "array"):
        raise DataError(
            f"{type(data).__name__} cannot be used as data; give a list of one column's values, such as "
            "list(data['text']), or of several columns their values as an array."
        )


def _of_entries(entries: list[Any], data: Any, modality: str, columns: Columns | None) -> Source:
    if not entries:
        raise DataError("There is nothing to predict: the list is empty.")
    missing = [i for i, entry in enumerate(entries) if not isinstance(entry, str) and is_missing(entry)]
    if missing:
        raise DataError(
            f"Entry {missing[0]} of the list is {entries[missing[0]]!r}; {len(missing)} of {len(entries)} entries are "
            "missing. Leave them out."
        )
    if modality == "text" and all(isinstance(e, str) or _is_pair(e) for e in entries):
        _refuse_names(entries)
        return Source.of("text", [str(e) if isinstance(e, str) else (str(e[0]), str(e[1])) for e in entries])
    if all(isinstance(e, (str, PurePath)) for e in entries):
        return to_predict([Path(e) for e in entries], modality=modality, columns=columns)
    entries = [entry.read() if isinstance(entry, io.IOBase) else entry for entry in entries]
    for kind, others in (("image", _PICTURES), ("audio", _SOUNDS), ("array", ())):
        if modality == kind and all(hasattr(e, "__array__") or isinstance(e, others) for e in entries):
            return Source.of(kind, entries)
    if all(hasattr(e, "__array__") for e in entries):
        return Source.of("array", entries)
    raise _not_data(data, modality)


_EXPECTED = {
    "image": "paths, arrays of pictures, Pillow pictures, files' bytes",
    "audio": "paths, arrays of clips, flaxtl.data.Clip, files' bytes",
    "text": "texts, or paths as pathlib.Path",
}


def _not_data(data: Any, modality: str) -> DataError:
    kind = type(data).__name__
    inner = sorted({type(entry).__name__ for entry in data}) if isinstance(data, (list, tuple)) else []
    of = f" of {listed(inner)}" if inner else ""
    return DataError(
        f"{kind}{of} cannot be used as data; expected {_EXPECTED.get(modality, 'paths, arrays')}, or a Source."
    )


def _refuse_names(entries: Sequence[Any]) -> None:
    """Refuses texts that are names of files: a string is a text, and nothing would say that the file was not read.

    Raises:
        DataError: all entries name files or folders that exist, or end like files.
    """
    if not all(isinstance(entry, str) and _is_name(entry) for entry in entries):
        return
    name = entries[0]
    there = "is a file or folder" if _exists(name) else "looks like the name of a file"
    call = f"Path({name!r})" if len(entries) == 1 else f"[Path({name!r}), …]"
    raise DataError(
        f"{name!r} {there}, but a string is read as a text here. To read the file write predict({call}) with "
        f"pathlib.Path; for the text itself write predict(flaxtl.data.Source.of('text', [{name!r}]))."
    )


def _is_name(text: str) -> bool:
    ending = PurePath(text).suffix.lower()
    return _exists(text) or (
        not any(c.isspace() for c in text) and (ending in (*TABLES, ".parquet") or modality_of(text) is not None)
    )


def _exists(text: str) -> bool:
    try:
        return bool(text.strip()) and expanded(text).exists()
    except (OSError, ValueError, ConfigError):  # too long for a name, a zero byte, an unknown user
        return False


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, (tuple, list)) and len(entry) == 2 and all(isinstance(part, str) for part in entry)


def _of_array(data: np.ndarray, modality: str, shape: tuple[int, ...]) -> Source:
    if data.dtype.kind not in "buif":
        raise DataError(f"An array of {data.dtype} cannot be used as data; expected numbers.")
    if data.ndim == 0:
        raise DataError(f"The single number {data} cannot be used as data; expected an array.")
    if len(data) == 0:
        raise DataError("There is nothing to predict: the array is empty.")
    if modality == "audio":
        one = data.ndim == 1 or (data.ndim == 2 and data.shape[1] <= 2 < data.shape[0])
        return Source.of("audio", [data]) if one else from_arrays(data, modality="audio")
    if modality != "image":
        one = bool(shape) and data.shape == shape
        return from_arrays(data[None] if one else data, modality="array")
    if data.ndim == 3 and data.shape[-1] in (1, 3, 4):
        if data.shape[1] <= _NARROW:
            raise DataError(
                f"An array of shape {data.shape} may be one picture or several narrow ones. Give a list of pictures, "
                "or [n, height, width, channels]."
            )
        return from_arrays(data[None])
    return from_arrays(data[None] if data.ndim == 2 else data)
