"""A head at every depth: which layers' features transfer, and where a cut is worth its price."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl.activations import Store
from flaxtl.activations.identity import example_digests, shelf_of
from flaxtl.activations.store import RowForm
from flaxtl.data import Loader, Source
from flaxtl.data.rows import Row
from flaxtl.errors import DataError
from flaxtl.model import BATCH, Model, mean_by_example
from flaxtl.probe.search import solve_head

# Below this share of the best depth's accuracy features are general: they may stay as they are.
_GENERAL = 0.85


@dataclasses.dataclass(frozen=True)
class Depth:
    """What a head says that is solved on what leaves a segment.

    Attributes:
        segment: its name.
        features: their number, after averaging over places or tokens.
        accuracy: cross-validated; None where cross-validation is not possible.
        accuracy_se: its standard error.
        loss: cross-validated log-loss.
        loss_se: its standard error.
    """

    segment: str
    features: int
    accuracy: float | None
    accuracy_se: float | None
    loss: float | None
    loss_se: float | None


@dataclasses.dataclass(frozen=True)
class DepthProbe:
    """A head at every depth.

    Attributes:
        depths: from the input to the head.
        proposed: the segment to begin a cut at.
        why: as a sentence.
        examples: how many there were.
    """

    depths: tuple[Depth, ...]
    proposed: str
    why: str
    examples: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "kind": "probe",
            "examples": self.examples,
            "depths": [dataclasses.asdict(depth) for depth in self.depths],
            "proposed": self.proposed,
            "why": self.why,
        }

    def summary(self) -> str:
        """Returns a table with a bar for each depth, and the proposal."""
        width = max(7, *(len(depth.segment) for depth in self.depths))
        lines = [f"{'part':<{width}}  features  accuracy        log-loss"]
        for depth in self.depths:
            if depth.accuracy is None or depth.loss is None:
                lines.append(f"{depth.segment:<{width}}  {depth.features:>8}  no cross-validation is possible")
                continue
            bar = "█" * round(30 * depth.accuracy)
            figures = f"{depth.accuracy:.3f} ± {depth.accuracy_se:.3f}  {depth.loss:.3f} ± {depth.loss_se:.3f}"
            lines.append(f"{depth.segment:<{width}}  {depth.features:>8}  {figures}  {bar}")
        return "\n".join([*lines, f"{self.why} For example: `strategy='cut', cut={self.proposed!r}`"])


def probe_depths(
    model: Model,
    source: Source,
    *,
    store: Store | None = None,
    seed: int = 0,
    report: Callable[[int], None] = lambda done: None,
) -> DepthProbe:
    """Solves a head on what leaves every segment, averaged over places or tokens, in one pass through the network.

    Alain and Bengio (2017) probe layers with linear classifiers. The border that is proposed is the first from which on
    accuracy stays at or above 85 % of the best: what lies below separates the classes little by itself and serves any
    task, what lies above is what training can make the task's own. It is a rule of thumb; the strategy auto measures.

    Args:
        model: whose segments are probed.
        source: labelled examples.
        store: where the averages are kept.
        seed: of the cross-validation's folds.
        report: told how many examples are done.

    Raises:
        DataError: there are no classes to tell apart.
    """
    if source.targets.ndim != 1 or len(np.unique(source.targets)) < 2:
        raise DataError("A probe needs examples of at least two classes, one class an example.")
    border = model.network.border
    features = _pooled(model, source, store, report)
    depths = []
    for segment, values in zip(model.network.segments[:border], features, strict=True):
        head = solve_head(
            values, source.targets, len(source.labels), scalings=("unit",), seed=seed, groups=source.groups
        )
        row = head.cv.best
        figures = (None,) * 4 if row is None else (row.accuracy, row.accuracy_se, row.loss, row.loss_se)
        depths.append(Depth(segment, values.shape[1], *figures))
    proposed, why = _proposal(depths, model.network.segments)
    return DepthProbe(tuple(depths), proposed, why, len(source))


def _proposal(depths: Sequence[Depth], segments: Sequence[str]) -> tuple[str, str]:
    known = [depth.accuracy for depth in depths if depth.accuracy is not None]
    if not known:
        return segments[
            len(segments) // 2
        ], "Without cross-validation there is no evidence; half of the depth is usual."
    enough = [(depth.accuracy or 0.0) >= _GENERAL * max(known) for depth in depths]
    first = next(i for i in range(len(enough)) if all(enough[i:])) if enough[-1] else len(depths) - 1
    best = max(range(len(depths)), key=lambda i: depths[i].accuracy or 0.0)
    return (
        segments[first],
        f"Features are best after {segments[best]} ({depths[best].accuracy:.1%}), and from {segments[first]} on stay "
        f"within {1 - _GENERAL:.0%} of that: below it they are general, above it there is something to adapt.",
    )


def _pooled(model: Model, source: Source, store: Store | None, report: Callable[[int], None]) -> list[np.ndarray]:
    """Returns the averages float [examples, features] after each segment before the head."""
    border = model.network.border
    digests = None if store is None else example_digests(source.raw, source.modality)
    shelf = "pooled-" + shelf_of(model, border)
    if store is not None and digests is not None:
        rows = store.find(shelf, digests)
        if all(row is not None for row in rows):
            report(len(source))
            joined = np.stack([row[0]["values"] for row in rows])  # type: ignore[index]
            sizes = rows[0][0]["sizes"]  # type: ignore[index]
            return np.split(joined, np.cumsum(sizes)[:-1], axis=1)
    features = _computed(model, source, report)
    if store is not None and digests is not None:
        _keep(store, shelf, digests, features)
    return features


def _keep(store: Store, shelf: str, digests: Sequence[bytes], features: Sequence[np.ndarray]) -> None:
    sizes = np.array([values.shape[1] for values in features], np.int32)
    form = RowForm(("sizes", "values"), ((len(sizes),), (int(sizes.sum()),)), ("int32", "float32"), False)
    joined = np.concatenate(features, axis=1)
    entries: list[tuple[bytes, list[Row], int]] = [
        (digest, [{"sizes": sizes, "values": row}], 0) for digest, row in zip(digests, joined, strict=True)
    ]
    store.add(shelf, form, entries)


def _computed(model: Model, source: Source, report: Callable[[int], None]) -> list[np.ndarray]:
    pipeline, border = model.pipeline, model.network.border

    @jax.jit
    def run(variables: Any, inputs: Any) -> list[Any]:
        x, found = inputs, []
        for number in range(border):
            x, _ = pipeline(variables, x, number, number + 1)
            found.append(_average(x))
        return found

    loader = Loader(source, pipeline.preprocess, min(BATCH // 2, len(source)), train=False)
    variables, parts, index, done = jax.device_put(model.variables), [], [], 0
    for batch in loader.iterate():
        real = batch["weight"] > 0
        parts.append([np.asarray(values)[real] for values in run(variables, batch["inputs"])])
        index.append(batch["example_index"][real])
        done = max(done, int(index[-1].max()) + 1)
        report(done)
    order = np.argsort(np.concatenate(index), kind="stable")
    numbers = np.concatenate(index)[order]
    return [mean_by_example(np.concatenate(several)[order], numbers) for several in zip(*parts, strict=True)]


def _average(x: Any) -> Any:
    """Returns one vector a row: the mean over places, or over real tokens."""
    if not isinstance(x, dict):
        return x.mean(axis=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x
    values, real = x["x"], x["mask"][..., None].astype(x["x"].dtype)
    return (values * real).sum(axis=1) / jnp.maximum(real.sum(axis=1), 1)
