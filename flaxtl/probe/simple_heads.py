"""Heads without iterations: nearest class mean and nearest neighbours for one or two shots, and ridge."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from flaxtl.errors import ConfigError, DataError

SCALINGS = ("unit", "root", "standard", "none")


def unit_length(features: np.ndarray) -> np.ndarray:
    """Divides each row by its length; rows of zeros stay zeros.

    Example:
        >>> unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(length > 0, length, 1.0)


def root_length(features: np.ndarray) -> np.ndarray:
    """Takes each value's square root, keeping its sign, and divides each row by its length (Perronnin et al. 2010).

    Example:
        >>> root_length(np.array([[9.0, -16.0], [0.0, 0.0]])).tolist()
        [[0.6, -0.8], [0.0, 0.0]]
    """
    return unit_length(np.sign(features) * np.sqrt(np.abs(features)))


def scale(features: np.ndarray, scaling: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales features as a head is to see them.

    Args:
        features: float32 [n, d].
        scaling: "unit" (each row has length one), "root" (each row of square roots has), "standard" (each feature has
            mean 0 and variance 1, and a constant one becomes 0) or "none".

    Returns:
        (scaled float32 [n, d], shift float64 [d], factor float64 [d]); but for "unit" and "root", which are no affine
        maps, scaled = (features - shift) · factor.

    Example:
        >>> scale(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32), 'standard')[0].tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    d = features.shape[1]
    if scaling != "standard":
        length = {"unit": unit_length, "root": root_length}.get(scaling)
        return features if length is None else length(features), np.zeros(d), np.ones(d)
    wide = features.astype(np.float64)
    mean, spread = wide.mean(0), wide.std(0)
    factor = np.where(spread > 1e-6 * np.abs(mean) + 1e-30, 1.0 / np.maximum(spread, 1e-30), 0.0)
    return ((wide - mean) * factor).astype(np.float32), mean, factor


def nearest_class_mean(
    features: np.ndarray, targets: np.ndarray, classes: int, *, sample_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the dense layer on unit-length features whose largest output is the nearest class mean's.

    ‖x - m‖² = ‖x‖² - 2 (x·m - ‖m‖²/2), so m is a column of the kernel and -‖m‖²/2 its bias (Mensink et al.
    2013, with one metric for all).

    Args:
        features: float [n, d]; brought to unit length here.
        targets: int [n].
        classes: number of classes; one without examples is never the nearest.
        sample_weight: float [n], not negative.

    Returns:
        (kernel float32 [d, classes], bias float32 [classes]) for unit-length features.

    Example:
        >>> kernel, bias = nearest_class_mean(np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([0, 1]), 2)
        >>> (np.array([[1.0, 0.0]]) @ kernel + bias).argmax(-1).tolist()
        [0]
    """
    unit = unit_length(np.asarray(features, np.float64))
    weights = np.ones(len(unit)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    member = np.eye(classes)[np.asarray(targets)] * weights[:, None]
    total = member.sum(0)
    means = member.T @ unit / np.where(total > 0, total, 1.0)[:, None]
    bias = -0.5 * np.square(means).sum(1)
    bias[total == 0] = -4.0  # outputs of real classes lie between -3/2 and 1/2
    return means.T.astype(np.float32), bias.astype(np.float32)


def nearest_neighbours(
    features: np.ndarray,
    targets: np.ndarray,
    classes: int,
    queries: np.ndarray,
    *,
    k: int = 1,
    temperature: float = 0.07,
) -> np.ndarray:
    """Returns class probabilities by the k most similar examples under the cosine.

    Each neighbour votes with exp(cosine / temperature) (Wu et al. 2018).

    Args:
        features: float [n, d] of the labelled examples.
        targets: int [n].
        classes: number of classes.
        queries: float [m, d].
        k: neighbours that vote; reduced to n.
        temperature: how quickly votes lose weight with distance.

    Returns:
        float32 [m, classes], rows sum to 1.

    Raises:
        ConfigError: k is below 1 or the temperature is not above 0.

    Example:
        >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
        >>> nearest_neighbours(x, y, 2, np.array([[5.0, 1.0]])).tolist()
        [[1.0, 0.0]]
    """
    if k < 1 or temperature <= 0:
        raise ConfigError(f"k is {k} and the temperature {temperature}; expected at least 1 and above 0.")
    near = unit_length(np.asarray(queries, np.float32)) @ unit_length(np.asarray(features, np.float32)).T
    k = min(k, near.shape[1])
    order = np.argsort(-near, axis=1, kind="stable")[:, :k]
    similar = np.take_along_axis(near, order, 1)
    votes = np.exp((similar - similar[:, :1]) / temperature)
    probabilities = np.zeros((len(near), classes), np.float32)
    np.add.at(probabilities, (np.arange(len(near))[:, None], np.asarray(targets)[order]), votes)
    return probabilities / probabilities.sum(1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class RidgePath:
    """Ridge solutions for s strengths.

    Attributes:
        kernel: float32 [s, d, c].
        bias: float32 [s, c].
        held_out: for each held-out set, float32 [s, size, c]: what a solution without it says of it.
    """

    kernel: np.ndarray
    bias: np.ndarray
    held_out: tuple[np.ndarray, ...]


def solve_ridge(
    features: np.ndarray,
    targets: np.ndarray,
    strengths: Sequence[float] | np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    held_out: Sequence[np.ndarray] | None = None,
) -> RidgePath:
    """Solves ridge regression for all strengths from one decomposition, with exact held-out predictions.

    The objective is Σ wᵢ ‖xᵢ W + b - yᵢ‖² / (2 Σ wᵢ) + strength/2 · ‖W‖², so scikit-learn's alpha is
    strength · Σ wᵢ. For a held-out set B with hat matrix H, the residuals of a solution without B are
    (I - H_BB)⁻¹ (y - ŷ)_B; that solution keeps the same alpha.

    Args:
        features: float [n, d].
        targets: float [n, c] or [n]; one-hot rows make a classifier.
        strengths: float [s], above 0.
        sample_weight: float [n], not negative.
        held_out: sets of row numbers; None is each example alone.

    Raises:
        DataError: shapes that do not fit, numbers that are not finite, a strength that is not above 0, no
            weight at all, or a held-out set that has all of it.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> path = solve_ridge(x, 2 * x + 1, [1e-6])
        >>> path.kernel.round(3).item(), path.bias.round(3).item(), path.held_out[0].round(2).item()
        (2.0, 1.0, 1.0)
    """
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    y = y[:, None] if y.ndim == 1 else y
    w = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if (
        len(x) != len(y)
        or len(x) != len(w)
        or not (np.asarray(strengths) > 0).all()
        or not (w >= 0).all()
        or w.sum() <= 0
    ):
        raise DataError(
            f"Found {len(x)} rows of features, {len(y)} targets, {len(w)} weights (sum {w.sum():g}) and "
            f"strengths {list(strengths)}; expected as many of each, weights and strengths above 0."
        )
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise DataError("The features or targets hold NaN or infinite numbers. Leave those examples out.")
    share = w / w.sum()
    sets = np.arange(len(x))[:, None] if held_out is None else held_out
    if any(share[b].sum() > 1.0 - 1e-9 for b in sets):
        raise DataError("A held-out set holds all the weight there is, so nothing is left to solve without it.")
    x_mean, y_mean, root = share @ x, share @ y, np.sqrt(share)[:, None]
    left, singular, right = np.linalg.svd(root * (x - x_mean), full_matrices=False)
    turned = left.T @ (root * (y - y_mean))
    unweighted = (x - x_mean) @ right.T  # [n, r], of every example, also of those without weight
    kernels, biases, parts = [], [], []
    for strength in strengths:
        inner = singular / (singular**2 + strength)
        rotated = inner[:, None] * turned
        kernel = right.T @ rotated
        kernels.append(kernel)
        biases.append(y_mean - x_mean @ kernel)
        residual = y - y_mean - unweighted @ rotated
        scale = 1.0 / (singular**2 + strength)
        parts.append([y[b] - _without(unweighted[b], scale, share[b], residual[b]) for b in sets])
    return RidgePath(
        np.stack(kernels).astype(np.float32),
        np.stack(biases).astype(np.float32),
        tuple(np.stack(p).astype(np.float32) for p in zip(*parts, strict=True)),
    )


def _without(rows: np.ndarray, scale: np.ndarray, share: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Returns the residuals of some rows under the solution that does not know them."""
    hat = (rows * scale) @ rows.T + 1.0  # the bias adds a constant direction of length one
    return np.linalg.solve(np.eye(len(rows)) - hat * share[None, :], residual)
