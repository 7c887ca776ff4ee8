"""Safetensors written piece by piece, each tensor made when its turn comes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.convert.readers.safetensors_file import DTYPES
from flaxtl.errors import CheckpointError

NAMES = {dtype.name: name for name, dtype in DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class Piece:
    """A tensor to write.

    Attributes:
        name: in the file.
        shape: of the array.
        dtype: one of those that safetensors has a name for.
        make: returns the array.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    make: Callable[[], np.ndarray]


def write_safetensors(file: Path, pieces: Sequence[Piece], about: Mapping[str, str] | None = None) -> int:
    """Writes a file whole or not at all, and returns its size.

    Args:
        file: the place; what is there is replaced.
        pieces: the tensors.
        about: further metadata.

    Raises:
        CheckpointError: the file cannot be written, or what a piece makes has another shape than it said.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(about or {})}}
    at = 0
    # Larger numbers first, as the format's own writer does, so that all are aligned.
    pieces = sorted(pieces, key=lambda p: (-p.dtype.itemsize, p.name))
    for piece in pieces:
        end = at + math.prod(piece.shape) * piece.dtype.itemsize
        header[piece.name] = {"dtype": NAMES[piece.dtype.name], "shape": list(piece.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    partial = file.with_name(f".{file.name}.partial")
    try:
        with open(partial, "wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for piece in pieces:
                array = piece.make()
                if (array.shape, array.dtype) != (piece.shape, piece.dtype):
                    raise CheckpointError(
                        f"{piece.name} became {array.dtype.name}{list(array.shape)} on its way to {file}; "
                        f"expected {piece.dtype.name}{list(piece.shape)}."
                    )
                stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        partial.replace(file)
    except OSError as error:
        raise CheckpointError(
            f"{file} could not be written: {error}. Free some space or choose another place."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size
