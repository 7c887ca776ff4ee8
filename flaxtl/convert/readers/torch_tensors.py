"""PyTorch's number types, storages, and the tensors that are views of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np

# https://docs.pytorch.org/docs/stable/tensors.html and the storage classes of the same names.
STORAGES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("f8"),
    "FloatStorage": np.dtype("f4"),
    "HalfStorage": np.dtype("f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("i8"),
    "IntStorage": np.dtype("i4"),
    "ShortStorage": np.dtype("i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype(bool),
    "ComplexFloatStorage": np.dtype("c8"),
    "ComplexDoubleStorage": np.dtype("c16"),
}
DTYPES: dict[str, np.dtype[Any]] = {
    "float64": np.dtype("f8"),
    "float32": np.dtype("f4"),
    "float16": np.dtype("f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype("i8"),
    "int32": np.dtype("i4"),
    "int16": np.dtype("i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("u8"),
    "uint32": np.dtype("u4"),
    "uint16": np.dtype("u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype(bool),
    "complex64": np.dtype("c8"),
    "complex128": np.dtype("c16"),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "float8_e8m0fnu": np.dtype(ml_dtypes.float8_e8m0fnu),
}
BYTES = np.dtype("u1")


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers that tensors are views of.

    Attributes:
        key: its name in the file.
        dtype: of its numbers; bytes where the tensors say what they are.
        count: of numbers.
        offset: the first number, in a storage that is part of another.
    """

    key: str
    dtype: np.dtype[Any]
    count: int
    offset: int = 0

    def __post_init__(self) -> None:
        sizes = (self.count, self.offset)
        if not isinstance(self.dtype, np.dtype) or not isinstance(self.key, str):
            raise ValueError("a storage is not described as PyTorch does")
        if not all(type(n) is int and 0 <= n < 2**60 for n in sizes):
            raise ValueError("a storage has an impossible size")


@dataclasses.dataclass(frozen=True)
class StridedTensor:
    """A view of a storage: offset and strides in numbers, not bytes."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        lists = (self.shape, self.strides)
        if not isinstance(self.storage, Storage) or not all(isinstance(v, tuple) for v in lists):
            raise ValueError("a tensor is no view of a storage")
        if len(self.shape) != len(self.strides) or not all(
            type(n) is int and 0 <= n < 2**62 for n in (self.offset, *self.shape, *self.strides)
        ):
            raise ValueError("a tensor has impossible sizes")
        held = self.storage.count * self.storage.dtype.itemsize
        needed = (self.offset + self.extent) * self.dtype.itemsize
        if self.extent and needed > held:
            raise ValueError(f"a tensor of {list(self.shape)} reaches beyond its {held:,} bytes")

    @property
    def extent(self) -> int:
        """How many numbers of the storage it spans."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
