"""The settings of data: how it is read, for every command that reads any, and of `flaxtl data` itself."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from tyro.conf import Positional, arg

BadFile = Literal["error", "skip"]
Task = Literal["classification", "multilabel", "regression"]


@dataclasses.dataclass(frozen=True)
class Data:
    """How data is read."""

    input_column: Annotated[str | None, arg(aliases=("--text-column",))] = None
    """The table's column of paths or contents; inferred when unambiguous. Two columns of texts, "a,b", are pairs;
    several of numbers plain numbers."""
    label_column: str | None = None
    """The table's column of labels; inferred when unambiguous. Several, "a,b,c", for several outputs. For a
    folder, a pattern of paths with {} where the class stands, * for what does not matter and # for a number: "{}_*_*"
    takes 7 of 7_jackson_32.wav, "{}_#" takes great_pyrenees of great_pyrenees_12.jpg. Or a regular expression with one
    named group: "(?P<label>.+)_[0-9]+[.]jpg"."""
    task: Task | None = None
    """What the labels are: one class an example, any of several labels (multilabel: a column of lists, or of labels
    with ; between them, or a column of 0 and 1 a label), or numbers (regression). Inferred when unambiguous, and
    said."""
    split: str | None = None
    """Of a set with several splits, the one to take, or one for each part: "train=train[:80%],test=test". By default
    those called train, validation and test, or what a table's column split says. Of a folder, the names of its top
    folders: "train=fold1,test=fold2"."""
    group_by: str | None = None
    """Examples of one group (a speaker, a patient, a recording) are never divided: a column of the table, or a pattern
    of paths with {} where the group stands, such as "*_{}_*"; see --label-column."""
    test_groups: tuple[str, ...] = ()
    """Groups that are held out as test data, such as one speaker: --group-by "*_{}_*" --test-groups theo."""
    classes: tuple[str, ...] = ()
    """Changes to classes: old=new renames (several to one name merge), old= leaves out, and with a bare name only what
    is named stays. Commas separate: cat=pet,dog=pet,fish=. unknown=unknown says that a folder is a class although its
    name looks like examples without labels, or like a part of the data."""
    limit: int | None = None
    """Use at most this many examples of the data, of each class the same share, drawn by the seed."""
    on_bad_file: BadFile = "error"
    """What to do with an unreadable file, or a folder none of whose files can be read: stop and name it, or skip,
    count and list them."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Look at data before it is used: flaxtl data inspect DATA."""

    word: Positional[str] = ""
    """inspect: counts, sizes, durations, lengths, duplicates, unreadable files, the balance of classes."""
    data: Positional[str] = ""
    """A folder of class folders, a .csv, .tsv, .jsonl or .parquet table, tfds:name, hf:owner/name, or "digits"."""
    out: str | None = None
    """Where to draw a sheet of examples of each class, a .png (pictures and sound)."""
    data_options: Data = Data(on_bad_file="skip")
    seed: int = 0
    """Random seed of the examples on the sheet, and of --limit."""
    json: bool = False
    """Print as JSON."""
