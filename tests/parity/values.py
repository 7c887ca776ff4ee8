"""Weights and inputs that both sides make from names alone, so that a fixture need not hold them."""

from __future__ import annotations

import zlib

import numpy as np

# Names of matrices that hold a word which otherwise means an embedding.
_MATRICES = ("proj.weight", ".query.weight")


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a tensor that keeps signals at their size: drawn by the name, scaled by what the name says it is."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    draw = rng.standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        return (0.5 + rng.random(shape, dtype=np.float32)).astype(np.float32)
    if name.endswith(("running_mean", "bias", "beta")):
        return (0.1 * draw).astype(np.float32)
    if len(shape) < 2:  # scales
        return (1.0 + 0.1 * draw).astype(np.float32)
    if any(word in name for word in ("embed", "token", "pos", "query")) and not name.endswith(_MATRICES):
        return (0.5 * draw).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    return (draw / np.sqrt(fan_in)).astype(np.float32)


def inputs(name: str, kind: tuple) -> np.ndarray:
    """Returns an input of a case.

    Args:
        name: what the draw is seeded by.
        kind: ("normal", shape), ("tokens", shape, vocabulary), ("mask", shape), ("types", shape), or ("padded", shape,
            vocabulary, padding's token): tokens where the mask is 1.
    """
    rng = np.random.default_rng(zlib.crc32(f"input of {name}".encode()))
    if kind[0] == "normal":
        return rng.standard_normal(kind[1], dtype=np.float32)
    if kind[0] == "tokens":
        return rng.integers(3, kind[2], kind[1]).astype(np.int32)
    if kind[0] == "types":
        return (np.arange(kind[1][1])[None] >= 2 + np.arange(kind[1][0])[:, None]).astype(np.int32)
    if kind[0] == "padded":
        real = inputs(name, ("mask", kind[1]))
        return np.where(real > 0, inputs(name, ("tokens", *kind[1:3])), kind[3]).astype(np.int32)
    length = kind[1][1]
    real = np.maximum(length - 3 * np.arange(kind[1][0]), 1)  # each row a little shorter than the one before
    return (np.arange(length)[None] < real[:, None]).astype(np.int32)
