"""Where activations are kept: values in plain files, read through memory maps; what is where in one SQLite file.

Values are appended first and entered in the index after, in one transaction; so a process that is killed leaves at most
bytes that nothing refers to, and what it had entered is found by the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.data.rows import Row
from flaxtl.errors import DataError
from flaxtl.places import cache_root, expanded

INDEX = "index.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS shelves (name TEXT PRIMARY KEY, form TEXT, used REAL);
CREATE TABLE IF NOT EXISTS rows (shelf TEXT, example BLOB, number INTEGER, count INTEGER, length INTEGER,
    position INTEGER, PRIMARY KEY (shelf, example, number)) WITHOUT ROWID;
"""
_PLACES = "SELECT number, count, length, position FROM rows WHERE shelf = ? AND example = ? ORDER BY number"


@dataclasses.dataclass(frozen=True)
class RowForm:
    """What the rows of a shelf look like.

    Attributes:
        names: of the arrays of a row, in their order; () where a row is one array.
        shapes: of each array; of one that varies, the largest.
        dtypes: of each array.
        varying: whether the first axis of every array is as long as its row's length says.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    varying: bool

    def to_json(self) -> str:
        """Returns the form as text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RowForm:
        """Reads what `to_json` wrote."""
        said = json.loads(text)
        shapes = tuple(tuple(shape) for shape in said["shapes"])
        return cls(tuple(said["names"]), shapes, tuple(said["dtypes"]), said["varying"])

    def actual(self, length: int) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """Returns shape and dtype of each array of a row of that length."""
        shapes = [(length, *s[1:]) if self.varying else s for s in self.shapes]
        return [(shape, np.dtype(dtype)) for shape, dtype in zip(shapes, self.dtypes, strict=True)]

    def nbytes(self, length: int) -> int:
        """Returns the size of a row."""
        return sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in self.actual(length))


class Store:
    """A folder of activations; several processes may use it at once.

    Example:
        >>> form = RowForm((), ((2,),), ('float32',), False)
        >>> with Store.temporary() as store:
        ...     store.add('shelf', form, [(b'x', [np.array([1.0, 2.0], np.float32)], 0)])
        ...     [[row]] = store.find('shelf', [b'x'])
        >>> row.tolist()
        [1.0, 2.0]
    """

    def __init__(self, folder: str | Path, *, limit: float = 10e9) -> None:
        """Opens or makes the folder.

        Args:
            folder: the place.
            limit: bytes; shelves that were not used for longest are dropped when all together exceed it.

        Raises:
            DataError: the folder cannot be made or read.
        """
        self.folder, self.limit = expanded(folder), limit
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._index() as index:
                index.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"The cache of activations {self.folder} cannot be used: {error}. "
                "Choose another `cache`, or none with `cache='off'`."
            ) from error

    @classmethod
    def of_user(cls, *, limit: float = 10e9) -> Store:
        """Returns the store in the user's cache directory; where none can be written, a temporary one."""
        root = cache_root()
        return cls.temporary() if root is None else cls(root / "activations", limit=limit)

    @classmethod
    def temporary(cls) -> Store:
        """Returns a store that is deleted when it is closed, or with the process."""
        place = tempfile.TemporaryDirectory(prefix="flaxtl-activations-", ignore_cleanup_errors=True)
        store = cls(place.name, limit=float("inf"))
        store._temporary = place
        weakref.finalize(store, place.cleanup)
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Deletes a temporary store; of another nothing is open."""
        if self._temporary is not None:
            self._temporary.cleanup()

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.folder / INDEX, timeout=120.0, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def find(self, shelf: str, examples: Sequence[bytes]) -> list[list[Row] | None]:
        """Returns the rows of each example, read through a memory map, or None where they are not kept."""
        with self._index() as index:
            said = index.execute("SELECT form FROM shelves WHERE name = ?", (shelf,)).fetchone()
            if said is None:
                return [None] * len(examples)
            # A busy index keeps its old mark; it only decides what is dropped first.
            with contextlib.suppress(sqlite3.OperationalError):
                index.execute("UPDATE shelves SET used = ? WHERE name = ?", (time.time(), shelf))
            places: dict[bytes, list[tuple[int, int, int, int]]] = {}
            for example in set(examples):
                query = (
                    "SELECT number, count, length, position FROM rows WHERE shelf = ? AND example = ? ORDER BY number"
                )
                places[example] = index.execute(query, (shelf, example)).fetchall()
        file = self.folder / f"{shelf}.bin"
        if not file.exists() or file.stat().st_size == 0:
            return [None] * len(examples)
        form, values = RowForm.from_json(said[0]), np.memmap(file, np.uint8, "r")
        rows = {example: _rows(form, values, where) for example, where in places.items()}
        return [rows[example] for example in examples]

    def add(self, shelf: str, form: RowForm, examples: Iterable[tuple[bytes, Sequence[Row], int]]) -> None:
        """Keeps the rows of examples.

        Args:
            shelf: what they have in common.
            form: of its rows.
            examples: (digest, rows, length of each row; 0 where rows do not vary).

        Raises:
            DataError: the place is full or cannot be written.
        """
        try:
            with self._index() as index:
                index.execute("BEGIN IMMEDIATE")  # one writer at a time, also among processes
                entries = self._append(shelf, form, examples)
                index.execute("INSERT OR REPLACE INTO shelves VALUES (?, ?, ?)", (shelf, form.to_json(), time.time()))
                index.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)", entries)
                index.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"Activations cannot be kept in {self.folder}: {error}. Free some space, choose another `cache`, "
                "or none with `cache='off'`."
            ) from error

    def _append(
        self, shelf: str, form: RowForm, examples: Iterable[tuple[bytes, Sequence[Row], int]]
    ) -> list[tuple[Any, ...]]:
        entries = []
        with (self.folder / f"{shelf}.bin").open("ab") as stream:
            position = stream.seek(0, os.SEEK_END)
            for example, rows, length in examples:
                for number, row in enumerate(rows):
                    entries.append((shelf, example, number, len(rows), length, position))
                    for name, (shape, dtype) in zip(form.names or ("",), form.actual(length), strict=True):
                        array = row[name] if isinstance(row, Mapping) else row
                        stream.write(np.ascontiguousarray(array[: shape[0]] if shape else array, dtype).tobytes())
                    position += form.nbytes(length)
            stream.flush()
            os.fsync(stream.fileno())
        return entries

    def trim(self, keep: Sequence[str] = ()) -> list[str]:
        """Drops the shelves that were not used for longest until the store is within its limit.

        Args:
            keep: shelves that stay.

        Returns:
            The names of those dropped.
        """
        dropped = []
        with self._index() as index:
            shelves = [name for (name,) in index.execute("SELECT name FROM shelves ORDER BY used DESC")]
            total = 0
            for name in sorted(shelves, key=lambda name: name not in keep):
                file = self.folder / f"{name}.bin"
                total += file.stat().st_size if file.exists() else 0
                if total > self.limit and name not in keep:
                    index.execute("BEGIN IMMEDIATE")
                    index.execute("DELETE FROM rows WHERE shelf = ?", (name,))
                    index.execute("DELETE FROM shelves WHERE name = ?", (name,))
                    index.execute("COMMIT")
                    file.unlink(missing_ok=True)
                    dropped.append(name)
        return dropped


def _rows(form: RowForm, values: np.ndarray, places: Sequence[tuple[int, int, int, int]]) -> list[Row] | None:
    """Returns an example's rows; None if not all of them are there."""
    if not places or len(places) != places[0][1]:
        return None
    if any(position + form.nbytes(length) > len(values) for _, _, length, position in places):
        return None
    return [_row(form, values, length, position) for _, _, length, position in places]


def _row(form: RowForm, values: np.ndarray, length: int, position: int) -> Row:
    arrays = []
    for shape, dtype in form.actual(length):
        arrays.append(np.ndarray(shape, dtype, buffer=values, offset=position))
        position += arrays[-1].nbytes
    return dict(zip(form.names, arrays, strict=True)) if form.names else arrays[0]
