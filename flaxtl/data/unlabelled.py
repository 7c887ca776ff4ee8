"""What a model is asked about: files, folders and tables, whose labels (if there are any) are not looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from flaxtl.data.columns import inputs_of
from flaxtl.data.folder import BadFile, from_files
from flaxtl.data.parquet import parquet_table
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
) -> Source:
    """Reads files, folders and tables without labels.

    Args:
        paths: one or more of them; a table is a .csv, .tsv, .jsonl or .parquet file.
        modality: what is taken of a folder's files; see `from_files`.
        input_column: of the tables, "a,b" for pairs of texts or for several columns of numbers; guessed by its name,
            or the only one that is not called like a label.
        on_bad_file: what to do with an unreadable file.

    Returns:
        A source; the keys are the files' paths, or a table's name and the number of the row.

    Raises:
        DataError: something is missing or unreadable, or not all is of one kind.
    """
    if not isinstance(paths, (str, os.PathLike, Iterable)):
        raise DataError(f"The data is {shown(paths)}; expected a path or a list of paths.")
    given = [expanded(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    tables = [path for path in given if path.suffix.lower() in (*TABLES, ".parquet") and not path.is_dir()]
    if input_column is not None and not tables:
        raise DataError("`input_column` names a column of a table, and no table is among the files.")
    found = [_of_table(table, input_column, on_bad_file) for table in tables]
    others = [path for path in given if path not in tables]
    if others or not tables:
        found.append(from_files(others, modality=modality, on_bad_file=on_bad_file))
    return found[0] if len(found) == 1 else _together(found)


def _of_table(path: Path, input_column: str | None, on_bad_file: BadFile) -> Source:
    table = parquet_table(path) if path.suffix.lower() == ".parquet" else read_table(path)
    return inputs_of(table, input_column, on_bad_file)


def _together(parts: Sequence[Source]) -> Source:
    kinds = sorted({part.modality for part in parts})
    if len(kinds) > 1:
        raise DataError(f"The files hold {listed(kinds)}; expected one kind. Give them one after the other.")
    return Source.of(
        kinds[0],
        [np.asarray(raw) if kinds == ["array"] else raw for part in parts for raw in part.raw],
        keys=[key for part in parts for key in part.keys],
        skipped=[entry for part in parts for entry in part.skipped],
    )
