"""Which folders are the parts of a data set (train, validation, test), which hold no labels, and which are classes."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from flaxtl.data.contents import Contents
from flaxtl.data.formats import modality_of
from flaxtl.data.part_names import SPLIT_FOLDERS, folder_key, is_unlabelled, part_of, parts_among
from flaxtl.data.source import natural_order
from flaxtl.errors import DataError, did_you_mean, listed

_FOLD = re.compile(r"(cv)?[-_ ]?folds?[-_ ]?\d+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a folder is divided.

    Attributes:
        parts: the top folders of each part, {} where the whole folder is one set.
        aside: top folders that belong to no part.
        notes: what the user should know of this reading.
    """

    parts: Mapping[str, Sequence[str]]
    aside: Sequence[str] = ()
    notes: Sequence[str] = ()


def layout_of(folder: Path, found: Contents, classes: Collection[str], *, patterned: bool) -> Layout:
    """Returns how a folder is divided into parts.

    Args:
        folder: for messages.
        found: what lies in it, without folders that wrap all of it.
        classes: names that are classes whatever they look like.
        patterned: whether a pattern of paths says the class, so that parts need no class folders.

    Raises:
        DataError: more than one reading makes sense; the message names them and what decides.
    """
    inner: dict[str, set[PurePosixPath]] = collections.defaultdict(set)
    for path in found.members:
        inner[path.parts[0] if len(path.parts) > 1 else ""].add(PurePosixPath(*path.parts[1:]))
    named = parts_among(top for top in inner if top and top not in classes)
    unlabelled = [top for top in inner if top not in classes and top not in named and is_unlabelled(top)]
    others = [top for top in inner if top and top not in named and top not in unlabelled]
    if not named:
        _refuse_inner_parts(folder, found, classes)
        if not patterned and not classes:
            _refuse_repeated_classes(folder, inner, others)
        return Layout({})
    whole = Layout({}, notes=_class_notes(named))
    parts: dict[str, list[str]] = collections.defaultdict(list)
    for top in natural_order(named):
        parts[named[top]].append(top)
    if not others:
        return Layout(parts, unlabelled)
    deep = {top for top in named if any(len(path.parts) > 1 for path in inner[top])}
    learned = any(named[top] == "train" and (patterned or top in deep) for top in named)
    _refuse_nested_copies(folder, inner, named, others)
    if learned and len(parts) > 1:
        return Layout(parts, [*unlabelled, *others])
    doubles = {path.parts[0] for top in deep for path in inner[top] if len(path.parts) > 1} & set(others)
    if (learned and not patterned) or doubles or (len(parts) > 1 and "train" in parts and not patterned):
        raise DataError(_ambiguous(folder, natural_order(named), natural_order(others)))
    if not patterned and not classes:
        _refuse_repeated_classes(folder, inner, [*named, *others])
    return whole


def _class_notes(named: Mapping[str, str]) -> list[str]:
    return [
        f"The folder {top!r} lies beside class folders and is read as a class. If it is the {part} part, move the "
        "class folders into a folder called train."
        for top, part in named.items()
    ]


def _ambiguous(folder: Path, named: Sequence[str], others: Sequence[str]) -> str:
    return (
        f"{folder} holds folders that are called like parts of a data set ({listed(named)}) beside others "
        f"({listed(others, 4)}). If {listed(named)} are parts, move the others elsewhere, or into the train folder if "
        f"they are its classes, or name the parts with split='train={named[0]}'. If all are classes, say so with "
        f"classes={[f'{name}={name}' for name in named]}."
    )


def _refuse_nested_copies(
    folder: Path, inner: Mapping[str, set[PurePosixPath]], named: Mapping[str, str], others: Sequence[str]
) -> None:
    """Refuses a folder that holds the parts twice: beside each other, and once more in a folder between them."""
    for top in others:
        below = {path.parts[0] for path in inner[top] if len(path.parts) > 1}
        again = sorted(name for name in below if part_of(name))
        if len({part_of(name) for name in again} & set(named.values())) > 1 or (again and len(below) == len(again)):
            raise DataError(
                f"{folder} holds the parts {listed(natural_order(named))}, and {folder / top} holds {listed(again)} "
                "once more, so that the same data would count twice. Remove one of the two, or name "
                f"{folder / top} as the data."
            )


def _refuse_repeated_classes(folder: Path, inner: Mapping[str, set[PurePosixPath]], tops: Sequence[str]) -> None:
    """Refuses folders that all hold the same folders, which are parts or classes: their names do not say which."""
    below = {top: frozenset(path.parts[0] for path in inner[top] if len(path.parts) > 1) for top in tops}
    files = [path for top in tops for path in inner[top]]
    flat = any(len(path.parts) < 2 for path in files)
    mixed = len({modality_of(path.name) for path in files}) > 1  # told of elsewhere
    if flat or mixed or len(below) < 2 or len(set(below.values())) > 1 or len(next(iter(below.values()))) < 2:
        return
    names, first = natural_order(below), natural_order(next(iter(below.values())))
    raise DataError(
        f"{folder} holds the folders {listed(names, 6)}, and each of them {listed(first, 6)}. If they are parts of a "
        f"data set, say which is which, such as split='train={names[0]},test={names[1]}'. If all are for training, "
        f"with the classes {listed(first, 6)}, set label_column='*/{{}}/*'. If {names[0]}/{first[0]} and "
        f"{names[1]}/{first[0]} are classes of their own, name all of these with "
        f"classes={[f'{names[0]}/{first[0]}', f'{names[1]}/{first[0]}']} and so on."
    )


def _refuse_inner_parts(folder: Path, found: Contents, classes: Collection[str]) -> None:
    """Refuses part folders that lie inside other folders, which would become classes called cat/train."""
    below: dict[PurePosixPath, set[str]] = collections.defaultdict(set)
    for path in found.members:
        for depth, name in enumerate(path.parts[:-1]):
            if depth and name not in classes and part_of(name):
                below[PurePosixPath(*path.parts[:depth])].add(name)
    places = [place for place, names in below.items() if len({part_of(name) for name in names}) > 1]
    if places:
        names = natural_order(below[places[0]])
        raise DataError(
            f"The part folders {listed(names)} lie in {listed((str(folder / p) for p in places), 4)}, inside the "
            f"folders that would be the classes. Expected {folder}/train/CLASS/FILE: name the folder that holds the "
            "parts as the data, or move the parts to the top. If they are classes, say so with "
            f"classes={[f'{name}={name}' for name in names]}."
        )


def refuse_folds(folder: Path, tops: Collection[str], classes: Collection[str]) -> None:
    """Refuses folders called fold1, fold2, …, which divide data for cross-validation and are no classes.

    Raises:
        DataError: all top folders are called so.
    """
    folds = [top for top in tops if top not in classes and _FOLD.fullmatch(top)]
    if len(folds) > 1 and len(folds) == len(tops):
        raise DataError(
            f"{folder} holds the folders {listed(natural_order(folds), 4)}, which divide data for cross-validation and "
            "are no classes. Say with label_column where the class stands in the path, such as 'fold*/{}/*' for "
            "fold1/CLASS/FILE, or give a table of the files with their labels. If they are classes, say so with "
            f"classes=[{f'{folds[0]}={folds[0]}'!r}, …]."
        )


def parts_named(folder: Path, tops: Collection[str], split: str) -> dict[str, list[str]]:
    """Returns the top folders that a user names as parts.

    Args:
        folder: for messages.
        tops: its top folders.
        split: one name, or "train=a,test=b"; a name is a folder's, or a part's.

    Raises:
        DataError: there is no such folder.

    Example:
        >>> parts_named(Path('d'), ['fold_a', 'Test', 'extra'], 'train=fold_a,test=test')
        {'train': ['fold_a'], 'test': ['Test']}
    """
    found: dict[str, list[str]] = collections.defaultdict(list)
    for entry in split.split(","):
        part, equals, name = entry.strip().partition("=")
        part, name = (part, name) if equals else ("train", part)
        if part not in SPLIT_FOLDERS or not name:
            expected = "expected a folder's name, or train=, validation= or test= before it"
            raise DataError(f"split holds {entry!r}; {expected}.")
        if "[" in name or "+" in name:
            raise DataError(f"{folder} cannot be cut at {name!r}; expected one of {listed(natural_order(tops))}.")
        same = [top for top in tops if folder_key(top) == folder_key(name)]
        same = same or [top for top in tops if part_of(name) and part_of(top) == part_of(name)]
        if not same:
            near = did_you_mean(name, tops) or f" Its folders are {listed(natural_order(tops))}."
            raise DataError(f"{folder} has no split {name!r}.{near}")
        found[SPLIT_FOLDERS[part]] += same
    return dict(found)
