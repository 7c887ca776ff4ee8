"""Noise in the space of frozen features, as further examples for a head (FroFA)."""

from __future__ import annotations

import numpy as np

COPIES = 4


def brightened(features: np.ndarray, strength: float, *, copies: int = COPIES, seed: int = 0) -> list[np.ndarray]:
    """Returns copies of features whose brightness is changed, channel by channel and example by example.

    Features are mapped to 0…1 by each channel's least and largest value, a number drawn from -strength to strength is
    added, the sum is cut to 0…1, and mapped back (Bär et al. 2024, Frozen Feature Augmentation for Few-Shot Image
    Classification: brightness in its channel-wise form). There the examples of a batch are changed anew each time;
    here so many copies are drawn once, so that a head can be solved on them.

    Args:
        features: float [n, d].
        strength: as a share of a channel's range.
        copies: how many.
        seed: of the draws.

    Returns:
        float32 [n, d] each.

    Example:
        >>> x = np.array([[0.0, 5.0], [1.0, 5.0]])
        >>> [copy] = brightened(x, 0.5, copies=1)
        >>> bool((copy[:, 1] == 5.0).all()), bool(((copy >= 0) & (copy <= 5)).all())
        (True, True)
    """
    low, high = features.min(0), features.max(0)
    scale = high - low
    rng = np.random.default_rng([seed, 3])
    unit = (features - low) / np.where(scale > 0, scale, 1.0)
    changes = (rng.uniform(-strength, strength, features.shape) for _ in range(copies))
    return [(low + scale * np.clip(unit + change, 0.0, 1.0)).astype(np.float32) for change in changes]
