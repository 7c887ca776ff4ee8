"""Activations of a source's examples: found in a store where they were computed before, else computed and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from flaxtl.activations.identity import View, example_digests, is_ours, shelf_of
from flaxtl.activations.rows import StoredRows
from flaxtl.activations.store import RowForm, Store
from flaxtl.data import Changes, Entry, Source
from flaxtl.data.preprocess import Preprocess
from flaxtl.data.rows import Row, real_length
from flaxtl.errors import ConfigError
from flaxtl.model import BATCH, Model
from flaxtl.pipeline import compiled

_CHUNK_BYTES = 1 << 28  # of activations that are in memory at once
Reporter = Callable[[int], None]


def enter(
    model: Model,
    source: Source,
    start: int,
    store: Store | None,
    *,
    views: Sequence[View] = (),
    report: Reporter = lambda done: None,
) -> Entry:
    """Returns examples as they enter a segment: as they are for the first, computed once and kept for a later one.

    Args:
        model: whose segments before `start` are frozen.
        source: the examples.
        start: the segment that they are to enter; the border for features.
        store: where activations are kept; None keeps them as long as the entry lives.
        views: random changes; each adds its own rows to an example, of which training draws one an epoch.
        report: told how many examples are done, view by view.

    Returns:
        The entry; its rows are read through memory maps.
    """
    if start == 0:
        return Entry(source, model.pipeline.preprocess)
    form, lengths = form_at(model, start)
    found = [compute(model, source, start, store, view=view, report=report) for view in (None, *views)]
    rows = [[row for several in example for row in several] for example in zip(*found, strict=True)]
    return Entry(dataclasses.replace(source, raw=rows), StoredRows(form, lengths), start)


def compute(
    model: Model,
    source: Source,
    stop: int,
    store: Store | None,
    *,
    view: View | None = None,
    report: Reporter = lambda done: None,
) -> list[list[Row]]:
    """Returns the rows that leave segment `stop` - 1, for each example its own.

    What is missing in the store is computed in chunks, each kept when it is done, so that an interrupted pass goes on
    where it stopped and memory stays bounded.

    Args:
        model: whose activations are asked for.
        source: the examples.
        stop: one past the last segment that is computed.
        store: where they are kept; None keeps them as long as the rows live.
        view: a random change of the examples.
        report: told how many examples are done.
    """
    kept = store if store is not None and is_ours(model) else Store.temporary()
    digests = example_digests(source.raw, source.modality)
    if digests is None:  # contents that have no digest cannot be known again
        kept, digests = Store.temporary(), [number.to_bytes(32, "big") for number in range(len(source))]
    shelf = shelf_of(model, stop, view)
    rows = kept.find(shelf, digests)
    first: dict[bytes, int] = {}
    for number, (digest, there) in enumerate(zip(digests, rows, strict=True)):
        if there is None:
            first.setdefault(digest, number)
    missing = list(first.values())
    report(len(source) - len(missing))
    if missing:
        form, _ = form_at(model, stop)
        chunk = _chunk(form, BATCH)
        for begin in range(0, len(missing), chunk):
            part = missing[begin : begin + chunk]
            kept.add(shelf, form, _computed(model, source, part, [digests[i] for i in part], stop, form, view))
            report(len(source) - len(missing) + begin + len(part))
        rows = kept.find(shelf, digests)
        kept.trim([shelf])
    return [_with_owner(one, kept) for one in rows if one is not None]


class _Owned(list[Row]):
    """Rows that keep their temporary store from being deleted."""

    owner: Store


def _with_owner(rows: list[Row], store: Store) -> list[Row]:
    owned = _Owned(rows)
    owned.owner = store
    return owned


def _chunk(form: RowForm, batch: int) -> int:
    longest = max((shape[0] for shape in form.shapes if shape), default=0)
    return max(1, _CHUNK_BYTES // (form.nbytes(longest) * batch)) * batch


def _computed(
    model: Model, source: Source, part: list[int], digests: list[bytes], stop: int, form: RowForm, view: View | None
) -> Iterator[tuple[bytes, list[Row], int]]:
    """Yields (digest, rows, their length) of a part of the examples."""
    chosen, preprocess = source.subset(part), model.pipeline.preprocess
    if not form.varying and preprocess.lengths:
        preprocess = _Whole(preprocess)
    if view is not None:
        raw: list[Any] = list(zip(digests, chosen.raw, strict=True))
        chosen, preprocess = dataclasses.replace(chosen, raw=raw), _Viewed(preprocess, view)
    rows: dict[int, list[Row]] = {}
    for values, index in model.stream(Entry(chosen, preprocess), stop=stop, batch_size=BATCH):
        for place, number in enumerate(index):
            one = {k: v[place] for k, v in values.items()} if isinstance(values, dict) else values[place]
            rows.setdefault(int(number), []).append(one)
    for number, several in rows.items():
        length = max(map(real_length, several)) if form.varying else 0
        yield digests[number], several, length


def form_at(model: Model, stop: int) -> tuple[RowForm, tuple[int, ...]]:
    """Returns the form of the rows that leave segment `stop` - 1, and the lengths that their batches may be cut to.

    Rows are kept as long as they are real where all that goes between segments is {"x", "mask"}, both [length, …].

    Raises:
        ConfigError: what goes between the segments there cannot be kept.
    """
    preprocess = model.pipeline.preprocess
    lengths = preprocess.lengths
    shapes = [_shapes(model, stop, length) for length in (lengths or (None,))]
    whole = shapes[-1]
    if isinstance(whole, dict):
        if not all(hasattr(value, "shape") for value in whole.values()):
            raise ConfigError(
                f"What enters {model.network.segments[stop]!r} of this network cannot be kept for a cut. "
                "Choose another `cut`, or train everything with `strategy='lpft'`."
            )
        names = tuple(sorted(whole))
        leaves = [whole[name] for name in names]
    else:
        names, leaves = (), [whole]
    varying = bool(lengths) and names == ("mask", "x")
    form = RowForm(
        names, tuple(tuple(a.shape[1:]) for a in leaves), tuple(np.dtype(a.dtype).name for a in leaves), varying
    )
    return form, tuple(sorted({s["mask"].shape[1] for s in shapes})) if varying else ()


def _shapes(model: Model, stop: int, length: int | None) -> Any:
    preprocess = model.pipeline.preprocess
    forms: Any = preprocess.row

    def one(form: Any) -> jax.ShapeDtypeStruct:
        shape = form.shape if length is None or not form.shape else (length, *form.shape[1:])
        return jax.ShapeDtypeStruct((1, *shape), form.dtype)

    rows = {name: one(form) for name, form in forms.items()} if isinstance(forms, dict) else one(forms)
    return jax.eval_shape(compiled(model.pipeline, 0, stop), model.variables, rows)


@dataclasses.dataclass(frozen=True)
class _Whole:
    """Rows that are not cut to the length of the longest."""

    inner: Preprocess

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def lengths(self) -> tuple[int, ...]:
        return ()


@dataclasses.dataclass(frozen=True)
class _Viewed:
    """Rows of (digest, raw) pairs, changed as a view says."""

    inner: Any
    view: View

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def rows(self, raw: Any, rng: Any = None, augment: Changes | None = None) -> Sequence[Any]:
        digest, example = raw
        rng, augment = self.view.generator(digest), self.view.augment
        if augment.needs_whole:
            return self.inner.rows(example, rng, augment)
        return [self.inner.augmented(row, rng, augment) for row in self.inner.rows(example)]
