"""Sets of tensorflow-datasets by name, read without TensorFlow from array_record or Parquet files."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.data.audio import Clip
from flaxtl.data.columns import Column, LazyList, Reading, Table
from flaxtl.data.set_parts import noted, parts_of, sources_of
from flaxtl.data.source import Source, Splits
from flaxtl.errors import DataError, did_you_mean, listed
from flaxtl.places import expanded

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_READABLE = ("array_record", "parquet")
_AT_ONCE = 1024


def from_tfds(name: str, *, split: str | None = None, reading: Reading | None = None) -> Source | Splits:
    """Reads a set that tensorflow-datasets has prepared.

    Looked for in $TFDS_DATA_DIR, or ~/tensorflow_datasets. The set must have been prepared as array_record or Parquet,
    which need no TensorFlow to be read. Of pictures the bytes are taken and decoded by flaxtl's own reader.

    Args:
        name: name[/config][:version], or the directory of one version.
        split: see `set_parts.parts_of`; slices such as train[:10%] are understood.
        reading: which features are what; by default those that the set calls its supervised keys.

    Raises:
        DataError: no such set, one that is not prepared or prepared as tfrecord, or features that cannot be used.
    """
    folder = _prepared(name)
    builder = _builder(folder)
    form = builder.info.file_format.value if builder.info.file_format else "tfrecord"
    if form not in _READABLE:
        raise DataError(
            f"{folder} is prepared as {form}, which only TensorFlow reads. Move it away and prepare it anew: "
            f"{_recipe(name)}"
        )
    parts = parts_of(f"tfds:{name}", list(builder.info.splits), split)
    tables = {part: _table(builder, f"tfds:{name}", of) for part, of in parts.items()}
    return sources_of(noted(tables, list(builder.info.splits), parts, split), parts, reading or Reading())


def _prepared(name: str) -> Path:
    """Returns the directory of a set's version, the newest where none is named."""
    given = expanded(name)
    if (given / "dataset_info.json").is_file():
        return given
    root = expanded(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    path, _, version = name.partition(":")
    folder = root / path
    versions = _versions(folder)
    if not versions and "/" not in path and folder.is_dir():
        configs = [f.name for f in sorted(folder.iterdir()) if f.is_dir() and _versions(f)]
        if len(configs) > 1:
            raise DataError(f"{folder} holds the configurations {listed(configs)}. Name one: tfds:{path}/{configs[0]}.")
        folder = folder / configs[0] if configs else folder
        versions = _versions(folder)
    if version and versions and version not in versions:
        raise DataError(f"{folder} holds the versions {listed(versions)}; there is no {version}.")
    if not versions:
        raise DataError(_not_prepared(name, path.split("/")[0], root))
    return folder / (version or versions[-1])


def _versions(folder: Path) -> list[str]:
    found = [f.name for f in folder.iterdir() if (f / "dataset_info.json").is_file()] if folder.is_dir() else []
    return sorted(filter(_VERSION.fullmatch, found), key=lambda v: tuple(map(int, v.split("."))))


def _not_prepared(name: str, set_name: str, root: Path) -> str:
    known = _tfds().list_builders(with_community_datasets=False)
    if set_name in known:
        return (
            f"The data set {name!r} is not prepared in {root}. Prepare it once, which downloads it and for most sets "
            f"needs TensorFlow (pip install tensorflow) for that one step: {_recipe(name)}"
        )
    there = [f.name for f in sorted(root.iterdir()) if f.is_dir()] if root.is_dir() else []
    return (
        f"tensorflow-datasets knows no set {name!r}, and none is prepared in {root} (TFDS_DATA_DIR names another "
        f"place).{did_you_mean(set_name, [*known, *there])}"
    )


def _recipe(name: str) -> str:
    call = f"tfds.builder({name!r}, file_format='array_record').download_and_prepare()"
    return f'python -c "import tensorflow_datasets as tfds; {call}"'


def _tfds() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow_datasets as tfds

    return tfds


def _builder(folder: Path) -> Any:
    tfds = _tfds()
    _sound_feature()
    try:
        return tfds.builder_from_directory(str(folder))
    except (ModuleNotFoundError, ValueError, KeyError) as error:
        raise DataError(f"{folder} cannot be read without TensorFlow: {error}.") from error


@functools.cache
def _sound_feature() -> None:
    """Lets sets with sound be opened: tensorflow-datasets builds its own feature of sound with TensorFlow.

    What is read is the same: integers as they were stored, or a file's bytes. A feature class is known to
    tensorflow-datasets by its module and name; where TensorFlow is there, its own stays in place.
    """
    if importlib.util.find_spec("tensorflow") is not None:
        return
    tfds = _tfds()
    from tensorflow_datasets.core.features import audio_feature, feature

    class Audio(tfds.features.Tensor):  # type: ignore[name-defined]
        """Sound as it is stored; its constructor takes what the original's takes."""

        __module__ = audio_feature.__name__

        def __init__(self, sample_rate: int | None = None, lazy_decode: bool = False, **settings: Any) -> None:
            settings.pop("file_format", None)
            if lazy_decode:
                settings |= {"shape": (), "dtype": np.object_}
            super().__init__(**settings)
            self.sample_rate = sample_rate

        @classmethod
        def from_json_content(cls, value: Any, doc: Any = None) -> Any:
            return cls(
                shape=feature.from_shape_proto(value.shape),
                dtype=feature.dtype_from_str(value.dtype),
                sample_rate=value.sample_rate or None,
                encoding=value.encoding,
                lazy_decode=value.lazy_decode,
            )


def _table(builder: Any, place: str, split: str) -> Table:
    tfds = _tfds()
    features = builder.info.features
    skip = {name: tfds.decode.SkipDecoding() for name, f in features.items() if isinstance(f, tfds.features.Image)}
    try:
        cuts = tfds.core.ReadInstruction.from_spec(split).to_absolute(builder.info.splits)
    except (ValueError, AssertionError) as error:
        raise DataError(f"{place} cannot be read at {split!r}: {error}.") from error
    # A slice of Parquet files would be read as a whole, so slices are cut here.
    sources = {cut.splitname: builder.as_data_source(cut.splitname, decoders=skip or None) for cut in cuts}
    whole = {name: range(len(source)) for name, source in sources.items()}
    examples = _Cuts([(sources[c.splitname], i) for c in cuts for i in whole[c.splitname][c.from_ : c.to]])
    light = [name for name, feature in features.items() if _is_light(feature)]
    read = functools.cache(lambda: _pass(examples, light))
    columns = {
        name: Column(
            LazyList(len(examples), functools.partial(lambda name: read()[name], name)), None, _names(features[name])
        )
        if name in light
        else Column(_Heavy(examples, name, _reader(features[name])), _kind(features[name]), (), False)
        for name in features
        if name in light or _kind(features[name]) is not None
    }
    keys = builder.info.supervised_keys
    usual = (keys[0], keys[1]) if keys and len(keys) == 2 and all(k in columns for k in keys) else None
    return Table(place, f"{place} {split}", columns, len(examples), usual=usual)


@dataclasses.dataclass(frozen=True, eq=False)
class _Cuts(Sequence[Any]):
    """Stretches of splits, one after the other, as (split, place in it)."""

    places: Sequence[tuple[Any, int]]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: Any) -> Any:
        source, place = self.places[int(i)]
        return source[place]

    def together(self) -> Iterator[Any]:
        """Yields every example, read many at a time."""
        for _, group in itertools.groupby(self.places, key=lambda where: id(where[0])):
            places = list(group)
            for first in range(0, len(places), _AT_ONCE):
                some = places[first : first + _AT_ONCE]
                yield from some[0][0].__getitems__([place for _, place in some])


def _is_light(feature: Any) -> bool:
    """Whether values are small enough to be kept: texts, numbers, and lists of class numbers."""
    tfds = _tfds()
    if isinstance(feature, tfds.features.Sequence):
        return isinstance(feature.feature, tfds.features.ClassLabel) or _is_light(feature.feature)
    return _kind(feature) is None and getattr(feature, "shape", None) == ()


def _kind(feature: Any) -> str | None:
    tfds = _tfds()
    if isinstance(feature, tfds.features.Image):
        return "image"
    if type(feature).__name__ == "Audio":
        return "audio"
    return "array" if isinstance(feature, tfds.features.Tensor) and feature.shape != () else None


def _names(feature: Any) -> tuple[str, ...]:
    inner = getattr(feature, "feature", feature)
    return tuple(inner.names) if hasattr(inner, "names") and hasattr(inner, "num_classes") else ()


def _reader(feature: Any) -> Callable[[Any], Any]:
    if _kind(feature) != "audio":
        return lambda value: value
    rate = feature.sample_rate or None
    return lambda value: value if isinstance(value, bytes) else Clip(np.asarray(value), rate)


def _pass(examples: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Reads the small features of all examples in one go."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for example in examples.together():
        for name in names:
            found[name].append(_plain(example[name]))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, np.ndarray)) and np.ndim(value):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


@dataclasses.dataclass(frozen=True, eq=False)
class _Heavy(Sequence[Any]):
    """A feature that is read example by example."""

    examples: Any
    name: str
    read: Callable[[Any], Any]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: Any) -> Any:
        return self.read(self.examples[int(i)][self.name])
