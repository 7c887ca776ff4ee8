"""A table of any kind (CSV, JSON lines, Parquet, tensorflow-datasets, Hugging Face datasets), and how it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flaxtl.card import Columns, Task


class LazyList(Sequence[Any]):
    """Values that are read together when one of them is first asked for."""

    def __init__(self, length: int, load: Callable[[], list[Any]]) -> None:
        self._length, self._load = length, load
        self._values: list[Any] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: Any) -> Any:
        if self._values is None:
            self._values = self._load()
        return self._values[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])


@dataclasses.dataclass(frozen=True, eq=False)
class _Chosen(Sequence[Any]):
    """Some of the values of a column that is read value by value."""

    values: Sequence[Any]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: Any) -> Any:
        return self.values[self.places[int(i)]]


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """A column of a table.

    Attributes:
        values: one a row.
        kind: the modality that the table's own types give it; None where only the values tell.
        names: of a column of class numbers, what each is called.
        kept: whether the values may be kept in memory; else each is read when it is needed.
    """

    values: Sequence[Any]
    kind: str | None = None
    names: tuple[str, ...] = ()
    kept: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Columns of one length.

    Attributes:
        place: what messages call it.
        key: what the keys of its examples begin with.
        columns: by name, in their order.
        length: number of rows.
        folder: what paths in it are relative to.
        usual: the columns of inputs and labels that its publisher names.
        unit: what a place in it is called: a "row", or a "line" of its file as an editor counts them.
        places: the number of each row or line; None counts from 1.
        header: whether the columns' names are the first line of a text file, which may lack such a line.
        part: which part of a data set it is; None for a table of its own.
        way_out: what to do where it has no labels.
        notes: what the user should know of how it was read.
    """

    place: str
    key: str
    columns: Mapping[str, Column]
    length: int
    folder: Path = Path()
    usual: tuple[str, str] | None = None
    unit: Literal["row", "line"] = "row"
    places: Sequence[int] | None = None
    header: bool = False
    part: str | None = None
    way_out: str = "Label it, or see what a model says of it with predict."
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called within a sentence."""
        return self.place if self.part is None else f"the part {self.part} of {self.place}"

    @property
    def title(self) -> str:
        """What it is called at the start of a sentence."""
        return self.place if self.part is None else f"The part {self.part} of {self.place}"

    @property
    def numbers(self) -> Sequence[int]:
        """The number of each row, or of the line at which it begins."""
        return range(1, self.length + 1) if self.places is None else self.places

    @property
    def keys(self) -> list[str]:
        """What identifies each row."""
        return [f"{self.key}:{number}" for number in self.numbers]

    def at(self, i: int, *, short: bool = False) -> str:
        """Returns the place of row `i` for messages: 'Line 3 of t.csv', or 'line 3'.

        Example:
            >>> table = Table('t.csv', 't.csv', {}, 2, unit='line', places=[2, 5])
            >>> table.at(1), table.at(0, short=True)
            ('Line 5 of t.csv', 'line 2')
        """
        place = f"{self.unit} {self.numbers[i]}"
        return place if short else f"{place.capitalize()} of {self.name}"

    def rows(self, chosen: Sequence[int]) -> Table:
        """Returns the table of some of its rows."""
        columns = {
            name: dataclasses.replace(
                column,
                values=[column.values[i] for i in chosen] if column.kept else _Chosen(column.values, chosen),
            )
            for name, column in self.columns.items()
        }
        places = [self.numbers[i] for i in chosen]
        return dataclasses.replace(self, columns=columns, length=len(chosen), places=places)


@dataclasses.dataclass(frozen=True)
class Reading:
    """Which columns are what.

    Attributes:
        input_column: of the inputs; two of texts, with a comma between them, are pairs, several of numbers arrays.
        label_column: of the labels; several, with commas between them, are several outputs.
        group_by: of the groups, or a pattern of the paths of files.
        task: what the labels are; None infers it.
        on_bad_file: what to do with an unreadable example.
        columns: those of an earlier table; they are taken where this table has them and no others are named.
        certain: whether the task is the user's word, by which what may stand for a missing label is a class.
        classes: names that are classes even where they may stand for a missing label.
    """

    input_column: str | None = None
    label_column: str | None = None
    group_by: str | None = None
    task: Task | None = None
    on_bad_file: Literal["error", "skip"] = "error"
    columns: Columns | None = None
    certain: bool = True
    classes: frozenset[str] = frozenset()
