"""Memory for large arrays that goes back to the system as soon as an array is no longer used.

The C library keeps freed blocks of some megabytes for later, a pool a thread, so that a conversion that streams one
tensor after the other would still grow by many times the largest one.
"""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np

_LARGE = 1 << 18


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Returns an array to be filled, like `numpy.empty`; a large one has memory of its own.

    Example:
        >>> empty((1000, 1000), np.dtype('float32')).shape
        (1000, 1000)
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    return np.frombuffer(mmap.mmap(-1, size), np.uint8).view(dtype).reshape(shape)


def contiguous(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns an array as C-contiguous numbers of a dtype, itself if it is that already.

    Example:
        >>> contiguous(np.arange(3)[::2], 'float32')
        array([0., 2.], dtype=float32)
    """
    dtype = np.dtype(dtype)
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    made = empty(array.shape, dtype)
    np.copyto(made, array, casting="unsafe")
    return made
