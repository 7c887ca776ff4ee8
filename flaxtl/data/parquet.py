"""Parquet files, as data sets are published in: one file, or a folder of them with their splits' names."""

from __future__ import annotations

import codecs
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxtl.data.columns import Column, Reading, Table
from flaxtl.data.folder import modality_of
from flaxtl.data.set_parts import noted, parts_of, sources_of
from flaxtl.data.source import Source, Splits
from flaxtl.data.tables import divided
from flaxtl.errors import DataError
from flaxtl.places import expanded

# What Hugging Face datasets write into a file's metadata, and the modality of each.
_KINDS = {"Image": "image", "Audio": "audio"}
_SHARD = re.compile(r"-\d+-of-(\d+)$")


def from_parquet(path: str | Path, *, split: str | None = None, reading: Reading | None = None) -> Source | Splits:
    """Reads a Parquet file, or a folder of them called after their splits (train-00000-of-00002.parquet).

    Pictures and sound are bytes, or {bytes, path} as Hugging Face datasets write them; class names and the kinds of
    columns are taken from their metadata where it is there. Values are read when they are needed.

    Args:
        path: a file or a folder.
        split: see `set_parts.parts_of`.
        reading: which columns are what.

    Raises:
        DataError: no such file, a damaged one, pyarrow is absent, or columns that cannot be used.
    """
    place = expanded(path)
    if not place.is_dir() and split is None:
        return divided(_table(place, [place]), reading or Reading())
    files = _by_split(place) if place.is_dir() else {place.stem: [place]}
    parts = parts_of(str(place), list(files), split)
    tables = {part: _table(place, files[name]) for part, name in parts.items()}
    return sources_of(noted(tables, list(files), parts, split), parts, reading or Reading())


def parquet_table(path: str | Path) -> Table:
    """Reads one Parquet file as a table.

    Raises:
        DataError: no such file, a damaged one, or pyarrow is absent.
    """
    file = expanded(path)
    return _table(file, [file])


def has_parquet(folder: Path) -> bool:
    """Whether a folder is of Parquet files."""
    return folder.is_dir() and any(True for _ in _found(folder))


def _found(folder: Path) -> Iterator[Path]:
    yield from (*sorted(folder.glob("*.parquet")), *sorted(folder.glob("data/*.parquet")))


def _by_split(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for file in _found(folder):
        files.setdefault(_SHARD.sub("", file.stem), []).append(file)
    return files


def _table(place: Path, files: Sequence[Path]) -> Table:
    arrow = _read(files)
    said = _features(arrow.schema.metadata or {})
    columns = {name: _column(arrow, name, said.get(name, {}), files[0].parent) for name in arrow.schema.names}
    notes = tuple(_absent(files))
    return Table(str(place), files[0].name, columns, arrow.num_rows, files[0].parent, notes=notes)


def _absent(files: Sequence[Path]) -> Iterator[str]:
    """Says how many of the files are missing that a part was written to, by the number in their names."""
    found = [match for file in files if (match := _SHARD.search(file.stem))]
    if found and len(found) < int(found[0][1]):
        name = _SHARD.sub("", files[0].stem)
        yield (
            f"{len(found)} of {int(found[0][1])} files of {name!r} are there; the examples of the others are missing. "
            "Download them too, or learn from these alone."
        )


def _read(files: Sequence[Path]) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError("To read Parquet files, flaxtl needs pyarrow: pip install pyarrow.") from error
    try:
        return pyarrow.concat_tables([parquet.read_table(file, memory_map=True) for file in files])
    except FileNotFoundError as error:
        raise DataError(f"There is no table {error.filename or files[0]}.") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{files[0]} cannot be read as Parquet: {error}.") from error


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        return dict(json.loads(metadata[b"huggingface"])["info"]["features"])
    except (KeyError, TypeError, ValueError):  # absent, or of another writer
        return {}


def _column(arrow: Any, name: str, said: Mapping[str, Any], folder: Path) -> Column:
    import pyarrow

    values, kind = arrow.column(name), arrow.schema.field(name).type
    inner = said.get("feature", said)
    names = tuple(inner.get("names", ())) if isinstance(inner, Mapping) else ()
    files = pyarrow.types.is_struct(kind) and {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}
    if files or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
        column = ArrowColumn(values, folder)
        first = next((value for value in column if value), b"")  # neither null nor empty
        modality = _KINDS.get(str(said.get("_type"))) or sniffed(first)
        return Column(column, modality, kept=False)
    types = pyarrow.types
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if lists and types.is_floating(kind.value_type):
        return Column(values.to_pylist(), "array")
    return Column(values.to_pylist(), None, names)


def sniffed(value: Any) -> str:
    """Returns the modality of a file's bytes by how they begin, or of its path by the ending.

    Example:
        >>> sniffed(b'RIFF....WAVE'), sniffed('Straße'.encode()), sniffed(bytes([137]) + b'PNG')
        ('audio', 'text', 'image')
    """
    if isinstance(value, Path):
        return modality_of(value.name) or "text"
    head = bytes(value[:4096])
    wav = head[:4] == b"RIFF" and head[8:12] == b"WAVE"
    mpeg = head[:1] == b"\xff" and head[1:2] >= b"\xe0" and head[:2] != b"\xff\xd8"  # the second is JPEG's
    if wav or mpeg or head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3":
        return "audio"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "image"
    return "image" if head[:4] == b"GIF8" else "text"


@dataclasses.dataclass(frozen=True, eq=False)
class ArrowColumn(Sequence[Any]):
    """A column of bytes, or of {bytes, path}, read value by value."""

    values: Any
    folder: Path

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: Any) -> Any:
        value = self.values[i].as_py()
        if not isinstance(value, dict):
            return value
        if value["bytes"] is not None:
            return value["bytes"]
        return None if value["path"] is None else self.folder / str(value["path"])
