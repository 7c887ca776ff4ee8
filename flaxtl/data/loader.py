"""Batches from a source: the batch of step s depends on the seed and s alone, so resuming is exact.

What fits in memory is decoded once and kept; the rest is read through grain. Both give the same batches.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, SupportsIndex

import jax
import numpy as np

from flaxtl.data.augment import Changes
from flaxtl.data.ordering import balanced
from flaxtl.data.preprocess import Preprocess
from flaxtl.data.rows import Form, Row, real_length, row_bytes, stack, trimmed
from flaxtl.data.source import Source
from flaxtl.errors import ConfigError

MEMORY_LIMIT = 512 * 2**20
_SORTED = 32  # batches whose texts are put in order of length together
Batch = dict[str, Any]


@dataclasses.dataclass
class Loader:
    """Batches of a source as a card's preprocessing makes them.

    A batch is {'inputs': [B, …], 'target': int32 [B], 'weight': float32 [B], 'example_index': int32 [B]}.
    An epoch's last batch is filled up with rows of weight 0, never dropped. Texts are cut to one of few lengths, the
    smallest that holds a batch's longest; outside training those of like length come together. Buffers are never used
    again after they are handed out, since a device may read them in place.

    Attributes:
        source: the examples.
        preprocess: the card's preprocessing.
        batch_size: rows a batch.
        seed: of order and augmentation.
        augment: random changes, in training only.
        train: shuffled and endless, one row an example; else once, with all of an example's rows, in order (texts by
            length, within some batches).
        memory_limit: bytes of rows that are kept in memory.
        threads: that read and decode.
        rows: of a training batch, padding included; None for `batch_size`.
        share: (this process's number, of how many): in training each reads and returns its own rows of the batch, an
            equal number, which together are the batch that one process would have.
        together: in training, so many examples of a class come one after the other, and all classes equally often (see
            `balanced`); 0 goes through all examples in any order.

    Example:
        >>> from flaxtl.card import Image
        >>> from flaxtl.data import from_arrays
        >>> from flaxtl.data.preprocess import preprocess_for
        >>> source = from_arrays(np.zeros((5, 8, 8)), list('aabbb'))
        >>> loader = Loader(source, preprocess_for(Image((8, 8), 1)), 4)
        >>> [batch['weight'].tolist() for batch in loader.iterate(0, 2)]
        [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]
    """

    source: Source
    preprocess: Preprocess
    batch_size: int
    seed: int = 0
    augment: Changes | None = None
    train: bool = True
    memory_limit: int = MEMORY_LIMIT
    threads: int = 2
    rows: int | None = None
    share: tuple[int, int] = (0, 1)
    together: int = 0
    _kept: list[Sequence[Row]] | None = dataclasses.field(default=None, init=False, repr=False)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in which each example is seen once in training."""
        return -(-len(self.source) // self.batch_size)

    @property
    def in_memory(self) -> bool:
        """Whether preprocessed rows are kept; a random crop needs the whole picture each time."""
        size = row_bytes(self.preprocess.row) * len(self.source)
        return self.train and not self._crops and size <= self.memory_limit

    @property
    def _crops(self) -> bool:
        return self.augment is not None and self.augment.needs_whole

    def largest(self) -> Batch:
        """Returns the shapes of the largest training batch that there can be, of all processes' rows, not filled up.

        Texts that are kept in memory are measured; others are taken to be as long as they may be.
        """
        lengths = self.preprocess.lengths
        if lengths and self.in_memory:
            longest = max(real_length(row) for rows in self._decoded() for row in rows)
            lengths = (next(n for n in lengths if n >= longest),)

        def shape(sides: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((self.batch_size, *sides), dtype)

        def row(form: Form) -> jax.ShapeDtypeStruct:
            return shape((lengths[-1], *form.shape[1:]) if lengths else form.shape, form.dtype)

        targets, forms = self.source.targets, self.preprocess.row
        if self.augment is not None and self.augment.added and isinstance(forms, Mapping):
            forms = {**forms, **self.augment.added}
        return {
            "inputs": jax.tree.map(row, forms),
            "target": shape(targets.shape[1:], targets.dtype),
            "weight": shape((), np.float32),
            "example_index": shape((), np.int32),
        }

    def iterate(self, start_step: int = 0, steps: int | None = None) -> Iterator[Batch]:
        """Yields batches from a step on.

        Args:
            start_step: the first step, counted from the beginning of training, or of the pass.
            steps: how many; None for the rest of the pass (or, in training, without end).
        """
        if not self.train:
            yield from itertools.islice(self._pass(), start_step, None if steps is None else start_step + steps)
        elif self.in_memory:
            step = start_step
            while steps is None or step < start_step + steps:
                yield self.batch(step)
                step += 1
        else:
            yield from self._through_grain(start_step, steps)

    def batch(self, step: int) -> Batch:
        """Returns the training batch of a step."""
        epoch, number = divmod(step, self.batches_per_epoch)
        chosen = self._order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        index, weight = _filled(chosen, self.source.weights[chosen], self.rows or self.batch_size)
        mine = _share(len(index), *self.share)
        # A text's batch is as long as the longest of all its rows, also of those that other processes have.
        read = slice(None) if self.preprocess.lengths else mine
        rows = {i: self._row(i, epoch) for i in dict.fromkeys(index[read].tolist())}
        batch = self._assembled([rows[i] for i in index[read].tolist()], index[read], weight[read])
        return batch if read == mine else jax.tree.map(lambda a: np.ascontiguousarray(a[mine]), batch)

    def _order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        if not self.together:
            return rng.permutation(len(self.source))
        return balanced(self.source.targets, self.batch_size, rng, self.together)

    def _row(self, i: int, epoch: int) -> Row:
        rng = np.random.default_rng([self.seed, 1, epoch, i])
        if self._crops:
            return _one_of(self.preprocess.rows(self.source.raw[i], rng, self.augment), rng)
        rows = self._decoded()[i] if self.in_memory else self.preprocess.rows(self.source.raw[i])
        row = _one_of(rows, rng)
        return row if self.augment is None else self.preprocess.augmented(row, rng, self.augment)

    def _decoded(self) -> list[Sequence[Row]]:
        if self._kept is None:
            with ThreadPoolExecutor(self.threads) as pool:
                self._kept = list(pool.map(self.preprocess.rows, self.source.raw))
        return self._kept

    def _assembled(self, rows: list[Row], index: np.ndarray, weight: np.ndarray) -> Batch:
        inputs = stack(rows)
        return {
            "inputs": trimmed(inputs, self.preprocess.lengths) if self.preprocess.lengths else inputs,
            "target": self.source.targets[index],
            "weight": weight,
            "example_index": index,
        }

    def _pass(self) -> Iterator[Batch]:
        rows: list[Row] = []
        index: list[int] = []

        def flush() -> Batch:
            done, places = rows[: self.batch_size], np.array(index[: self.batch_size])
            del rows[: self.batch_size], index[: self.batch_size]
            more = self.batch_size - len(done)
            return self._assembled(done + done[:1] * more, *_filled(places, np.ones(len(done)), self.batch_size))

        with ThreadPoolExecutor(self.threads) as pool:
            ahead = self.batch_size * (_SORTED if self.preprocess.lengths else 2)
            for first in range(0, len(self.source), ahead):
                part = range(first, min(first + ahead, len(self.source)))
                made = list(pool.map(lambda i: self.preprocess.rows(self.source.raw[i]), part))
                for i, row in self._by_length([(i, row) for i, several in zip(part, made) for row in several]):
                    rows.append(row)
                    index.append(i)
                    if len(rows) == self.batch_size:
                        yield flush()
        if rows:
            yield flush()

    def _by_length(self, numbered: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
        return sorted(numbered, key=lambda pair: real_length(pair[1])) if self.preprocess.lengths else numbered

    def _through_grain(self, start_step: int, steps: int | None) -> Iterator[Batch]:
        import grain.python as grain

        if steps == 0:
            return
        last = np.iinfo(np.int32).max if steps is None else start_step + steps
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=2 * self.threads)
        dataset = grain.MapDataset.source(_Steps(self, start_step, last)).to_iter_dataset(options)
        yield from dataset


def _filled(index: np.ndarray, weight: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Fills examples and their weights up to so many rows with the first example, at weight 0."""
    missing = rows - len(index)
    index = np.concatenate([index, np.repeat(index[:1], missing)]).astype(np.int32)
    return index, np.concatenate([weight, np.zeros(missing)]).astype(np.float32)


def _share(rows: int, number: int, count: int) -> slice:
    if rows % count:
        raise ConfigError(f"A batch of {rows} rows cannot be shared evenly by {count} processes. Choose another size.")
    return slice(number * rows // count, (number + 1) * rows // count)


def _one_of(rows: Sequence[Row], rng: np.random.Generator) -> Row:
    return rows[int(rng.integers(len(rows)))] if len(rows) > 1 else rows[0]


@dataclasses.dataclass(frozen=True)
class _Steps:
    """A loader's training batches as a random-access source for grain."""

    loader: Loader
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, i: SupportsIndex) -> Batch:
        return self.loader.batch(self.first + int(i))


def rows_of(preprocess: Preprocess, source: Source) -> tuple[Any, np.ndarray]:
    """Returns all rows of a source as one batch, and the example of each.

    Args:
        preprocess: what makes rows.
        source: at least one example.

    Returns:
        (array or arrays by name [rows, …], int32 [rows]).

    Example:
        >>> from flaxtl.card import Array
        >>> from flaxtl.data.preprocess import ArrayPreprocess
        >>> rows, index = rows_of(ArrayPreprocess(Array((2,))), Source.of('array', np.ones((3, 2))))
        >>> rows.shape, index.tolist()
        ((3, 2), [0, 1, 2])
    """
    made = [(i, row) for i, raw in enumerate(source.raw) for row in preprocess.rows(raw)]
    inputs = stack([row for _, row in made])
    index = np.array([i for i, _ in made], np.int32)
    return trimmed(inputs, preprocess.lengths) if preprocess.lengths else inputs, index
