"""Which pretrained network suits the data best: heads and neighbours on the frozen features of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxtl.activations import Store
from flaxtl.data import Source
from flaxtl.errors import DataError
from flaxtl.model import Model
from flaxtl.probe.attach import features_of
from flaxtl.probe.search import solve_head
from flaxtl.probe.simple_heads import unit_length

_NEIGHBOURS = 5
WARNING = "LogME is shown for comparison: such scores rank networks worse than cross-validation does."


@dataclasses.dataclass(frozen=True)
class Rank:
    """What one network is worth on the data.

    Attributes:
        name: as it was asked for.
        features: their number.
        parameters: of the backbone.
        accuracy: of the cross-validated head; None where there can be none.
        accuracy_se: its standard error.
        loss: its log-loss.
        loss_se: its standard error.
        neighbours: accuracy of the 5 nearest neighbours under the cosine, each example left out.
        logme: log marginal evidence an example and class (You et al. 2021).
        seconds: that it took.
    """

    name: str
    features: int
    parameters: int
    accuracy: float | None
    accuracy_se: float | None
    loss: float | None
    loss_se: float | None
    neighbours: float
    logme: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Networks, the best first.

    Attributes:
        rows: by cross-validated log-loss, or by neighbours where there is none.
        examples: how many there were.
    """

    rows: tuple[Rank, ...]
    examples: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {"examples": self.examples, "models": [dataclasses.asdict(row) for row in self.rows], "note": WARNING}

    def summary(self) -> str:
        """Returns a table, the best network first."""
        width = max(5, *(len(row.name) for row in self.rows))
        lines = [f"{'model':<{width}}  head, cross-validated         5 neighbours  LogME   features  parameters"]
        for row in self.rows:
            head = "not possible                "
            if row.accuracy is not None and row.loss is not None:
                head = f"{row.accuracy:6.1%} ± {row.accuracy_se:5.1%}, loss {row.loss:6.3f}"
            size = f"{row.features:>8}  {row.parameters / 1e6:8.1f} M"
            lines.append(f"{row.name:<{width}}  {head}  {row.neighbours:11.1%}  {row.logme:6.3f}  {size}")
        return "\n".join([*lines, f"{self.examples} examples. {WARNING}"])


def rank(models: Sequence[tuple[str, Model]], source: Source, *, store: Store | None = None, seed: int = 0) -> Ranking:
    """Ranks networks by what a head on their frozen features is worth.

    Args:
        models: (name, model) each, of the source's modality.
        source: labelled examples.
        store: where features are kept.
        seed: of the cross-validation's folds, the same for all.

    Raises:
        CardError: a network takes another kind of data.
        DataError: there are no classes to tell apart.
    """
    if source.targets.ndim != 1 or len(np.unique(source.targets)) < 2:
        raise DataError("A ranking needs examples of at least two classes, one class an example.")
    for _, model in models:
        model.card.require_modality(source.modality)
    rows = [_ranked(name, model, source, store, seed) for name, model in models]
    return Ranking(tuple(sorted(rows, key=_order)), len(source))


def _order(row: Rank) -> tuple[float, float]:
    return (float("inf") if row.loss is None else row.loss, -row.neighbours)


def _ranked(name: str, model: Model, source: Source, store: Store | None, seed: int) -> Rank:
    import jax

    began = time.perf_counter()
    features = features_of(model, source, store)
    head = solve_head(features, source.targets, len(source.labels), seed=seed, groups=source.groups)
    row = head.cv.best
    parameters = sum(int(np.size(a)) for a in jax.tree.leaves(model.params.get("backbone", model.params)))
    return Rank(
        name=name,
        features=features.shape[1],
        parameters=parameters,
        accuracy=None if row is None else row.accuracy,
        accuracy_se=None if row is None else row.accuracy_se,
        loss=None if row is None else row.loss,
        loss_se=None if row is None else row.loss_se,
        neighbours=leave_one_out_neighbours(features, source.targets, source.groups),
        logme=logme(features, source.targets),
        seconds=round(time.perf_counter() - began, 2),
    )


def leave_one_out_neighbours(
    features: np.ndarray, targets: np.ndarray, groups: Sequence[str] | None = None, k: int = _NEIGHBOURS
) -> float:
    """Returns the accuracy of the vote of the k most similar other examples, the more similar counting more.

    Args:
        features: float [n, d].
        targets: int [n].
        groups: one an example; its own group does not vote.
        k: voters; reduced to the smallest class, so that the right class could always win.

    Example:
        >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> leave_one_out_neighbours(x, np.array([0, 0, 1, 1]))
        1.0
    """
    targets = np.asarray(targets)
    unit = unit_length(np.asarray(features, np.float32))
    counts = np.bincount(targets)
    k = max(1, min(k, int(counts[counts > 0].min()) - 1))
    group = np.arange(len(unit)) if groups is None else np.unique(groups, return_inverse=True)[1]
    right = 0.0
    for first in range(0, len(unit), 1024):
        near = unit[first : first + 1024] @ unit.T
        near[group[first : first + 1024, None] == group[None, :]] = -np.inf
        order = np.argsort(-near, axis=1, kind="stable")[:, :k]
        similar = np.take_along_axis(near, order, 1)
        votes = np.zeros((len(near), len(counts)))
        weight = np.where(np.isfinite(similar), np.exp((similar - similar[:, :1]) / 0.07), 0.0)
        np.add.at(votes, (np.arange(len(near))[:, None], targets[order]), weight)
        right += float((votes.argmax(1) == targets[first : first + 1024]).sum())
    return right / len(unit)


def logme(features: np.ndarray, targets: np.ndarray, iterations: int = 11) -> float:
    """Returns the log marginal evidence of a Bayesian linear model of one-hot labels, an example and class.

    You, Liu, Wang and Long (2021), "LogME: Practical Assessment of Pre-trained Models for Transfer Learning"; the
    evidence is maximised over the two precisions by fixed-point iteration.

    Args:
        features: float [n, d].
        targets: int [n].
        iterations: of the fixed point.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 3))
        >>> informative = np.concatenate([x, 3.0 * (np.arange(40) % 2)[:, None]], axis=1)
        >>> logme(informative, np.arange(40) % 2) > logme(x, np.arange(40) % 2)
        True
    """
    x = np.asarray(features, np.float64)
    n, d = x.shape
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    squares = singular**2
    evidences = []
    for label in np.unique(targets):
        y = (np.asarray(targets) == label).astype(np.float64)
        turned = (left.T @ y) ** 2
        rest = float(y @ y - turned.sum())
        alpha = beta = 1.0
        for _ in range(iterations):
            gamma = float((beta * squares / (alpha + beta * squares)).sum())
            norm = float((beta**2 * squares * turned / (alpha + beta * squares) ** 2).sum())
            residual = float((alpha**2 * turned / (alpha + beta * squares) ** 2).sum()) + rest
            # Kept within reason: features of nothing but zeros leave the one, a perfect fit the other without bounds.
            alpha = min(max(gamma / max(norm, 1e-12), 1e-9), 1e9)
            beta = min((n - gamma) / max(residual, 1e-12), 1e9)
        norm = float((beta**2 * squares * turned / (alpha + beta * squares) ** 2).sum())
        residual = float((alpha**2 * turned / (alpha + beta * squares) ** 2).sum()) + rest
        logdet = float(np.log(alpha + beta * squares).sum()) + max(d - len(squares), 0) * np.log(alpha)
        evidence = (
            n * np.log(beta) + d * np.log(alpha) - n * np.log(2 * np.pi) - beta * residual - alpha * norm - logdet
        )
        evidences.append(evidence / (2.0 * n))
    return float(np.mean(evidences))
