"""Class names of published weights: in their settings, or in a file beside them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from flaxtl.convert.settings import READ, read_settings
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError, listed

# Settings that name classes.
NAMES = dict.fromkeys(("id2label", "label_names", "labels"), READ)
LIST, TABLE = "labels.txt", "*class*.csv"
_COLUMNS = ("display_name", "label", "name", "class")


def labels_of(weights: Weights, outputs: int) -> tuple[str, ...]:
    """Returns the class names in the order of the outputs, or () where nothing names just so many.

    Looked up in this order: `id2label` of config.json (unless it only numbers them: LABEL_0 …), timm's `label_names`
    (a list, or names by number; `labels` in its first form; either may lie in `pretrained_cfg`),
    `labels.txt` (one name a line), a table `*class*.csv` (the column display_name, label, name or class, else the
    last; in the order of its index, where its first column is one). Names that occur twice get what tells them apart.

    Args:
        weights: with the files that were published beside them.
        outputs: units of the head.

    Raises:
        CheckpointError: a setting with class names does not say which output has which.

    Example:
        >>> labels_of(Weights({}, {'label_names': ['no', 'yes']}), 2), labels_of(Weights({}), 2)
        (('no', 'yes'), ())
    """
    if not outputs:
        return ()
    for find in (_id2label, _label_names, _listed, _tabled):
        names = find(weights)
        if len(names) == outputs and len(set(names)) == outputs:
            return tuple(names)
    return ()


def require_names_alone(weights: Weights) -> None:
    """Refuses a config.json that says more than class names, for a family that is published without one.

    Raises:
        CheckpointError: it says something else; all of that is named.
    """
    read_settings(weights.config, NAMES, source="config.json", ignore=weights.ignore_settings)


def _id2label(weights: Weights) -> Sequence[str]:
    if "id2label" in weights.ignore_settings:
        return []
    names = _in_order("id2label", weights.config.get("id2label"))
    return [] if names and all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def _label_names(weights: Weights) -> Sequence[str]:
    for settings in (weights.config, weights.config.get("pretrained_cfg") or {}):
        for key in ("label_names", "labels"):
            names = [] if key in weights.ignore_settings else _in_order(key, settings.get(key))
            if names:
                return _distinct(names, [str(i) for i in range(len(names))])
    return []


def _in_order(key: str, found: Any) -> list[str]:
    """Returns names in the order of the outputs: of a list, of names by number, or of numbers by name.

    Raises:
        CheckpointError: it is none of them, or its numbers are not 0, 1, 2 …, so that no output has its name for sure.
    """
    if not found:
        return []
    pairs = list(enumerate(found)) if isinstance(found, (list, tuple)) else _numbered(found)
    numbers = [number for number, _ in pairs]
    if not pairs or numbers != list(range(len(pairs))):
        several = f"numbers {listed(numbers, 6)}" if pairs else f"{type(found).__name__} {str(found)[:60]!r}"
        raise _not_names(key, f"{several}, where outputs are numbered 0, 1, 2 …")
    unnamed = [name for _, name in pairs if isinstance(name, bool) or not isinstance(name, (str, int, float))]
    if unnamed:
        raise _not_names(key, f"{unnamed[0]!r}, which is no name")
    return [str(name) for _, name in pairs]


def _numbered(found: Any) -> list[tuple[int, Any]]:
    """Returns the pairs (number, name) of a mapping in the order of the numbers; [] where one side holds none."""
    if not isinstance(found, Mapping):
        return []
    for pairs in (list(found.items()), [(number, name) for name, number in found.items()]):
        numbers = [_number(number) for number, _ in pairs]
        if None not in numbers:
            names = [name for _, name in pairs]
            return sorted(zip([n for n in numbers if n is not None], names, strict=True), key=lambda pair: pair[0])
    return []


def _number(found: Any) -> int | None:
    if isinstance(found, bool) or not isinstance(found, (int, str)):
        return None
    return int(found) if isinstance(found, int) or re.fullmatch(r"\d+", found, re.ASCII) else None


def _not_names(key: str, told: str) -> CheckpointError:
    return CheckpointError(
        f"config.json has class names in {key}, but it holds {told}. Write a list of names in the order of the "
        f"outputs, or leave them out with ignore_settings=({key!r},)."
    )


def _listed(weights: Weights) -> Sequence[str]:
    if LIST not in weights.files:
        return []
    lines = weights.files[LIST].read_text(encoding="utf-8").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    return _distinct(names, [str(i) for i in range(len(names))])


def _tabled(weights: Weights) -> Sequence[str]:
    files = [path for name, path in sorted(weights.files.items()) if fnmatch(name.lower(), TABLE)]
    return _table(files[0]) if files else []


def _table(file: Path) -> Sequence[str]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = [row for row in csv.reader(opened) if row]
    if not rows:
        return []
    first = [cell.strip().lower() for cell in rows[0]]
    named = [first.index(column) for column in _COLUMNS if column in first]
    if named:
        rows = rows[1:]
    column = named[0] if named else -1
    if all(row[0].strip().isdigit() for row in rows):
        rows.sort(key=lambda row: int(row[0]))
    return _distinct([row[column].strip() for row in rows], [row[min(1, len(row) - 1)].strip() for row in rows])


def _distinct(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """ImageNet has two cranes, the bird and the machine: what else is known of them goes into brackets."""
    count = Counter(names)
    return [f"{name} ({other})" if count[name] > 1 else name for name, other in zip(names, others, strict=True)]
