"""RandAugment (Cubuk et al. 2020): a number of changes, drawn evenly from a fixed list, all of one strength."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image as pillow
from PIL import ImageEnhance, ImageOps

STRONGEST = 10.0
Change = Callable[[pillow.Image], pillow.Image]
# What the strongest change is, after the paper's code: degrees, slope, share of the side, share of a factor, bits.
_DEGREES, _SLOPE, _SHIFT, _FACTOR, _BITS = 30.0, 0.3, 0.45, 0.9, 4


def rand_augment(row: np.ndarray, rng: np.random.Generator, operations: int, magnitude: float) -> np.ndarray:
    """Applies so many random changes, one after the other.

    The list is the paper's: nothing, stretched contrast, equalised brightness, turned, sheared and moved along either
    axis, inverted above a threshold, fewer bits, and more or less colour, contrast, brightness, sharpness. Stronger
    always changes more, for thresholds and bits too (there these run backwards). Nothing is mirrored. What moves in at
    the border is black.

    Args:
        row: uint8 [height, width, channels].
        rng: of all draws.
        operations: how many changes.
        magnitude: from 0 to 10.

    Returns:
        uint8 [height, width, channels].

    Example:
        >>> row = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
        >>> rand_augment(row, np.random.default_rng(0), 2, 9.0).shape
        (8, 8, 1)
    """
    for _ in range(operations):
        change = _drawn(rng, magnitude / STRONGEST, row.shape[1], row.shape[0])
        if row.shape[-1] == 3:
            row = np.asarray(change(pillow.fromarray(row)))
        else:
            planes = [np.asarray(change(pillow.fromarray(plane))) for plane in np.moveaxis(row, -1, 0)]
            row = np.stack(planes, axis=-1)
    return row


def _drawn(rng: np.random.Generator, strength: float, width: int, height: int) -> Change:
    """Draws one change; strength from 0 to 1."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    slope, factor = sign * _SLOPE * strength, 1.0 + sign * _FACTOR * strength
    angle = math.radians(sign * _DEGREES * strength)
    across, down = sign * _SHIFT * strength * width, sign * _SHIFT * strength * height
    turned, sheared, leant = (
        ((math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))),
        ((1.0, slope), (0.0, 1.0)),
        ((1.0, 0.0), (slope, 1.0)),
    )
    straight = ((1.0, 0.0), (0.0, 1.0))
    changes: tuple[Change, ...] = (
        lambda picture: picture,
        ImageOps.autocontrast,
        ImageOps.equalize,
        lambda picture: _moved(picture, turned),
        lambda picture: _moved(picture, sheared),
        lambda picture: _moved(picture, leant),
        lambda picture: _moved(picture, straight, (across, 0.0)),
        lambda picture: _moved(picture, straight, (0.0, down)),
        lambda picture: ImageOps.solarize(picture, round(256 * (1.0 - strength))),
        lambda picture: ImageOps.posterize(picture, 8 - round(_BITS * strength)),
        lambda picture: ImageEnhance.Color(picture).enhance(factor),
        lambda picture: ImageEnhance.Contrast(picture).enhance(factor),
        lambda picture: ImageEnhance.Brightness(picture).enhance(factor),
        lambda picture: ImageEnhance.Sharpness(picture).enhance(factor),
    )
    return changes[int(rng.integers(len(changes)))]


def _moved(
    picture: pillow.Image,
    matrix: tuple[tuple[float, float], tuple[float, float]],
    move: tuple[float, float] = (0.0, 0.0),
) -> pillow.Image:
    """Takes each output pixel from matrix · (pixel - centre) + centre + move."""
    (a, b), (c, d) = matrix
    x, y = picture.size[0] / 2, picture.size[1] / 2
    numbers = (a, b, x - a * x - b * y + move[0], c, d, y - c * x - d * y + move[1])
    return picture.transform(picture.size, pillow.Transform.AFFINE, numbers, pillow.Resampling.BILINEAR)
