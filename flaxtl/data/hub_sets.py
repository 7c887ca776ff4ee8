"""Data sets of the Hugging Face hub, and folders that its `datasets` library reads or wrote."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxtl.data.columns import Column, LazyList, Reading, Table
from flaxtl.data.parquet import sniffed
from flaxtl.data.set_parts import noted, parts_of, sources_of
from flaxtl.data.source import Source, Splits
from flaxtl.errors import DataError
from flaxtl.places import expanded


def from_hf(name: str, *, split: str | None = None, reading: Reading | None = None) -> Source | Splits:
    """Reads a data set through Hugging Face `datasets`, which must be installed.

    Pictures and sound come as the bytes of their files and are decoded by flaxtl's own readers. Code that a repository
    holds is never run.

    Args:
        name: owner/name[:configuration], or a folder, of files or as `save_to_disk` wrote it.
        split: see `set_parts.parts_of`; slices such as train[:10%] are understood.
        reading: which columns are what.

    Raises:
        DataError: `datasets` is absent, there is no such set, or its columns cannot be used.
    """
    datasets = _datasets()
    opened, place = _opened(datasets, name), f"hf:{name}"
    parts = parts_of(place, opened.names, split)
    tables = {part: _table(datasets, place, of, _read(opened, place, of)) for part, of in parts.items()}
    return sources_of(noted(tables, opened.names, parts, split), parts, reading or Reading())


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError("To read Hugging Face data sets, flaxtl needs datasets: pip install 'flaxtl[hf]'.") from error
    return datasets


class _Parts:
    """The splits of a set, each read when it is asked for by its name, with a slice behind it if the set can."""

    def __init__(self, names: Sequence[str], read: Any) -> None:
        self.names, self.read = tuple(names), read

    def __getitem__(self, name: str) -> Any:
        return self.read(name)


def _read(opened: _Parts, place: str, split: str) -> Any:
    try:
        return opened[split]
    except (KeyError, ValueError) as error:
        raise DataError(f"{place} cannot be read at {split!r}: {error}.") from error


def _opened(datasets: Any, name: str) -> _Parts:
    folder = expanded(name)
    path, config = name, None
    if not folder.exists() and ":" in name:
        path, _, config = name.partition(":")
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            kept = datasets.load_from_disk(str(folder))
            kept = kept if isinstance(kept, Mapping) else {"train": kept}
            return _Parts(list(kept), kept.__getitem__)
        builder = datasets.load_dataset_builder(str(folder) if folder.exists() else path, config)
        builder.download_and_prepare()
        return _Parts(list(builder.info.splits), lambda split: builder.as_dataset(split=split))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"The data set 'hf:{name}' cannot be loaded: {str(error).splitlines()[0].rstrip('.')}. "
            "Check its name (hf:owner/name:configuration), the network, and whether it must be asked for."
        ) from error


def _table(datasets: Any, place: str, split: str, data: Any) -> Table:
    for name, feature in data.features.items():
        if isinstance(feature, (datasets.Image, datasets.Audio)):
            data = data.cast_column(name, type(feature)(decode=False))
    columns = {name: _column(datasets, data, name, feature) for name, feature in data.features.items()}
    return Table(place, f"{place} {split}", columns, data.num_rows)


def _column(datasets: Any, data: Any, name: str, feature: Any) -> Column:
    kinds = {datasets.Image: "image", datasets.Audio: "audio", datasets.Array2D: "array", datasets.Array3D: "array"}
    values = _Values(data, name)
    if type(feature) in kinds:
        return Column(values, kinds[type(feature)], kept=False)
    if isinstance(feature, dict) and {"bytes", "path"} <= set(feature):  # a file whose kind nobody wrote down
        first = next((value for value in values if value), b"")  # neither null nor empty
        return Column(values, sniffed(first), kept=False)
    inner = getattr(feature, "feature", feature)
    names = tuple(inner.names) if isinstance(inner, datasets.ClassLabel) else ()
    return Column(LazyList(data.num_rows, functools.partial(_whole, data, name)), None, names)


def _whole(data: Any, name: str) -> list[Any]:
    return list(data[name][:])


@dataclasses.dataclass(frozen=True, eq=False)
class _Values(Sequence[Any]):
    """A column that is read example by example; of a file its bytes, or its path."""

    data: Any
    name: str

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def __getitem__(self, i: Any) -> Any:
        value = self.data[int(i)][self.name]
        if not isinstance(value, dict):
            return value
        if value["bytes"] is not None:
            return value["bytes"]
        return None if value["path"] is None else Path(value["path"])
