"""Files of safetensors: a header that says where each tensor lies, and their bytes.

The format is described at https://huggingface.co/docs/safetensors. The header is read here and not by the safetensors
package because that knows no bfloat16 for NumPy and maps whole files.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flaxtl.convert.readers.slices import cut_off, read_slice
from flaxtl.convert.weights import Tensor
from flaxtl.errors import CheckpointError

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(bool),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}
# The longest header that the reference implementation reads.
LONGEST_HEADER = 100_000_000


def read(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file; only its header is read.

    Raises:
        CheckpointError: the file is damaged, cut off, or holds tensors of an unknown kind.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise cut_off(path, f"its header should be {length:,} bytes long and the file is {size:,}")
        text = file.read(length)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise cut_off(path, f"its header is not readable JSON ({error})") from error
    if not isinstance(header, dict):
        raise cut_off(path, "its header is not an object")
    header.pop("__metadata__", None)
    start = 8 + length
    spans: list[tuple[int, int]] = []
    found = {name: _tensor(path, name, entry, start, spans) for name, entry in header.items()}
    _check_spans(path, spans, size - start)
    return found


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _tensor(path: Path, name: str, entry: Any, start: int, spans: list[tuple[int, int]]) -> Tensor:
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole:
        raise cut_off(path, f"its header does not say where the tensor {name!r} lies")
    dtype = DTYPES.get(kind)
    if dtype is None:
        raise CheckpointError(
            f"The tensor {name!r} of {path} is of the kind {kind!r}, which flaxtl does not read. "
            "Save it as float32, float16 or bfloat16."
        )
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise cut_off(path, f"the tensor {name!r} is {list(shape)} of {kind} but takes {end - begin:,} bytes")
    spans.append((begin, end))
    return Tensor(shape, dtype, functools.partial(read_slice, path, start + begin, shape, dtype))


def _check_spans(path: Path, spans: list[tuple[int, int]], length: int) -> None:
    """Checks that tensors follow each other without overlap or hole up to the end of the file."""
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise cut_off(path, f"its tensors {'overlap' if begin < at else 'leave a hole'} at byte {begin:,}")
        at = end
    if at != length:
        raise cut_off(path, f"its tensors take {at:,} bytes and {length:,} follow the header")
