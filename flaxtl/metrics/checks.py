"""What is required of predicted probabilities before anything is computed from them."""

from __future__ import annotations

import numpy as np

from flaxtl.errors import DataError


def checked_probabilities(
    probabilities: np.ndarray, targets: np.ndarray | None = None, *, unknown: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities float64 [n, c] and targets int64 [n], or says what is wrong with them.

    Args:
        probabilities: [n, c], numbers from 0 to 1.
        targets: [n], class numbers; None leaves them unchecked and returns zeros.
        unknown: whether rows of NaN are allowed, for examples that were never held out.

    Raises:
        DataError: shapes that do not fit, NaN, numbers outside 0 to 1, or targets that are no class numbers.
    """
    p = np.asarray(probabilities, np.float64)
    y = np.zeros(len(p), np.int64) if targets is None else np.asarray(targets)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise DataError(f"Found probabilities {p.shape} and targets {y.shape}; expected [n, classes] and [n].")
    known = ~np.isnan(p).any(1) if unknown else np.ones(len(p), bool)
    rows = p[known]
    if not ((rows >= 0) & (rows <= 1.0 + 1e-6)).all():
        raise DataError("The probabilities hold NaN or numbers outside 0 to 1.")
    if known.any() and not ((y[known] >= 0) & (y[known] < p.shape[1]) & (y[known] % 1 == 0)).all():
        raise DataError(f"The targets hold other numbers than those of the classes, 0 to {p.shape[1] - 1}.")
    return p, np.where(known, y, 0).astype(np.int64)
