"""The parts of a data set: which of its splits are which, and their tables read alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from flaxtl.data.columns import Reading, Table
from flaxtl.data.part_names import part_of
from flaxtl.data.reading import source_of
from flaxtl.data.source import UNLABELLED, Source, Splits, natural_order
from flaxtl.errors import DataError, did_you_mean, listed

PARTS = ("train", "validation", "test")


def sources_of(tables: Mapping[str, Table], names: Mapping[str, str], reading: Reading) -> Source | Splits:
    """Reads the tables of a data set's parts: columns and task are those of the training part.

    Args:
        tables: part → table.
        names: part → what the set calls it.
        reading: which columns are what.

    Raises:
        DataError: as `source_of`; a part without labels is named, and how to do without it.
    """
    if len(tables) == 1:
        [(part, table)] = tables.items()
        return source_of(table, reading)
    found: dict[str, Source] = {}
    for part in (name for name in PARTS if name in tables):
        rest = ",".join(f"{p}={names[p]}" for p in tables if p != part)
        way_out = _without(rest) if part != "train" else "Give it labels."
        table = dataclasses.replace(tables[part], part=names[part], way_out=way_out)
        if part == "train":
            found[part] = source_of(table, reading)
            inferred = dataclasses.replace(
                reading,
                task=found[part].task,
                columns=found[part].columns,
                certain=reading.certain and reading.task is not None,
            )
            continue
        _require_columns(table, found["train"])
        found[part] = source_of(table, inferred)
    return joined(found)


def _without(rest: str) -> str:
    return f"Leave it out with `split={rest!r}` (--split {rest} on the command line)."


def _require_columns(table: Table, train: Source) -> None:
    assert train.columns is not None
    for name in (*train.columns.inputs, *train.columns.labels):
        if name not in table.columns:
            raise DataError(f"{table.title} has no column {name!r}, which the training part has. {table.way_out}")


def joined(parts: Mapping[str, Source]) -> Source | Splits:
    """Returns the parts of a data set with one class order, the training part's; a lone one as it is.

    Raises:
        DataError: a part has a class that the training part lacks.
    """
    if len(parts) == 1:
        return next(iter(parts.values()))
    train = parts["train"]
    for name, part in parts.items():
        if part.task == train.task == "classification":
            used = {part.labels[target] for target in np.unique(part.targets) if target != UNLABELLED}
            unknown = natural_order(used - set(train.labels))
            if unknown:
                raise DataError(
                    f"The {name} part has the classes {listed(unknown)}, which the training part lacks; it has "
                    f"{listed(train.labels)}. Rename or leave out these classes."
                )
    return Splits(**{name: part.with_labels(train.labels) for name, part in parts.items()})


def parts_of(place: str, available: Sequence[str], split: str | None) -> dict[str, str]:
    """Returns which of the splits that a data set has is which part: part → split.

    Args:
        place: what messages call the set.
        available: the names of its splits.
        split: what the user says: None takes those called train, validation and test; one name takes this one alone;
            'train=a,test=b' says it of each. A name may have a slice behind it where the set's library takes slices.

    Raises:
        DataError: a split that the set does not have, or none of them is called train.

    Example:
        >>> parts_of('set', ['train', 'valid', 'extra'], None)
        {'train': 'train', 'validation': 'valid'}
        >>> parts_of('set', ['a', 'b'], 'train=a[:50%],test=b')
        {'train': 'a[:50%]', 'test': 'b'}
    """
    if split is not None:
        given = dict(_part(entry) for entry in split.split(","))
        for name in given.values():
            for piece in name.split("+"):
                if piece.split("[")[0] not in available:
                    near = did_you_mean(piece, available)
                    raise DataError(f"{place} has no split {piece!r}.{near} Its splits are {listed(available)}.")
        found = given
    elif len(available) == 1:
        return {"train": available[0]}
    else:
        found = {part: n for n in reversed(available) if (part := part_of(n)) is not None}
    if "train" not in found:
        raise DataError(
            f"{place} has the splits {listed(available)}; which one is to be learned from is not clear. "
            "Name it with `split`, such as `split='test'` or `split='train=one,test=other'`."
        )
    return {part: found[part] for part in PARTS if part in found}


def noted(
    tables: dict[str, Table], available: Sequence[str], parts: Mapping[str, str], split: str | None
) -> dict[str, Table]:
    """Returns the tables of a set's parts with a note on the splits that are not read, unless the user chose them."""
    rest = [name for name in available if name not in parts.values()]
    if split is not None or not rest:
        return tables
    first = next(iter(tables))
    note = (
        f"{tables[first].place} holds {listed(map(repr, rest))} too, which is not read. Name what to read with "
        f"`split`, such as `split='train={rest[0]}'`."
    )
    return {**tables, first: dataclasses.replace(tables[first], notes=(*tables[first].notes, note))}


def _part(entry: str) -> tuple[str, str]:
    part, equals, name = entry.strip().partition("=")
    if not equals:
        return "train", part
    said = part_of(part)
    if said is None or not name:
        raise DataError(f"`split` holds {entry!r}; expected a split's name, or train=, validation= or test= before it.")
    return said, name


def with_split(data: Source | Splits, split: str | None, place: str) -> Source | Splits:
    """Returns the parts that a user names of data that is read already; see `parts_of`.

    Raises:
        DataError: there is no such part.
    """
    if split is None:
        return data
    parts = data.parts if isinstance(data, Splits) else {"all": data}
    chosen = parts_of(place, list(parts), split)
    sliced = [name for name in chosen.values() if name not in parts]
    if sliced:
        raise DataError(f"{place} cannot be cut at {sliced[0]!r}; expected one of {listed(parts)}. See `limit`.")
    return joined({part: parts[name] for part, name in chosen.items()})
