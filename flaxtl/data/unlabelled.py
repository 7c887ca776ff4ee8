"""What a model is asked about by name: files, folders and tables, whose labels (if there are any) are not looked at."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from flaxtl.card import Columns
from flaxtl.data.folder import BadFile, from_files
from flaxtl.data.parquet import parquet_table
from flaxtl.data.reading import inputs_of
from flaxtl.data.source import Source
from flaxtl.data.tables import TABLES, read_table
from flaxtl.errors import DataError, listed, shown
from flaxtl.places import expanded


def to_predict(
    paths: str | Path | Iterable[str | Path],
    *,
    modality: str | None = None,
    input_column: str | None = None,
    on_bad_file: BadFile = "error",
    columns: Columns | None = None,
) -> Source:
    """Reads files, folders and tables without labels.

    Args:
        paths: one or more of them; a table is a .csv, .tsv, .jsonl or .parquet file.
        modality: what is taken of a folder's files; see `from_files`.
        input_column: of the tables, "a,b" for pairs of texts or for several columns of numbers; by default those of
            `columns`, or inferred from names and contents.
        on_bad_file: what to do with an unreadable file.
        columns: of the table that a model was trained on (`model.card.columns`).

    Returns:
        A source; the keys are the files' paths, or a table's name and the number of the line or row.

    Raises:
        DataError: something is missing or unreadable, or not all is of one kind.
    """
    if not isinstance(paths, (str, os.PathLike, Iterable)):
        raise DataError(f"The data is {shown(paths)}; expected a path or a list of paths.")
    given = [expanded(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    tables = [path for path in given if path.suffix.lower() in (*TABLES, ".parquet") and not path.is_dir()]
    if input_column is not None and not tables:
        raise DataError("`input_column` names a column of a table, and no table is among the files.")
    found = [_of_table(table, input_column, on_bad_file, columns) for table in tables]
    others = [path for path in given if path not in tables]
    if others or not tables:
        found.append(from_files(others, modality=modality, on_bad_file=on_bad_file))
    return found[0] if len(found) == 1 else _together(found)


def texts_to_predict(texts: Sequence[str], *, name: str, pair: bool = False) -> Source:
    """Makes a source of texts that are given one by one.

    Args:
        texts: one an example; of pairs both, with a tab between.
        name: what their keys begin with.
        pair: whether an example is a pair of texts.

    Raises:
        DataError: there are none, or one is no pair.

    Example:
        >>> source = texts_to_predict(['good', 'bad'], name='stdin')
        >>> source.keys, source.raw
        (('stdin:1', 'stdin:2'), ['good', 'bad'])
    """
    if not texts:
        raise DataError("There is nothing to predict: no text is given.")
    parts = [text.split("\t") for text in texts]
    odd = [i for i, pieces in enumerate(parts) if pair and len(pieces) != 2]
    if odd:
        raise DataError(f"{name}:{odd[0] + 1} is no pair of texts; expected two texts with a tab between them.")
    raw = [(pieces[0], pieces[1]) for pieces in parts] if pair else list(texts)
    keys = [f"{name}:{i}" for i in range(1, len(texts) + 1)]
    source = Source.of("text", raw, keys=keys)
    return dataclasses.replace(source, details={"text": list(texts)})


def together(parts: Sequence[Source]) -> Source:
    """Returns several sources without labels as one.

    Raises:
        DataError: they are not of one kind.
    """
    return parts[0] if len(parts) == 1 else _together(parts)


def _of_table(path: Path, input_column: str | None, on_bad_file: BadFile, columns: Columns | None) -> Source:
    table = parquet_table(path) if path.suffix.lower() == ".parquet" else read_table(path)
    return inputs_of(table, input_column, on_bad_file, columns)


def _together(parts: Sequence[Source]) -> Source:
    kinds = sorted({part.modality for part in parts})
    if len(kinds) > 1:
        raise DataError(f"The files hold {listed(kinds)}; expected one kind. Give them one after the other.")
    names = dict.fromkeys(name for part in parts for name in part.details)
    details = {name: [v for part in parts for v in part.details.get(name, [""] * len(part))] for name in names}
    source = Source.of(
        kinds[0],
        [np.asarray(raw) if kinds == ["array"] else raw for part in parts for raw in part.raw],
        keys=[key for part in parts for key in part.keys],
        skipped=[entry for part in parts for entry in part.skipped],
    )
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return dataclasses.replace(source, details=details, notes=notes)
