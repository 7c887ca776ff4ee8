"""From a path to weights: which file is meant, what kind it is, and what lies beside it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flaxtl.convert.families.timm_names import current_name
from flaxtl.convert.readers import arrays, safetensors_file, torch_file
from flaxtl.convert.readers.slices import cut_off, sha256
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.errors import CheckpointError, listed
from flaxtl.places import expanded

Found = tuple[dict[str, Tensor], tuple[str, ...], dict[str, Any]]
# What a folder is searched for: the files of the first of these that any is like. Published models come in several
# formats at once, which hold the same; checkpoints of training do not, so one of them must be the only one.
PATTERNS = (
    *(("model.safetensors",), ("*.safetensors.index.json",), ("*.safetensors",)),
    *(("pytorch_model.bin",), ("pytorch_model.bin.index.json",), ("flax_model.msgpack",)),
    *(("*.pth", "*.pt", "*.th", "*.bin", "*.ckpt", "*.tar"), ("*.npz",), ("*.h5",), ("*.msgpack",)),
)
# What training programs save beside the network in files of the same kinds.
_OTHERS = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state|random_states)[\w-]*\.(pt|pth|bin|pkl)")
_SHARD = re.compile(r"(.+)-\d+-of-\d+(\.safetensors|\.bin)")
_BELOW = ("*", "*/*", "*/*/*")
_HEAD = 64


def read_weights(path: str | Path) -> Weights:
    """Opens published weights; tensors are read when they are asked for, one by one.

    Args:
        path: a file (safetensors, one of torch.save, .npz, Keras's .h5, Flax's .msgpack, the index of a sharded one),
            a folder that holds one, or an Orbax tree.

    Returns:
        The tensors, with config.json and the other files beside them.

    Raises:
        CheckpointError: there is nothing there, it is damaged, or it is refused.
    """
    place = expanded(path)
    if not place.exists():
        raise CheckpointError(f"There is nothing at {place}.")
    notes: tuple[str, ...] = ()
    if place.is_dir():
        if is_orbax(place):
            return _with_neighbours(place, place, (*arrays.read_orbax(place), {}), [place])
        place, notes = _inside(_transformer_of(place))
    index = _index_of(place)
    if index is not None and index != place:
        notes = (*notes, f"{place.name} is one part of several; all of them were read by {index.name}.")
    file = index or place
    (tensors, more, said), parts = _read_index(file) if index is not None else (_read_file(file), [file])
    return _with_neighbours(file, file.parent, (tensors, (*notes, *more), said), parts)


def is_orbax(folder: Path) -> bool:
    """Says whether a folder holds an Orbax tree: itself, in an item of it, or in its steps."""
    return any(any(folder.glob(f"{below}_METADATA")) for below in ("", "*/", "*/*/"))


def _inside(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Returns the weights file of a folder, and a note on what was left aside."""
    found = candidates(f.name for f in folder.iterdir() if f.is_file())
    if len(found) > 1:
        raise CheckpointError(
            f"{folder} holds several files of weights, {listed(found, len(found))}. Give the one that is meant: "
            f"{folder / found[0]}."
        )
    if found:
        return folder / found[0], (f"Of {folder.name} the file {found[0]} was read.",)
    there = sorted(f.name for f in folder.iterdir())
    below = sorted(f for pattern in _BELOW for d in folder.glob(pattern) if d.is_dir() for f in _weights_in(d))
    advice = f"Expected a file such as {listed((p for group in PATTERNS for p in group), 20)}."
    if below:
        names = listed((f.relative_to(folder) for f in below), 20)
        advice = f"Below it lie {names}: give the one that is meant, such as {below[0]}."
    raise CheckpointError(
        f"{folder} holds no card.json, as a model of flaxtl's has, and no weights that flaxtl reads, but "
        f"{listed(there, 20) or 'nothing at all'}. {advice}"
    )


def _transformer_of(folder: Path) -> Path:
    """Returns where a sentence encoder's network lies: in its folder, or one down, as its modules.json says."""
    below = [folder / p for p in _module_paths(folder)[:1] if _weights_in(folder / p)]
    return below[0] if below and not _weights_in(folder) else folder


def _module_paths(folder: Path) -> list[str]:
    """Returns the folders that a sentence encoder's modules.json names, which must lie in its own."""
    file = folder / "modules.json"
    try:
        modules = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    except (OSError, ValueError, RecursionError):
        return []  # whoever reads it for its modules says what is wrong with it
    paths = [m.get("path") for m in modules if isinstance(m, dict)] if isinstance(modules, list) else []
    inside = (p for p in paths if isinstance(p, str) and p and not {"..", "/"} & set(Path(p).parts))
    return [p for p in inside if (folder / p).is_dir()]


def _weights_in(folder: Path) -> list[Path]:
    return [folder / name for name in candidates(f.name for f in folder.iterdir() if f.is_file())]


def candidates(names: Iterable[str]) -> list[str]:
    """Returns the files of weights among a folder's; more than one where none is the published one.

    Example:
        >>> candidates(['model.safetensors', 'flax_model.msgpack', 'README.md']), candidates(['b.ckpt', 'a.pth.tar'])
        (['model.safetensors'], ['a.pth.tar', 'b.ckpt'])
    """
    whole = [n for n in names if not _SHARD.fullmatch(n) and not _OTHERS.fullmatch(n)]
    for patterns in PATTERNS:
        found = sorted(n for n in whole if any(fnmatch.fnmatchcase(n.lower(), p) for p in patterns))
        if found:
            return found
    return []


def _index_of(file: Path) -> Path | None:
    """Returns the index that a file is, or that it is a part of."""
    if file.name.endswith(".index.json"):
        return file
    part = _SHARD.fullmatch(file.name)
    beside = file.with_name(f"{part[1]}{part[2]}.index.json") if part else None
    return beside if beside is not None and beside.is_file() else None


def _read_index(index: Path) -> tuple[Found, list[Path]]:
    table = _json(index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise cut_off(index, "it has no weight_map that says which tensor is in which file")
    parts = sorted(set(table.values()))
    absent = [p for p in parts if Path(p).name != p or not (index.parent / p).is_file()]
    if absent:
        raise CheckpointError(
            f"{index} names {listed(absent)}, which {'is' if len(absent) == 1 else 'are'} not beside it. "
            "Fetch all parts into one folder."
        )
    opened = {p: _read_file(index.parent / p) for p in parts}
    missing = [n for n, p in table.items() if n not in opened[p][0]]
    if missing:
        raise CheckpointError(f"{index} says that {listed(missing)} would be in the files beside it, which is not so.")
    notes = tuple(note for _, some, _ in opened.values() for note in some)
    return ({n: opened[p][0][n] for n, p in table.items()}, notes, {}), [index.parent / p for p in parts]


def _read_file(file: Path) -> Found:
    """Reads a file of any kind; what kind it is, its first bytes say."""
    with open(file, "rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        raise CheckpointError(f"{file} is empty. Fetch it again.")
    for begins, told in _FOREIGN.items():
        if head.startswith(begins) and file.suffix != ".safetensors":
            raise CheckpointError(f"{file} {told}")
    if head[4:8] == b"TFL3" and file.suffix != ".safetensors":
        raise CheckpointError(f"{file} is a TensorFlow Lite model, which flaxtl does not read. {_ANOTHER}")
    return _reader(file, head)(file)


def _reader(file: Path, head: bytes) -> Callable[[Path], Found]:
    # A safetensors file begins with a length, which may look like anything, so its other signs come first.
    if file.suffix == ".safetensors" or (head[8:9] == b"{" and not head.startswith(b"PK") and _fits(file, head)):
        return lambda f: (safetensors_file.read(f), (), {})
    if head.startswith(b"\x89HDF\r\n"):
        return lambda f: (*arrays.read_h5(f), {})
    if file.suffix == ".npz" or (head.startswith(b"PK") and _holds_npy(file)):
        return lambda f: (*arrays.read_npz(f), {})
    if file.suffix == ".msgpack":
        return lambda f: (*arrays.read_msgpack(f), {})
    if head.startswith((b"PK", b"\x80")) or file.suffix in (".pth", ".pt", ".th", ".bin", ".pkl", ".ckpt"):
        return torch_file.read
    raise CheckpointError(
        f"{file} is no kind of file that flaxtl reads weights from: safetensors, PyTorch's .pth, .pt, .bin, "
        ".th, .ckpt and .pth.tar, .npz, Keras's .h5, Flax's .msgpack, or the folder of an Orbax checkpoint."
    )


def _fits(file: Path, head: bytes) -> bool:
    return int.from_bytes(head[:8], "little") + 8 <= file.stat().st_size


def _holds_npy(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return False
    return bool(names) and all(n.endswith(".npy") for n in names)


_ANOTHER = "Look for the same weights as safetensors, or convert the model with the program that made it."
_FOREIGN = {
    b"version https://git-lfs": "is only the pointer of Git LFS to the real file. Run git lfs pull, or download it.",
    b"<!DOCTYPE": "is a web page and not a file of weights. Download from the address of the file itself.",
    b"<!doctype": "is a web page and not a file of weights. Download from the address of the file itself.",
    b"<html": "is a web page and not a file of weights. Download from the address of the file itself.",
    b"GGUF": f"is a GGUF file of quantised weights, which flaxtl does not read. {_ANOTHER}",
    b"\x93NUMPY": "holds one array or pickled object without names. Save named arrays: numpy.savez(path, **arrays).",
}


def _with_neighbours(file: Path, folder: Path, found: Found, parts: list[Path]) -> Weights:
    tensors, notes, said = found
    if not tensors:
        raise CheckpointError(f"{file} holds no tensors.")
    files = _neighbours(folder, {p.name for p in parts})
    origin: dict[str, Any] = {"source": file.name, "sha256": {p.name: _checksum(p.resolve()) for p in parts}}
    config = _settings(files, "config.json")
    names = [str(c["architecture"]) for c in (config, said) if c.get("architecture")]
    if len({current_name(name) for name in names}) > 1:
        raise CheckpointError(
            f"{file.name} was saved as {names[1]!r}, but config.json beside it says {names[0]!r}. Correct config.json, "
            "or move the file to a folder of its own."
        )
    return Weights(tensors, config or said, _settings(files, "preprocessor_config.json"), files, origin, notes)


def _checksum(place: Path) -> str:
    """Returns the SHA-256 of a file, or of all names and checksums below a folder."""
    if place.is_file():
        return sha256(place)
    told = [(f.relative_to(place).as_posix(), sha256(f)) for f in sorted(place.rglob("*")) if f.is_file()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _neighbours(folder: Path, without: set[str]) -> dict[str, Path]:
    """Returns the files beside the weights by name, and those one folder down where it is a published model's."""
    found = {f.name: f for f in sorted(folder.iterdir()) if f.is_file() and f.name not in without}
    if folder.name in _module_paths(folder.parent):
        return {**_neighbours(folder.parent, set()), **found}
    if "config.json" in found or "modules.json" in found:
        for below in sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith(".")):
            found |= {f"{below.name}/{f.name}": f for f in sorted(below.iterdir()) if f.is_file()}
    for path in _module_paths(folder):
        found |= {f"{path}/{f.name}": f for f in sorted((folder / path).iterdir()) if f.is_file()}
    return found


def _settings(files: Mapping[str, Path], name: str) -> dict[str, Any]:
    return _json(files[name]) if name in files else {}


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise cut_off(file, f"it is not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise cut_off(file, f"it holds {type(value).__name__} and not settings by name")
    return value
