"""Bytes of files: a tensor's alone, a file's checksum."""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.errors import CheckpointError


def read_slice(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Reads an array that lies in a file as it is in memory.

    It is read and not mapped, so that no page of the file stays in this process's memory.

    Args:
        path: the file.
        offset: of its first byte.
        shape: of the array.
        dtype: of the array, in the file's byte order.

    Raises:
        CheckpointError: the file ends before the array does.
    """
    flat = np.empty(math.prod(shape), dtype)
    with open(path, "rb") as file:
        file.seek(offset)
        count = file.readinto(flat.view(np.uint8).data)
    if count != flat.nbytes:
        raise CheckpointError(
            f"{path} ended {flat.nbytes - count:,} bytes too early: it was cut off or changed while it was read. "
            "Fetch it again."
        )
    return flat.reshape(shape)


def sha256(path: Path) -> str:
    """Returns a file's SHA-256, computed once as long as the file stays as it is."""
    about = path.stat()
    return _sha256(path, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, *_stamp: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cut_off(path: Path, why: object) -> CheckpointError:
    """Returns the error for a file that is not whole or not what it says it is."""
    return CheckpointError(f"{path} is damaged or was cut off: {str(why).rstrip('.')}. Fetch it again.")
