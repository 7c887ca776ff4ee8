"""What is taken of labelled data: classes renamed or left out, so many examples, groups and classes read off paths."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flaxtl.data.names import canonical_name
from flaxtl.data.patterns import ambiguity_notes, from_paths
from flaxtl.data.source import Source, Splits, natural_order
from flaxtl.errors import ConfigError, DataError, did_you_mean, listed


def select(
    data: Source | Splits,
    *,
    group_by: str | None = None,
    test_groups: Sequence[str] = (),
    classes: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    known: bool = True,
) -> Source | Splits:
    """Applies what a user asks of data that is read already; of `Splits` the training part alone is limited.

    Args:
        data: labelled.
        group_by: a pattern of paths, see `from_paths`.
        test_groups: groups that become the test part.
        classes: see `renamed`.
        limit: see `limited`.
        seed: of the draw.
        known: whether each class that `classes` names must occur.
    """
    if isinstance(data, Source) and test_groups:
        data = held_groups(_of_one(data, group_by, classes, None, seed, known), test_groups)
        group_by, classes = None, ()
    elif test_groups:
        raise DataError(
            "The data has parts already, so `test_groups` does not say of which one. Leave one of them out."
        )
    if isinstance(data, Source):
        return _of_one(data, group_by, classes, limit, seed, known)
    if known:
        there = {name for part in data.parts.values() for name in part.labels}
        _require_known(class_map(classes), sorted(there))
    limits = {"train": limit}
    parts = {name: _of_one(part, group_by, classes, limits.get(name), seed, False) for name, part in data.parts.items()}
    order = parts["train"].labels
    return Splits(**{name: part.with_labels(order) for name, part in parts.items()})


def _of_one(
    source: Source, group_by: str | None, classes: Sequence[str], limit: int | None, seed: int, known: bool
) -> Source:
    if group_by is not None:
        notes = (*source.notes, *ambiguity_notes(source.keys, group_by, "group_by"))
        source = dataclasses.replace(source, groups=from_paths(source.keys, group_by, "`group_by`"), notes=notes)
    if classes:
        source = renamed(source, classes, known=known)
    return source if limit is None else source.subset(limited(source, limit, seed))


def held_groups(source: Source, groups: Sequence[str]) -> Splits:
    """Holds groups out as the test part, such as a speaker that is to be unknown.

    Args:
        source: with groups.
        groups: their names.

    Raises:
        DataError: no groups, one that does not occur, or nothing left to learn from.

    Example:
        >>> source = Source.of('text', list('abc'), list('xyx'), groups=['ann', 'bob', 'ann'])
        >>> held_groups(source, ['bob']).test.raw
        ['b']
    """
    if source.groups is None:
        raise DataError("`test_groups` names groups, but the data has none. Say with `group_by` what they are.")
    there = set(source.groups)
    groups = [canonical_name(group) if group not in there else group for group in groups]
    unknown = [group for group in groups if group not in there]
    if unknown:
        near = did_you_mean(unknown[0], there) or f" The groups are {listed(natural_order(there))}."
        raise DataError(f"`test_groups` names {listed(map(repr, unknown))}, which the data does not have.{near}")
    held = np.isin(np.asarray(source.groups), list(groups))
    if held.all():
        raise DataError("`test_groups` holds all groups out; nothing is left to learn from.")
    return Splits(source.subset(~held), test=source.subset(held))


def class_entries(classes: str | Sequence[str] | Mapping[str, str | None]) -> Sequence[str]:
    """Returns what is to be done with classes as `class_map` reads it, also where a mapping or one name is given.

    Example:
        >>> class_entries({'cat': 'pet', 'dog': None}), class_entries('cat')
        (['cat=pet', 'dog='], ['cat'])
    """
    if isinstance(classes, str):
        return [classes]
    if not isinstance(classes, Mapping):
        return classes

    def escaped(name: object) -> str:
        return re.sub(r"([,=])", r"\\\1", str(name))

    return [f"{escaped(old)}={'' if new is None else escaped(new)}" for old, new in classes.items()]


def class_map(entries: Sequence[str]) -> dict[str, str | None]:
    """Reads what is to be done with classes.

    Args:
        entries: 'old=new' renames, 'old=' leaves out, a bare 'name' keeps; 'name=name' changes nothing, and says that
            a folder is a class even if it is called like a part of the data or "unknown". Commas may separate several,
            and a backslash before a comma or an equals sign keeps it.

    Returns:
        New name by old name, None for those left out.

    Example:
        >>> class_map(['a=b,c=', 'd'])
        {'a': 'b', 'c': None, 'd': 'd'}
    """
    found: dict[str, str | None] = {}
    for entry, (old, *new) in _read(entries):
        if len(new) > 1 or not old or old in found:
            raise ConfigError(f"`classes` holds {entry!r}; expected old=new, old= or name, each class once.")
        found[old] = old if not new else new[0] or None
    return found


def _read(entries: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for entry in (part for text in entries for part in re.split(r"(?<!\\),", text) if part):
        sides = re.split(r"(?<!\\)=", entry)
        yield entry, [canonical_name(re.sub(r"\\([,=])", r"\1", side).strip()) for side in sides]


def _only_named(entries: Sequence[str]) -> bool:
    """Whether a bare name is among them, so that all other classes are left out."""
    return any(len(sides) == 1 for _, sides in _read(entries))


def _require_known(changes: Mapping[str, str | None], labels: Sequence[str]) -> None:
    """Refuses names that the data lacks; 'name=name' may name a folder that holds class folders."""
    there = {canonical_name(label) for label in labels}
    folders = {name for label in there for name in label.split("/")}
    unknown = [name for name in changes if canonical_name(name) not in there]
    unknown = [name for name in unknown if changes[name] != name or name not in folders]
    if unknown:
        near = did_you_mean(unknown[0], labels) or f" The classes are {listed(labels)}."
        raise DataError(f"`classes` names {listed(map(repr, unknown))}, which the data does not have.{near}")


def renamed(source: Source, classes: Sequence[str], *, known: bool = True) -> Source:
    """Renames, merges and leaves out classes.

    Args:
        source: labelled with classes.
        classes: 'old=new' renames (several to one name merge), 'old=' leaves out; with a bare 'name' among them, all
            classes that are not named are left out.
        known: whether each must occur.

    Raises:
        DataError: no classes, or a class that does not occur.

    Example:
        >>> source = renamed(Source.of('text', list('abcd'), ['x', 'y', 'z', 'x']), ['x=one,y=one'])
        >>> source.labels, source.targets.tolist()
        (('one', 'z'), [0, 0, 1, 0])
    """
    if source.task != "classification":
        raise DataError(f"`classes` is for data with one class an example; this is {source.task}.")
    changes = class_map(classes)
    form = {canonical_name(name): name for name in source.labels}  # a model's labels keep their own spelling
    changes = {form.get(name, name): new for name, new in changes.items()}
    if known:
        _require_known(changes, source.labels)
    rest = (lambda name: None) if _only_named(classes) else (lambda name: name)
    new = [changes[name] if name in changes else rest(name) for name in source.labels]
    labels = tuple(dict.fromkeys(name for name in new if name is not None))
    place = {name: i for i, name in enumerate(labels)}
    table = np.array([-2 if name is None else place[name] for name in new] + [-1], np.int32)
    targets = table[source.targets]
    left = np.flatnonzero(targets != -2)
    if len(left) == 0:
        raise DataError(f"`classes` leaves nothing of the classes {listed(source.labels)}.")
    return dataclasses.replace(source, targets=targets, labels=labels).subset(left)


def limited(source: Source, limit: int, seed: int) -> np.ndarray:
    """Draws so many examples, of each class the same share, and one of each class before a second of any.

    Args:
        source: of any task; where it has no classes the draw is even.
        limit: how many; fewer if there are fewer.
        seed: of one seed, a smaller draw is part of a larger one.

    Returns:
        int64 [chosen], sorted.

    Example:
        >>> source = Source.of('text', list('abcdefgh'), list('xxxxxxyy'))
        >>> source.targets[limited(source, 4, seed=0)].tolist()
        [0, 0, 0, 1]
    """
    if limit < 1:
        raise ConfigError(f"`limit` is {limit}; expected at least 1.")
    rng = np.random.default_rng(seed)
    strata = source.targets if source.targets.ndim == 1 else np.zeros(len(source), np.int64)
    order = rng.permutation(len(source))
    turn = np.empty(len(source))
    for stratum in np.unique(strata):
        members = order[strata[order] == stratum]
        turn[members] = np.arange(len(members)) / len(members)
    return np.sort(order[np.argsort(turn[order], kind="stable")][:limit])
