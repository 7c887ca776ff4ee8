"""Option 1 on a model: its features once, the head solved on them and put in place."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from flaxtl import metrics, paths, surgery
from flaxtl.activations import Store, compute
from flaxtl.activations.computing import Reporter
from flaxtl.activations.identity import View
from flaxtl.data import Source
from flaxtl.errors import ConfigError, DataError, listed
from flaxtl.model import Model
from flaxtl.probe.names import ClassNames, names_to_learn, solve_with_names
from flaxtl.probe.noise import brightened
from flaxtl.probe.problem import HeadKind
from flaxtl.probe.results import SolvedHead
from flaxtl.probe.search import solve_head
from flaxtl.probe.weighting import ClassWeight


class SolvedModel(NamedTuple):
    """A model with a solved head.

    Attributes:
        model: with the head in place.
        record: what was chosen, and what cross-validation said, as plain data.
        out_of_fold: float64 [examples, outputs], each example's outputs by heads that did not see it, divided by the
            temperature; NaN where an example was never held out. None without cross-validation.
    """

    model: Model
    record: dict[str, Any]
    out_of_fold: np.ndarray | None


def solve_and_attach(
    model: Model,
    source: Source,
    *,
    store: Store | None = None,
    views: Sequence[View] = (),
    smoothing: float = 0.0,
    class_weight: ClassWeight = None,
    kind: HeadKind = "logistic",
    feature_noise: float = 0.0,
    class_names: ClassNames = "auto",
    tuned: bool = False,
    seed: int = 0,
    report: Reporter = lambda done: None,
) -> SolvedModel:
    """Computes features once, solves the head, and returns the model with it, the record, and out-of-fold outputs.

    Args:
        model: with a head of the right number of outputs; its values do not matter.
        source: labelled training data.
        store: where features are kept for the next time.
        views: random changes; the features of each count as further examples that no fold divides.
        smoothing: label smoothing.
        class_weight: see `solve_head`.
        kind: what the head is; see `solve_head`.
        feature_noise: strength of the noise in copies of the features; see `brightened`.
        class_names: whether texts are learned from what their classes are called too; see `names_to_learn`.
        tuned: whether the backbone was trained on these examples; see `solve_with_names`.
        seed: of the cross-validation's folds, and of noise.
        report: told how many examples have their features.

    Raises:
        DataError: fewer than two classes, or features that are not finite.
    """
    targets, task = np.asarray(source.targets), model.card.head.task
    if task == "classification" and len(np.unique(targets)) < 2:
        raise DataError(
            f"The training data holds {len(np.unique(targets))} class; at least two are needed to tell apart."
        )
    each = [_features(model, source, store, view, report) for view in (None, *views)]
    if feature_noise:
        each += brightened(each[0], feature_noise, seed=seed)
    everything = np.concatenate(each), np.concatenate([targets] * len(each))
    settings: dict[str, Any] = {
        "sample_weight": np.concatenate([np.asarray(source.weights, np.float32) / len(each)] * len(each)),
        "groups": _groups(source, len(each)),
        "task": task,
        "label_smoothing": smoothing,
        "class_weight": class_weight,
        "kind": kind,
        "seed": seed,
    }
    named, said = names_to_learn(source, class_names), {}
    if named is None:
        head = solve_head(*everything, len(model.card.labels), **settings)
    else:
        names = _features(model, named, store, None, lambda done: None)
        head, _, said["class_names"] = solve_with_names(
            *everything, names, class_names=class_names, tuned=tuned, **settings
        )
    solved, record = _with_sets(attach(model, head), head, source, {**found_by(head, each[0]), **said})
    return SolvedModel(solved, record, _out_of_fold(head, len(source)))


def _out_of_fold(head: SolvedHead, examples: int) -> np.ndarray | None:
    """Returns calibrated out-of-fold outputs of the examples themselves, without augmented copies and class names."""
    if head.cv.logits is None:
        return None
    return head.cv.logits[:examples].astype(np.float64) / head.temperature


def _with_sets(model: Model, head: SolvedHead, source: Source, found: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Adds to the card what prediction sets need, where held-out predictions allow it; views of one count once."""
    if head.cv.logits is None or model.card.head.task != "classification":
        return model, found
    held_out = softmax(head.cv.logits[: len(source)].astype(np.float64) / head.temperature, axis=1)
    conformal, sentence = metrics.fit_conformal(held_out, np.asarray(source.targets))
    card = model.card.with_head(conformal=conformal)
    return dataclasses.replace(model, card=card), {**found, "conformal": sentence}


def features_of(model: Model, source: Source, store: Store | None, view: View | None = None) -> np.ndarray:
    """Returns the features of a source's examples, float [examples, features], from a store where they are there.

    Args:
        model: whose backbone computes them.
        source: the examples; the rows of one (windows of a clip) are averaged.
        store: where features are kept.
        view: a random change of the examples.
    """
    return _features(model, source, store, view, lambda done: None)


def _features(model: Model, source: Source, store: Store | None, view: View | None, report: Reporter) -> np.ndarray:
    rows = compute(model, source, model.network.border, store, view=view, report=report)
    if rows and (isinstance(rows[0][0], dict) or rows[0][0].ndim != 1):
        shape = "several arrays" if isinstance(rows[0][0], dict) else f"shape {rows[0][0].shape}"
        raise ConfigError(f"The head's input has {shape} an example; expected one vector.")
    features = np.stack([_mean(several) for several in rows])
    if not np.isfinite(features).all():
        bad = [source.keys[i] for i in np.flatnonzero(~np.isfinite(features).all(1))]
        raise DataError(
            f"The features of {listed(bad)} are not finite numbers. The parameters hold NaN or the input is extreme."
        )
    return features


def _mean(rows: Sequence[Any]) -> np.ndarray:
    return rows[0] if len(rows) == 1 else np.mean(rows, axis=0)


def _groups(source: Source, views: int) -> list[str] | None:
    """Returns what cross-validation must not divide: the source's groups, and the views of one example."""
    if views == 1:
        return None if source.groups is None else list(source.groups)
    return [str(i) if source.groups is None else source.groups[i] for i in range(len(source))] * views


def attach(model: Model, head: SolvedHead) -> Model:
    """Returns the model with a solved head in place of its own.

    Args:
        model: its head is a dense layer with a bias, of the solved head's shape.
        head: what was solved on the model's features.

    Raises:
        ConfigError: the model's head is another layer.
    """
    path = model.card.head.path
    old = paths.subtree(model.params, path)
    kernel, bias = np.asarray(head.kernel, np.float32), np.asarray(head.bias, np.float32)
    normalise: Any = {"unit": "rms", "root": "root", "none": "none"}[head.normalise]
    if normalise != "none":
        # The pipeline divides by the root mean square, which is the length over the square root of d.
        kernel = kernel / math.sqrt(kernel.shape[0])
    if set(old) != {"kernel", "bias"}:
        raise ConfigError(f"The head {path!r} holds {listed(old)}; expected a dense layer's kernel and bias.")
    params = surgery.graft(model.params, path, {"kernel": kernel, "bias": bias})
    card = model.card.with_head(normalise=normalise, temperature=float(head.temperature), rows="features")
    note = f"head {path!r} solved on {kernel.shape[0]} frozen features"
    return dataclasses.replace(
        model, variables={**model.variables, paths.PARAMS: params}, card=card, notes=(*model.notes, note)
    )


def found_by(head: SolvedHead, features: np.ndarray) -> dict[str, Any]:
    """Returns what solving found out, as plain data."""
    return {
        "features": int(features.shape[1]),
        "scaling": head.scaling,
        "strength": float(head.strength),
        "temperature": float(head.temperature),
        "converged": head.converged,
        **head.cv.to_dict(),
    }
