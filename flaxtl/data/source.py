"""A source of examples: anything with a length whose items are `Example`s, whatever the modality."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flaxtl.card import Columns, Task
from flaxtl.data.cells import class_names, is_missing
from flaxtl.data.names import canonical_name
from flaxtl.errors import DataError, listed

UNLABELLED = -1


@dataclasses.dataclass(frozen=True)
class Example:
    """One example, not yet preprocessed.

    Attributes:
        raw: what the card's preprocessing turns into rows: a path, bytes, text, or an array.
        target: the class's index, -1 without a label, or float [outputs] for other tasks.
        key: what identifies it, such as its path.
        group: examples of one group (a speaker, a patient) are never divided by a split.
        weight: how much it counts.
    """

    raw: Any
    target: Any
    key: str
    group: str | None = None
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Examples of one modality with their labels; immutable, and lazy about file contents.

    Attributes:
        modality: "image", "audio", "text" or "array".
        raw: one entry an example; files are read when they are preprocessed.
        targets: int32 [n], -1 where there is no label; or float32 [n, outputs].
        labels: class names in order.
        keys: one an example.
        weights: float32 [n].
        groups: one an example, or None.
        skipped: (path, reason) of the files that were left out, because they cannot be read or are no data.
        task: what the targets are: "classification", "multilabel" or "regression".
        notes: what the user should know of how the data was read, one sentence each.
        columns: the columns of a table that it was read from, or None.
        details: what else a table says of each example and predictions should show, such as its id: name → one an
            example.

    Example:
        >>> source = Source.of('text', ['good', 'bad'], ['yes', 'no'])
        >>> source.labels, source.targets.tolist(), source[1].raw
        (('no', 'yes'), [1, 0], 'bad')
    """

    modality: str
    raw: Sequence[Any]
    targets: np.ndarray
    labels: tuple[str, ...]
    keys: tuple[str, ...]
    weights: np.ndarray
    groups: tuple[str, ...] | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    task: Task = "classification"
    notes: tuple[str, ...] = ()
    columns: Columns | None = None
    details: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        modality: str,
        raw: Sequence[Any],
        names: Sequence[str] | None = None,
        *,
        labels: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        skipped: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> Source:
        """Builds a source from class names, one an example; names that differ only in their Unicode form are one class.

        Args:
            modality: what the examples are.
            raw: the examples.
            names: the class name of each, or a class number; None leaves them unlabelled.
            labels: the order of the classes; by default natural order, '2' before '10'.
            keys: what identifies each; by default its number.
            groups: the group of each.
            skipped: what was left out, and why.
            notes: on how the data was read.

        Raises:
            DataError: lengths that differ, a label that occurs twice, a name that is missing (None, NaN) or that is not
                among the labels.
        """
        n = len(raw)
        for what, values in (("targets", names), ("keys", keys), ("groups", groups)):
            if values is not None and len(values) != n:
                raise DataError(f"There are {n} inputs but {len(values)} {what}.")
        names = None if names is None else _class_names(names)
        order = tuple(labels) if labels is not None else natural_order({} if names is None else set(names))
        twice = [name for name, count in collections.Counter(order).items() if count > 1]
        if twice:
            raise DataError(
                f"The labels {listed(twice)} occur more than once; expected a name of its own for each class."
            )
        order = tuple(dict.fromkeys(map(canonical_name, order)))
        index = {name: i for i, name in enumerate(order)}
        if names is None:
            targets = np.full(n, UNLABELLED, np.int32)
        else:
            form = {name: canonical_name(name) for name in set(names)}
            unknown = natural_order({name for name in form.values() if name not in index})
            if unknown:
                raise DataError(f"The classes {listed(unknown)} are not among the known ones: {listed(order)}.")
            targets = np.array([index[form[name]] for name in names], np.int32)
        names_of = tuple(keys) if keys is not None else tuple(map(str, range(n)))
        group = None if groups is None else tuple(groups)
        weights = np.ones(n, np.float32)
        return cls(modality, raw, targets, order, names_of, weights, group, tuple(skipped), notes=tuple(notes))

    def with_outputs(self, values: Any, labels: Sequence[str], task: Task) -> Source:
        """Returns the source with several outputs an example in place of one class.

        Args:
            values: [n, outputs], 0 or 1 for "multilabel" and numbers for "regression"; [n] for one output.
            labels: what each output is called.
            task: what they are.

        Raises:
            DataError: a wrong shape, a value that is no number, or names that are not one each.

        Example:
            >>> Source.of('text', ['a', 'b']).with_outputs([0.5, 2.0], ['score'], 'regression').targets.tolist()
            [[0.5], [2.0]]
        """
        try:
            targets = np.asarray(values, np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"The targets of {task} are not all numbers: {error}.") from error
        targets = targets.reshape(-1, 1) if targets.ndim == 1 else targets
        names = tuple(map(str, labels))
        if targets.shape != (len(self), len(names)) or not names or len(set(names)) < len(names):
            raise DataError(
                f"The targets have the shape {targets.shape}; expected {len(self)} rows of one number for each of the "
                f"outputs {listed(names) or 'none'}, each with a name of its own."
            )
        odd = ~np.isfinite(targets) if task == "regression" else (targets != 0) & (targets != 1)
        if odd.any():
            i, k = map(int, np.argwhere(odd)[0])
            wanted = "a finite number" if task == "regression" else "0 or 1"
            raise DataError(f"Example {self.keys[i]} has {targets[i, k]:g} as {names[k]!r}; expected {wanted}.")
        return dataclasses.replace(self, targets=targets, labels=names, task=task)

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, i: int) -> Example:
        target = self.targets[i]
        return Example(
            self.raw[i],
            int(target) if np.ndim(target) == 0 else target,
            self.keys[i],
            None if self.groups is None else self.groups[i],
            float(self.weights[i]),
        )

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: Iterable[int]) -> Source:
        """Returns the examples at the given places (or where a mask is true), in that order; the class order stays."""
        places = np.asarray(list(indices))
        chosen = np.arange(len(self))[places if places.size else places.astype(np.int64)]
        return dataclasses.replace(
            self,
            raw=self.raw[chosen] if isinstance(self.raw, np.ndarray) else [self.raw[i] for i in chosen],
            targets=self.targets[chosen],
            keys=tuple(self.keys[i] for i in chosen),
            weights=self.weights[chosen],
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen),
            details={name: [values[i] for i in chosen] for name, values in self.details.items()},
        )

    def with_labels(self, labels: Sequence[str]) -> Source:
        """Returns the source with its classes in another order, such as a trained model's.

        Raises:
            DataError: it has a class that is not among them.
        """
        if tuple(labels) == self.labels:
            return self
        if self.task != "classification":
            return self._with_outputs_like(labels)
        # A model keeps its own spelling; what is compared is the canonical form of both.
        place = {canonical_name(name): i for i, name in enumerate(labels)}
        used = {self.labels[t] for t in np.unique(self.targets) if t != UNLABELLED}
        unknown = natural_order(name for name in used if canonical_name(name) not in place)
        if unknown:
            raise DataError(
                f"The data has the classes {listed(unknown)}, which are not among the model's: {listed(labels)}. "
                "Rename or leave out these classes."
            )
        table = np.array([place.get(canonical_name(name), UNLABELLED) for name in self.labels] + [UNLABELLED], np.int32)
        return dataclasses.replace(self, targets=table[self.targets], labels=tuple(labels))

    def _with_outputs_like(self, labels: Sequence[str]) -> Source:
        """Puts outputs in another order; a label that no example here has may be absent, a number may not."""
        place = {canonical_name(name): k for k, name in enumerate(self.labels)}
        wanted = [canonical_name(name) for name in labels]
        unknown = set(place) - set(wanted)
        missing = set(wanted) - set(place) if self.task == "regression" else ()
        if unknown or missing:
            raise DataError(f"The outputs are called {listed(self.labels)}; expected {listed(labels)}.")
        columns = [self.targets[:, place[n]] if n in place else np.zeros(len(self), np.float32) for n in wanted]
        return dataclasses.replace(self, targets=np.stack(columns, axis=1), labels=tuple(labels))


@dataclasses.dataclass(frozen=True)
class Splits:
    """The parts of a data set; all share one class order.

    Attributes:
        train: to learn from.
        validation: to choose by, or None.
        test: to measure on, never to choose by, or None.
    """

    train: Source
    validation: Source | None = None
    test: Source | None = None

    @property
    def parts(self) -> dict[str, Source]:
        """The parts that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


def _class_names(names: Sequence[Any]) -> Sequence[str]:
    """Returns names as strings; of those that are strings already nothing is changed."""
    values = list(names)
    if all(isinstance(name, str) for name in values):
        return values
    bare = [i for i, name in enumerate(values) if is_missing(name)]
    if bare:
        raise DataError(
            f"{len(bare)} of {len(values)} targets are missing: {values[bare[0]]!r} is that of example {bare[0]}. Give "
            "these examples labels or remove them."
        )
    odd = [i for i, name in enumerate(values) if not np.isscalar(name) and np.ndim(name) > 0]
    if odd:
        raise DataError(
            f"The target of example {odd[0]} is {type(values[odd[0]]).__name__}; expected one class an example. For "
            "several outputs use with_outputs."
        )
    return class_names(values)


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorts names as people do: numbers by value, so that '2' comes before '10'.

    Example:
        >>> natural_order(['10', 'b', '2', 'a3', 'a20'])
        ('2', '10', 'a3', 'a20', 'b')
    """
    return tuple(sorted(names, key=natural_key))


def natural_key(name: str) -> tuple[Any, ...]:
    """Returns what `natural_order` sorts by."""
    parts = re.split(r"(\d+)", name)
    return (*((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p), (2, 0, name))
