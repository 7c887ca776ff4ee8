"""What the names of folders say: which part of a data set they hold, or that their files have no labels."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable

from flaxtl.data.names import canonical_name

_NAMES = {
    "train": "train training trn",
    "validation": "val valid validation validate validating dev devel development",
    "test": "test testing tst tests eval evaluation evaluate holdout heldout",
}
_AFFIXES = "set sets data dataset images image imgs img pictures photos files audio clips split part folder"
# What a folder's name says of its part, in lower case and without spaces, hyphens, underscores and points.
SPLIT_FOLDERS = {
    spelled: part
    for part, names in _NAMES.items()
    for name in names.split()
    for spelled in (name, *(name + a for a in _AFFIXES.split()), *(a + name for a in _AFFIXES.split()))
} | {"test1": "test"}
_WORDS = {name: part for part, names in _NAMES.items() for name in names.split()}
_STEMS = ["unlabeled", "unlabelled", "unknown", "unknowns", "unsorted", "unclassified", "unannotated", "untagged"]
_UNLABELLED = {
    *(stem + affix for stem in _STEMS for affix in ("", *_AFFIXES.split())),
    *["nolabel", "nolabels", "tolabel", "withoutlabel", "withoutlabels", "notlabeled", "notlabelled", "unassigned"],
}


def folder_key(name: str) -> str:
    """Returns what folder names have in common that differ in case and separators alone."""
    return re.sub(r"[-_ .]", "", canonical_name(name).casefold())


def part_of(name: str) -> str | None:
    """Returns the part of a data set that a folder of this name holds, or None.

    Example:
        >>> part_of('training_set'), part_of('VALID'), part_of('Test-Images'), part_of('cat')
        ('train', 'validation', 'test', None)
    """
    return SPLIT_FOLDERS.get(folder_key(name))


def parts_among(names: Iterable[str]) -> dict[str, str]:
    """Returns which of the folders beside each other hold parts of a data set: folder → part.

    Besides the usual names these are names with a word for a part in them that are otherwise the same, numbers and
    words for data apart, where one of them is for training and another is not.

    Example:
        >>> parts_among(['seg_train', 'seg_test', 'seg_pred']), parts_among(['train2017', 'val2017'])
        ({'seg_train': 'train', 'seg_test': 'test'}, {'train2017': 'train', 'val2017': 'validation'})
        >>> parts_among(['steam train', 'test tube'])
        {}
    """
    names = list(names)
    found = {name: part for name in names if (part := part_of(name))}
    alike: dict[tuple[str, ...], dict[str, str]] = collections.defaultdict(dict)
    for name in names:
        words = re.findall(r"[^\W\d_]+", canonical_name(name).casefold())
        parts = [_WORDS[word] for word in words if word in _WORDS]
        if len(parts) == 1:
            rest = tuple(word for word in words if word not in _WORDS and word not in _AFFIXES.split())
            alike[rest][name] = parts[0]
    for group in alike.values():
        if "train" in group.values() and len(set(group.values())) > 1:
            found |= group
    return {name: found[name] for name in names if name in found}


def is_unlabelled(name: str) -> bool:
    """Whether a folder's name says that its files have no labels.

    Example:
        >>> is_unlabelled('Un-labelled'), is_unlabelled('unknown'), is_unlabelled('cat')
        (True, True, False)
    """
    return folder_key(name) in _UNLABELLED
