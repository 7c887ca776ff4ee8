"""Readers of the files that weights are published in; each gives named tensors that are read one by one."""

from flaxtl.convert.readers.opening import read_weights

__all__ = ["read_weights"]
