"""Subsets and folds, drawn by a seed, that keep every class and never divide a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flaxtl.data.source import Source
from flaxtl.errors import ConfigError, DataError

Indices = np.ndarray


def few_shot(source: Source, per_class: int, seed: int) -> tuple[Indices, Indices]:
    """Draws so many examples of each class.

    Args:
        source: labelled examples.
        per_class: how many of each; a class with fewer gives all it has.
        seed: another seed, another draw; of one seed, a smaller draw is part of a larger one.

    Returns:
        (int64 [chosen], int64 [rest]), both sorted. Where the source has groups, the rest leaves out what shares
        a group with a chosen example, so that it can be measured on.

    Raises:
        ConfigError: per_class is below 1.
        DataError: nothing is labelled with a class.

    Example:
        >>> source = Source.of('text', list('abcd'), ['x', 'x', 'y', 'y'])
        >>> chosen, rest = few_shot(source, 1, seed=0)
        >>> len(chosen), len(rest)
        (2, 2)
    """
    if per_class < 1:
        raise ConfigError(f"`examples_per_class` is {per_class}; expected at least 1.")
    rng = np.random.default_rng(seed)
    if source.targets.ndim != 1 or not (source.targets >= 0).any():
        raise DataError("The data has no classes, of each of which so many examples could be drawn.")
    chosen = []
    for label in range(len(source.labels)):
        members = np.flatnonzero(source.targets == label)
        chosen.append(rng.permutation(members)[:per_class])
    picked = np.sort(np.concatenate(chosen))
    if source.groups is None:
        return picked, np.setdiff1d(np.arange(len(source)), picked)
    taken = {source.groups[i] for i in picked}
    return picked, np.array([i for i, group in enumerate(source.groups) if group not in taken], np.int64)


def stratified_split(
    targets: np.ndarray, fraction: float, seed: int, groups: Sequence[str] | None = None
) -> tuple[Indices, Indices]:
    """Holds out a share of each class; at least one example of each class stays in the first part.

    Args:
        targets: int [n]; of float [n, outputs] nothing is stratified.
        fraction: the share that is held out.
        seed: of the draw.
        groups: one an example; a group stays together, so that the shares are only met as nearly as groups allow.

    Returns:
        (int64 [kept], int64 [held out]), both sorted; the second is empty if every class is too small.

    Raises:
        ConfigError: the fraction is not in 0…1.

    Example:
        >>> kept, held = stratified_split(np.array([0, 0, 0, 0, 1]), 0.25, seed=0)
        >>> len(kept), len(held), 4 in kept
        (4, 1, True)
    """
    if not 0.0 <= fraction <= 1.0:
        raise ConfigError(f"The share to hold out is {fraction}; expected 0 to 1.")
    rng = np.random.default_rng(seed)
    targets = np.asarray(targets)
    if targets.ndim > 1:
        targets = np.zeros(len(targets), np.int64)
    held = _held_examples(targets, fraction, rng) if groups is None else _held_groups(targets, fraction, rng, groups)
    return np.setdiff1d(np.arange(len(targets)), held), held


def _held_examples(targets: np.ndarray, fraction: float, rng: np.random.Generator) -> Indices:
    held = [np.empty(0, np.int64)]
    for label in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == label))
        held.append(members[: min(round(fraction * len(members)), len(members) - 1)])
    return np.sort(np.concatenate(held))


def _held_groups(targets: np.ndarray, fraction: float, rng: np.random.Generator, groups: Sequence[str]) -> Indices:
    """Takes group by group what brings the shares nearer to the wanted ones and leaves some of each class."""
    labels, label_of = np.unique(targets, return_inverse=True)
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.zeros((len(names), len(labels)), np.int64)
    np.add.at(sizes, (group_of, label_of), 1)
    total, held = sizes.sum(0), np.zeros(len(labels), np.int64)
    drawn = np.zeros(len(names), bool)
    for group in rng.permutation(len(names)):
        after = held + sizes[group]
        nearer = np.abs(fraction * total - after).sum() < np.abs(fraction * total - held).sum()
        if nearer and (after < total).all():
            drawn[group], held = True, after
    return np.flatnonzero(drawn[group_of])


def folds(
    targets: np.ndarray, k: int, repeats: int, seed: int, groups: Sequence[str] | None = None
) -> list[tuple[Indices, Indices]]:
    """Repeated stratified k-fold cross-validation for small data.

    Each class is dealt out to the folds in turn, from a shuffled deck, beginning at a fold drawn anew for
    each class, so that fold sizes stay even. k is reduced to the largest class, since more folds would
    have nothing to tell apart. Every training part has every class: a class with one example (or one group)
    stays in all of them and is never tested.

    Args:
        targets: int [n].
        k: number of folds, at least 2.
        repeats: how often everything is dealt anew.
        seed: of the draws.
        groups: one an example; a group is dealt as one.

    Returns:
        k · repeats pairs (int64 [training], int64 [test]); empty if no class has two examples (or two groups).

    Example:
        >>> [(len(a), len(b)) for a, b in folds(np.array([0, 0, 1, 1]), k=2, repeats=1, seed=0)]
        [(2, 2), (2, 2)]
    """
    targets = np.asarray(targets)
    if k < 2:
        raise ConfigError(f"Cross-validation needs at least 2 folds; found {k}.")
    units = np.arange(len(targets)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    counts = {c: len(np.unique(units[targets == c])) for c in np.unique(targets)}
    k = min(k, max(counts.values(), default=0))
    if k < 2:
        return []
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        fold_of_unit = _deal(targets, units, counts, k, rng)
        place = fold_of_unit[units]
        found += [(np.flatnonzero(place != f), np.flatnonzero(place == f)) for f in range(k) if (place == f).any()]
    return found


def _deal(
    targets: np.ndarray, units: np.ndarray, counts: dict[int, int], k: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns the fold of each unit, -1 for those that are always trained on."""
    fold = np.full(units.max() + 1, -1)
    taken = np.zeros(units.max() + 1, bool)
    for label in sorted(counts, key=lambda c: counts[c]):
        members = rng.permutation(np.unique(units[targets == label]))
        members = members[~taken[members]]
        taken[members] = True
        if counts[label] < 2:
            continue
        fold[members] = (int(rng.integers(k)) + np.arange(len(members))) % k
    for label in counts:  # groups that were dealt for other classes may all have met in one fold
        members = np.unique(units[targets == label])
        if np.unique(fold[members]).size == 1:
            fold[members[0]] = -1
    return fold
