"""The heads that are compared, on one draw's features: ours, and scikit-learn's as people call them."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from small_data.peers_sklearn import fitted

from flaxtl.probe import solve_head
from unequal.draws import Draw

OURS, BALANCED = "flaxtl", 'flaxtl, class_weight="auto"'
SEARCHED, DEFAULT, WEIGHTED = "LogisticRegressionCV", "LogisticRegression", 'LogisticRegression, "balanced"'


def ours(draw: Draw, seed: int, class_weight: str | None = None) -> np.ndarray:
    """Returns our head's calibrated probabilities [n, c]."""
    head = solve_head(
        draw.train, draw.targets, draw.classes, seed=seed, groups=draw.groups, class_weight=class_weight or None
    )
    return softmax(head.logits(draw.test).astype(np.float64) / head.temperature, axis=1)


def searched(draw: Draw, seed: int) -> np.ndarray:
    """Returns LogisticRegressionCV's probabilities: features of unit length, 13 values of C, by log-loss."""
    unit = [
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (_wide(draw.train), _wide(draw.test))
    ]
    return fitted(unit[0], draw.targets, seed).predict_proba(unit[1])


def default(draw: Draw, class_weight: str | None = None) -> np.ndarray:
    """Returns LogisticRegression's probabilities with all its defaults, on the features as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 100 iterations are its default, and do not always suffice
        return (
            LogisticRegression(class_weight=class_weight)
            .fit(_wide(draw.train), draw.targets)
            .predict_proba(_wide(draw.test))
        )


def figures(probabilities: np.ndarray, draw: Draw) -> dict[str, float]:
    """Returns accuracy and log-loss with the training class shares and with equal ones, and the classes predicted."""
    p = np.asarray(probabilities, np.float64)
    losses = -np.log(np.maximum(p[np.arange(len(p)), draw.tested], 1e-15))
    right = p.argmax(1) == draw.tested
    there = np.unique(draw.tested)
    by_class = np.array([[right[draw.tested == k].mean(), losses[draw.tested == k].mean()] for k in there])
    shares = draw.shares[there] / draw.shares[there].sum()
    accuracy, log_loss = shares @ by_class
    return {
        "accuracy": float(accuracy),
        "balanced_accuracy": float(by_class[:, 0].mean()),
        "log_loss": float(log_loss),
        "balanced_log_loss": float(by_class[:, 1].mean()),
        "predicted": len(np.unique(p.argmax(1))),
        "classes": draw.classes,
    }


def _wide(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64)
