"""Files and folders of named arrays: .npz, Keras's HDF5, Flax's msgpack, and Orbax trees of any layout."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flaxtl import checkpoint, paths
from flaxtl.checkpoint.store import read_verified
from flaxtl.convert.readers.slices import cut_off
from flaxtl.convert.weights import Tensor
from flaxtl.errors import CheckpointError

Found = tuple[dict[str, Tensor], tuple[str, ...]]
_OPTIMIZER = ("optimizer_weights", "optimizer")


def read_npz(path: Path) -> Found:
    """Returns the arrays of an .npz; only their headers are read.

    Raises:
        CheckpointError: it is damaged or holds pickled objects.
    """
    found: dict[str, Tensor] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                with archive.open(entry) as file:
                    shape, dtype = _npy_header(file)
                if dtype.hasobject:
                    raise CheckpointError(
                        f"The array {entry.removesuffix('.npy')!r} of {path} is a pickled Python object, which is not "
                        "opened. Save plain arrays: numpy.savez(path, **{name: array})."
                    )
                name = entry.removesuffix(".npy")
                kind = _as_bfloat16(dtype)
                found[name] = Tensor(shape, kind, functools.partial(_read_npz, path, name, kind))
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise cut_off(path, error) from error
    return found, ()


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    return shape, dtype


def _as_bfloat16(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """NumPy's format has no word for bfloat16 and writes it as two bytes of no kind, as big_vision's files have it."""
    return np.dtype(ml_dtypes.bfloat16) if dtype == np.dtype("V2") else dtype.newbyteorder("=")


def _read_npz(path: Path, name: str, dtype: np.dtype[Any]) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            array = file[name]
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
        raise cut_off(path, error) from error
    return array.view(dtype) if array.dtype.kind == "V" else array.astype(dtype, copy=False)


def read_h5(path: Path) -> Found:
    """Returns the data sets of a Keras file, named by their place, without the ':0' of TensorFlow's variables.

    Raises:
        CheckpointError: h5py is absent, or the file is damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError(
            f"{path} is an HDF5 file, and reading it needs the package h5py. Install it: pip install 'flaxtl[h5]'."
        ) from error
    places: dict[str, tuple[str, tuple[int, ...], np.dtype[Any]]] = {}

    def visit(place: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and place.split("/")[0] not in _OPTIMIZER:
            if node.external or node.is_virtual:
                raise CheckpointError(f"The data set {place!r} of {path} lies in another file, which is not opened.")
            if node.dtype.kind in "fiub":
                places[place.removesuffix(":0")] = (place, node.shape, node.dtype)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, ValueError) as error:
        raise cut_off(path, error) from error
    top = {name.split("/")[0] for name in places}
    notes: tuple[str, ...] = ()
    if top == {"model_weights"}:
        places = {name.removeprefix("model_weights/"): told for name, told in places.items()}
        notes = ("The arrays lie under 'model_weights'.",)
    return {
        name: Tensor(shape, dtype, functools.partial(_read_h5, path, place))
        for name, (place, shape, dtype) in places.items()
    }, notes


def _read_h5(path: Path, place: str) -> np.ndarray:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return file[place][()]
    except (OSError, RuntimeError, KeyError) as error:
        raise cut_off(path, error) from error


def read_msgpack(path: Path) -> Found:
    """Returns the arrays of what flax.serialization wrote, names joined by '/'; the whole file is read.

    Raises:
        CheckpointError: it is damaged or holds no tree of arrays.
    """
    import msgpack
    from flax import serialization

    try:
        tree = serialization.msgpack_restore(path.read_bytes())
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.exceptions.UnpackException) as error:
        raise cut_off(path, f"it is not what flax.serialization writes ({error})") from error
    if not isinstance(tree, dict):
        raise cut_off(path, "it holds no tree of arrays")
    arrays = {"/".join(keys): value for keys, value in paths.items(tree) if isinstance(value, (np.ndarray, np.generic))}
    return {name: Tensor.of(np.asarray(value)) for name, value in arrays.items()}, ()


def read_orbax(path: Path) -> Found:
    """Returns the leaves of an Orbax tree; names are their keys joined by '/', with the collection where there is one.

    Raises:
        CheckpointError: there is no such tree, or it is damaged.
    """
    described = checkpoint.describe(path)
    return {
        "/".join(described.layout.keys(leaf)): Tensor(
            struct.shape, np.dtype(struct.dtype), functools.partial(_read_leaf, described, leaf)
        )
        for leaf, struct in described.leaves.items()
        if not checkpoint.digest.is_random_key(struct)
    }, described.notes


def _read_leaf(described: checkpoint.Description, leaf: paths.Leaf) -> np.ndarray:
    values, _ = read_verified(described, [leaf])
    return np.asarray(values[leaf])
