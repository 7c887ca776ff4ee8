"""Files of torch.save, zip and legacy, opened without torch."""

from __future__ import annotations

import functools
import io
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl.convert.readers import pickled
from flaxtl.convert.readers.slices import cut_off, read_slice
from flaxtl.convert.readers.torch_tensors import BYTES, StridedTensor
from flaxtl.convert.readers.training import settings_of
from flaxtl.convert.weights import Tensor
from flaxtl.errors import CheckpointError, listed

# The number that torch.save writes first into its legacy files (torch/serialization.py).
MAGIC = 0x1950A86A20F9469CFC6C
LARGEST_PICKLE = 1 << 28
# What training programs keep a network's tensors under; averaged parameters first, as those are what was evaluated.
WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema"),
    *("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params"),
    *("backbone", "encoder", "teacher", "student"),
)


Found = tuple[dict[str, Tensor], tuple[str, ...], dict[str, Any]]


def read(path: Path) -> Found:
    """Returns (tensors, notes, what the checkpoint says of its network) of a file; only its pickle is read.

    Raises:
        CheckpointError: it is damaged, holds something else than tensors, or is refused.
    """
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    return _read_legacy(path)


def _read_zip(path: Path) -> Found:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            root = _root(path, entries)
            if entries[f"{root}data.pkl"].file_size > LARGEST_PICKLE:
                raise cut_off(path, "its pickle is larger than that of any file of tensors")
            offsets = {name: _data_offset(path, info) for name, info in entries.items()}

            def content(name: str) -> bytes:
                start, info = offsets[name], entries[name]
                if start is None:
                    return archive.read(name)
                return _checked(path, info, read_slice(path, start, (info.file_size,), BYTES)).tobytes()

            value = pickled.load(io.BytesIO(content(f"{root}data.pkl")), path)
            order = content(f"{root}byteorder").decode() if f"{root}byteorder" in entries else sys.byteorder
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, UnicodeDecodeError) as error:
        raise cut_off(path, error) from error
    found, notes, said = unwrapped(value, path)
    return {n: _zip_tensor(path, t, root, entries, offsets, order) for n, t in found.items()}, notes, said


def _root(path: Path, entries: Mapping[str, zipfile.ZipInfo]) -> str:
    """Returns the folder inside the archive that holds data.pkl."""
    roots = [n.removesuffix("data.pkl") for n in entries if n.rpartition("/")[2] == "data.pkl" and n.count("/") <= 1]
    if not roots:
        raise CheckpointError(
            f"{path} is a zip archive without data.pkl, so torch.save did not write it; it holds "
            f"{listed(entries, 5) or 'nothing'}. Unpack it, and give what is inside."
        )
    if f"{roots[0]}constants.pkl" in entries:
        raise CheckpointError(
            f"{path} is a TorchScript program and not a file of tensors. In PyTorch save its state dict: "
            "torch.save(torch.jit.load(path).state_dict(), 'weights.pth')."
        )
    return roots[0]


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int | None:
    """Returns where an entry's bytes begin, or None if they are compressed."""
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        local = file.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise cut_off(path, f"its entry {info.filename} does not begin where it should")
    return info.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")


def _checked(path: Path, info: zipfile.ZipInfo, content: np.ndarray) -> np.ndarray:
    """Compares an entry's bytes with its checksum; PyTorch writes 0 where it was told to compute none."""
    if info.CRC and zlib.crc32(content.view(np.uint8).data) != info.CRC:
        raise cut_off(path, f"its entry {info.filename} does not have the checksum that it was saved with")
    return content


def _zip_tensor(
    path: Path,
    tensor: StridedTensor,
    root: str,
    entries: Mapping[str, zipfile.ZipInfo],
    offsets: Mapping[str, int | None],
    order: str,
) -> Tensor:
    name = f"{root}data/{tensor.storage.key}"
    size = tensor.storage.count * tensor.storage.dtype.itemsize
    if name not in entries or entries[name].file_size < size:
        raise cut_off(path, f"the numbers of its storage {tensor.storage.key!r} are not all there")
    start = offsets[name]
    if start is None:
        read_span = functools.partial(_read_compressed, path, name)
    else:
        if start + size > path.stat().st_size:
            raise cut_off(path, f"its storage {tensor.storage.key!r} reaches beyond the end")
        read_span = functools.partial(_read_stored, path, start, entries[name])
    return as_tensor(tensor, read_span, order)


def _read_stored(
    path: Path, start: int, info: zipfile.ZipInfo | None, begin: int, count: int, dtype: np.dtype[Any]
) -> np.ndarray:
    flat = read_slice(path, start + begin * dtype.itemsize, (count,), dtype)
    return _checked(path, info, flat) if info is not None and flat.nbytes == info.file_size else flat


def _read_compressed(path: Path, name: str, begin: int, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            file.seek(begin * dtype.itemsize)
            found = file.read(count * dtype.itemsize)
        return np.frombuffer(found, dtype, count)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise cut_off(path, error) from error


def as_tensor(tensor: StridedTensor, read_span: Any, order: str) -> Tensor:
    """Returns a view of a storage as a tensor.

    Args:
        tensor: the view.
        read_span: (first number, count, dtype) → these numbers of the storage, 1-d.
        order: the byte order that the file was written in.
    """
    dtype = tensor.dtype.newbyteorder("<" if order == "little" else ">")

    def read_tensor() -> np.ndarray:
        flat = read_span(tensor.storage.offset + tensor.offset, tensor.extent, dtype)
        strides = tuple(s * dtype.itemsize for s in tensor.strides)
        if tensor.extent == 0:
            return np.empty(tensor.shape, tensor.dtype)
        view = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides)
        return np.asarray(view, tensor.dtype, order="C")

    return Tensor(tensor.shape, tensor.dtype, read_tensor)


def _read_legacy(path: Path) -> Found:
    with open(path, "rb") as file:
        if pickled.load(file, path) != MAGIC:
            raise CheckpointError(
                f"{path} is a pickle that torch.save did not write. Save the tensors as safetensors, or with "
                "torch.save(model.state_dict(), 'weights.pth')."
            )
        pickled.load(file, path)  # the protocol's version
        machine = pickled.load(file, path)
        value = pickled.load(file, path)
        keys = pickled.load(file, path)
        order = "big" if isinstance(machine, dict) and machine.get("little_endian") is False else "little"
        found, notes, said = unwrapped(value, path)
        sizes = {t.storage.key: t.storage.dtype.itemsize for t in _tensors_below(value)}
        places = _legacy_places(path, file, keys, sizes, order)
    return {n: _legacy_tensor(path, t, places, order) for n, t in found.items()}, notes, said


def _legacy_places(
    path: Path, file: Any, keys: Any, sizes: Mapping[str, int], order: Any
) -> dict[str, tuple[int, int]]:
    """Returns where each storage's numbers begin, and how many there are; they follow in the order of `keys`."""
    places: dict[str, tuple[int, int]] = {}
    length = path.stat().st_size
    if not isinstance(keys, list):
        raise cut_off(path, "it has no list of storages")
    at = file.tell()
    for key in keys:
        if key not in sizes:
            raise cut_off(path, f"its storage {key!r} belongs to no tensor")
        file.seek(at)
        count = int.from_bytes(file.read(8), order)
        if at + 8 + count * sizes[key] > length:
            raise cut_off(path, f"its storage {key!r} reaches beyond the end")
        places[key] = (at + 8, count)
        at += 8 + count * sizes[key]
    return places


def _legacy_tensor(path: Path, tensor: StridedTensor, places: Mapping[str, tuple[int, int]], order: str) -> Tensor:
    start, count = places.get(tensor.storage.key, (0, -1))
    if tensor.storage.offset + tensor.storage.count > count:
        raise cut_off(path, f"the numbers of its storage {tensor.storage.key!r} are not all there")
    return as_tensor(tensor, functools.partial(_read_stored, path, start, None), order)


def _tensors_below(value: Any) -> list[StridedTensor]:
    """Returns all tensors in nested containers, each container looked into once."""
    found, seen, waiting = [], set(), [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, StridedTensor):
            found.append(here)
        elif isinstance(here, (dict, list, tuple)) and id(here) not in seen:
            seen.add(id(here))
            waiting += here.values() if isinstance(here, dict) else here
    return found


def unwrapped(
    value: Any, path: Path, depth: int = 4
) -> tuple[dict[str, StridedTensor], tuple[str, ...], dict[str, Any]]:
    """Returns the network's tensors by name out of what was pickled, what was taken off, and what that says of it.

    Raises:
        CheckpointError: there are none, or several networks' and no telling which is meant.
    """
    notes: list[str] = []
    said: dict[str, Any] = {}
    for _ in range(depth):
        if isinstance(value, StridedTensor):
            raise CheckpointError(f"{path} holds one tensor without a name; expected a network's state dict.")
        if not isinstance(value, dict):
            break
        own = {str(k): v for k, v in value.items() if isinstance(v, StridedTensor)}
        inside = [
            k
            for k, v in value.items()
            if isinstance(v, dict) and any(isinstance(t, (StridedTensor, dict)) for t in v.values())
        ]
        named = next((w for w in WRAPPERS if w in inside), None)
        if own and (named is None or len(own) > 3):
            return own, tuple(notes), said
        chosen = named if named is not None else inside[0] if len(inside) == 1 else None
        if chosen is None and inside:
            raise CheckpointError(
                f"{path} holds several dictionaries of tensors, {listed(map(repr, inside))}, and nothing says which is "
                "the network. Save the one that is meant alone."
            )
        if chosen is None:
            break
        beside = [str(k) for k in value if k != chosen]
        settings, read = settings_of({str(k): v for k, v in value.items() if k != chosen})
        said, notes = {**settings, **said}, [*notes, *read]
        notes.append(
            f"The tensors lie under {chosen!r}" + (f"; beside it there are {listed(beside)}." if beside else ".")
        )
        value = value[chosen]
    raise CheckpointError(f"{path} holds no tensors by name; expected a network's state dict.")
