"""From what a user names to a source: a folder, a table, a published set, or the digits that scikit-learn brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from flaxtl.card import Columns, Task
from flaxtl.data.arrays import from_arrays
from flaxtl.data.columns import Reading
from flaxtl.data.folder import BadFile, from_folder
from flaxtl.data.hub_sets import from_hf
from flaxtl.data.names import canonical_name
from flaxtl.data.parquet import from_parquet, has_parquet
from flaxtl.data.patterns import is_pattern
from flaxtl.data.selecting import class_entries, class_map, select
from flaxtl.data.set_parts import with_split
from flaxtl.data.source import Source, Splits
from flaxtl.data.tables import TABLES, from_table
from flaxtl.data.tensorflow_sets import from_tfds
from flaxtl.errors import DataError
from flaxtl.places import expanded


def open_source(
    spec: str | Path,
    *,
    input_column: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    task: Task | None = None,
    split: str | None = None,
    group_by: str | None = None,
    test_groups: Sequence[str] = (),
    classes: str | Sequence[str] | Mapping[str, str | None] = (),
    limit: int | None = None,
    seed: int = 0,
    on_bad_file: BadFile = "error",
    columns: Columns | None = None,
    known_classes: Sequence[str] = (),
) -> Source | Splits:
    """Opens labelled data by its name.

    Args:
        spec: a folder, a .csv, .tsv, .jsonl or .parquet file, tfds:name[/config][:version] for a set that
            tensorflow-datasets has prepared, hf:owner/name[:config] for one of the Hugging Face hub or a folder that
            its library wrote, or "digits" for scikit-learn's 1,797 digits of 8×8.
        input_column: of a table; "a,b" for pairs of texts or several numbers.
        label_column: of a table; "a,b" for several outputs. Of a folder, a pattern of paths with {} for the class; see
            `from_paths`.
        task: what the labels are; by default inferred where that is clear, and then said in the source's notes.
        split: of a set with several, the one to take, or "train=…,test=…".
        group_by: a column of a table, or a pattern of paths with {} for the group.
        test_groups: groups that become the test part.
        classes: see `renamed`.
        limit: see `limited`; of several parts the training part alone is limited.
        seed: of the limit.
        on_bad_file: what to do with an unreadable file.
        columns: of an earlier table, such as `model.card.columns`; taken where this table has them and none are named.
        known_classes: names that are classes even where a folder's name looks like a part of the data or "unknown",
            such as those of the model that is to be measured.

    Raises:
        DataError: it does not exist or cannot be read as labelled data.

    Example:
        >>> len(open_source('digits', limit=100))
        100
    """
    input_column, label_column, group_by = (
        name if name is None or isinstance(name, str) else ",".join(map(str, name))
        for name in (input_column, label_column, group_by)
    )
    classes = class_entries(classes)
    changes = class_map(classes)
    sure = frozenset(map(canonical_name, (*known_classes, *changes)))
    reading = Reading(input_column, label_column, group_by, task, on_bad_file, columns, classes=sure)
    named = [*known_classes, *(name for name, new in changes.items() if new is not None)]
    found, grouped = _opened(spec, reading, split, named)
    by_path = None if grouped else group_by
    return select(found, group_by=by_path, test_groups=test_groups, classes=classes, limit=limit, seed=seed)


def _opened(
    spec: str | Path, reading: Reading, split: str | None, classes: Sequence[str]
) -> tuple[Source | Splits, bool]:
    """Returns the data and whether its groups are in it already."""
    path, name = expanded(spec), str(spec)
    kind, colon, rest = name.partition(":")
    if colon and kind in _SETS and not path.exists():
        return _SETS[kind](rest, split=split, reading=reading), True
    if path.suffix.lower() == ".parquet" or has_parquet(path):
        return from_parquet(path, split=split, reading=reading), True
    if path.suffix.lower() in TABLES:
        return from_table(path, reading, split), True
    if path.is_file():
        raise DataError(
            f"{path} is neither a folder nor a .csv, .tsv, .jsonl, .json or .parquet table, which is what labelled "
            "data comes in."
        )
    if reading.task not in (None, "classification"):
        raise DataError(f"{spec} says one class an example. For `task={reading.task!r}` give a table.")
    if name == "digits" and not path.exists():
        return with_split(digits(), split, name), False
    pattern = reading.label_column if reading.label_column and is_pattern(reading.label_column) else None
    found = from_folder(path, classes_by=pattern, on_bad_file=reading.on_bad_file, split=split, classes=classes)
    return found, False


_SETS: dict[str, Callable[..., Source | Splits]] = {"tfds": from_tfds, "hf": from_hf}


def digits() -> Source:
    """Returns scikit-learn's handwritten digits (UCI, Alpaydin and Kaynak 1998): 1,797 grey pictures of 8×8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.round(found.images * (255.0 / 16.0)).astype(np.uint8)
    return from_arrays(pictures, found.target, labels=[str(i) for i in range(10)])
