"""What the namings of vision transformers have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from flaxtl.convert.mapping import Operation, Rule, layer_norm, linear
from flaxtl.errors import CheckpointError

# DeiT's two heads answer with the mean of their logits. Over the class and the distillation token, one after the other,
# that is one dense layer: both kernels stacked and halved, which is exact and is undone exactly.
STACK_HALVES = Operation(
    "transpose, stack, halve",
    lambda arrays: np.concatenate([np.asarray(a, np.float32).T * np.float32(0.5) for a in arrays]),
    lambda leaf, n: [part.T * leaf.dtype.type(2) for part in np.split(leaf, n)],
)
# Two biases become one, so the way back cannot tell them apart: both come back as their mean, which says the same, and
# converts to the same leaf to the bit.
MEAN = Operation(
    "mean",
    lambda arrays: np.mean(np.asarray(arrays, np.float64), axis=0).astype(np.float32),
    lambda leaf, n: [leaf] * n,
    exact=False,
)


def distilled_head(first: str, second: str) -> list[Rule]:
    """Rules of DeiT's two output layers as one."""
    return [
        Rule((f"{first}.weight", f"{second}.weight"), "head/kernel", STACK_HALVES),
        Rule((f"{first}.bias", f"{second}.bias"), "head/bias", MEAN),
    ]


def mlp(source: str, target: str, norm: str = "norm") -> list[Rule]:
    """Rules of the feed-forward part of attention pooling and its normalisation."""
    return [
        *layer_norm(f"{source}.{norm}", f"{target}/norm"),
        *(rule for n in (1, 2) for rule in linear(f"{source}.mlp.fc{n}", f"{target}/mlp/fc{n}")),
    ]


def grid_of(
    tokens: int, prefixes: Iterable[int], patch: tuple[int, int], pixels: tuple[int, int] | None = None
) -> tuple[tuple[int, int], int]:
    """Returns the grid that position embeddings are for, and how many tokens before it have a position.

    Args:
        tokens: position embeddings there are.
        prefixes: how many of them may be of tokens before the patches.
        patch: height and width of a patch.
        pixels: the size of the picture, as the source's settings say it; without one the grid must be square.

    Raises:
        CheckpointError: no grid fits, or two do.

    Example:
        >>> grid_of(197, (0, 1), (16, 16)), grid_of(196, (0, 1), (16, 16)), grid_of(13, (0, 1), (8, 8), (32, 24))
        (((14, 14), 1), ((14, 14), 0), ((4, 3), 1))
    """
    allowed = sorted(set(prefixes))
    if pixels is not None:
        grid = pixels[0] // patch[0], pixels[1] // patch[1]
        rest = tokens - grid[0] * grid[1]
        if rest in allowed:
            return grid, rest
    square = [(math.isqrt(tokens - p), p) for p in allowed if tokens > p and math.isqrt(tokens - p) ** 2 == tokens - p]
    if len(square) == 1:
        (side, rest), *_ = square
        return (side, side), rest
    of = f" of pictures of {pixels[0]}×{pixels[1]} pixels" if pixels else ""
    raise CheckpointError(
        f"{tokens} position embeddings fit {'no' if not square else 'more than one'} grid of {patch[0]}×{patch[1]} "
        f"patches{of} with {' or '.join(map(str, allowed))} further tokens. "
        "Put a config.json beside the weights that says the picture's size."
    )


def pair(value: Any, default: int) -> tuple[int, int]:
    """Returns height and width from a number or two.

    Example:
        >>> pair(16, 0), pair([8, 4], 0), pair(None, 14)
        ((16, 16), (8, 4), (14, 14))
    """
    if isinstance(value, (list, tuple)):
        return int(value[0]), int(value[1])
    side = default if value is None else int(value)
    return side, side
