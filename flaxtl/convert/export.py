"""The way back: a converted model's parameters as safetensors under the source's own names and in its dtypes."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flaxtl import checkpoint, nets, paths
from flaxtl.card import Card
from flaxtl.checkpoint.store import read_verified
from flaxtl.convert import mapping
from flaxtl.convert.converting import EXTRAS
from flaxtl.convert.families import Family, families
from flaxtl.convert.readers.safetensors_file import read as read_safetensors
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.convert.writing import Piece, write_safetensors
from flaxtl.errors import CheckpointError, listed
from flaxtl.model import CHECKPOINT
from flaxtl.places import expanded


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export wrote. Print it.

    Attributes:
        file: the safetensors file.
        tensors: how many.
        bytes: its size.
        notes: what is not as the source had it, one sentence each.
        same_logits: whether the source's architecture computes the model's logits from the file, or these divided by
            the temperature.
    """

    file: Path
    tensors: int
    bytes: int
    notes: tuple[str, ...] = ()
    same_logits: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "out": str(self.file),
            "tensors": self.tensors,
            "bytes": self.bytes,
            "same_logits": self.same_logits,
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """Returns the outcome as text."""
        return "\n".join([f"{self.tensors} tensors, {self.bytes:,} bytes: {self.file}", *self.notes])


def export(directory: str | Path, out: str | Path, *, overwrite: bool = False) -> Exported:
    """Writes a converted model as safetensors, under the names and in the dtypes that its source had.

    What was converted and not trained since comes back to the bit. The temperature of a trained head is folded into it,
    so that the softmax of what the file computes is what the model predicts. A normalisation of features before the
    head has no place in the source's architecture: a note and the file's metadata warn of it.

    Args:
        directory: of a model that `convert` made, or one that was trained from it.
        out: the file.
        overwrite: whether an earlier file may be replaced.

    Raises:
        CheckpointError: the model does not come from a conversion, is damaged, or the place is taken.
    """
    folder, file = expanded(directory), expanded(out)
    if file.exists() and not overwrite:
        raise CheckpointError(
            f"{file} already exists. Choose another place, or allow it to be replaced (`overwrite=True`)."
        )
    card = Card.read(folder)
    told = card.provenance.get("converted")
    if not isinstance(told, Mapping) or "tensors" not in told:
        raise CheckpointError(
            f"{folder} was not converted from published weights, so it has no names to go back to. "
            "Export the model that `flaxtl convert` made, or one that was trained from it."
        )
    pieces, notes = _pieces(folder, card, told)
    same = card.head.normalise == "none"
    about = {"flaxtl_notes": json.dumps(notes), "flaxtl_same_logits": json.dumps(same)} if notes or not same else {}
    size = write_safetensors(file, pieces, about)
    return Exported(file, len(pieces), size, notes, same)


def _pieces(folder: Path, card: Card, told: Mapping[str, Any]) -> tuple[list[Piece], tuple[str, ...]]:
    source = _source(told)
    family = _family(str(told.get("family")))
    config = nets.family_config(card.network.family, card.network.config)
    steps = mapping.resolve(family.rules(config, source), source)
    found = checkpoint.describe(folder / CHECKPOINT)
    # A head that was added to a source without one has no name there.
    own = [leaf for leaf in found.leaves if leaf.path.startswith("head/") and leaf not in {s.target for s in steps}]
    like = {(leaf.collection, *leaf.keys): struct for leaf, struct in found.leaves.items() if leaf not in own}
    mapping.check_targets(steps, paths.unflatten(like))
    prefix = str(told.get("prefix", ""))
    read = functools.partial(_folded, found, card)
    pieces: list[Piece] = []
    for step in steps:
        if step.target is not None:
            pieces += _of_step(step, read, found, source, prefix)
    for leaf in own:
        struct = found.leaves[leaf]
        pieces.append(Piece(leaf.path, struct.shape, np.dtype(struct.dtype), functools.partial(read, leaf)))
    extras = read_safetensors(folder / EXTRAS) if (folder / EXTRAS).is_file() else {}
    pieces += [Piece(prefix + n, t.shape, t.dtype, t.read) for n, t in extras.items() if n in source]
    return pieces, (*_notes(source, pieces, told, prefix), *_head_notes(card, own))


def _folded(found: checkpoint.Description, card: Card, leaf: paths.Leaf) -> np.ndarray:
    """Reads a leaf; one of the head's is divided by the temperature, as `Model.with_temperature_in_head` does."""
    array = np.asarray(read_verified(found, [leaf])[0][leaf])
    head, temperature = paths.split(card.head.path), card.head.temperature
    if temperature == 1.0 or leaf.collection != paths.PARAMS or leaf.keys[: len(head)] != head:
        return array
    return array / np.asarray(temperature, array.dtype)


_NORMALISED = {
    "rms": "divided by their root mean square, example by example",
    "root": "whose signed square root is taken and divided by its root mean square, example by example",
}


def _head_notes(card: Card, own: list[paths.Leaf]) -> tuple[str, ...]:
    notes = [f"The source has no output layer; ours is written as {listed(leaf.path for leaf in own)}."] if own else []
    if card.head.temperature != 1.0:
        notes.append(
            f"The temperature {card.head.temperature:g} is folded into the output layer: its logits are the model's "
            "divided by it, and their softmax is what the model predicts."
        )
    if card.head.normalise != "none":
        notes.append(
            "Warning: a program that reads this file computes other logits than the model. Its output layer was fitted "
            f"to features {_NORMALISED[card.head.normalise]}, which no tensor can hold; do that in the program, or use "
            "the model's as_linen()."
        )
    return tuple(notes)


def _notes(source: Weights, pieces: list[Piece], told: Mapping[str, Any], prefix: str) -> tuple[str, ...]:
    notes = []
    absent = sorted(set(source) - {p.name.removeprefix(prefix) for p in pieces})
    if absent:
        notes.append(f"Left out, as nothing at inference reads them: {listed(absent)}.")
    shapes = {p.name.removeprefix(prefix): p.shape for p in pieces}
    if other := sorted(n for n, t in source.items() if n in shapes and shapes[n] != t.shape):
        notes.append(
            f"These have other shapes than in the source, whose config.json must say so (image_size, num_labels): "
            f"{listed(f'{n} {list(shapes[n])}' for n in other)}."
        )
    if told.get("not_exact"):
        notes.append(f"These say the same as the source's but not to the bit: {listed(told['not_exact'])}.")
    if narrow := sorted(n for n, t in source.items() if t.dtype == np.float64):
        notes.append(f"The source had these in float64, of which flaxtl kept float32: {listed(narrow)}.")
    return tuple(notes)


def _source(told: Mapping[str, Any]) -> Weights:
    """Returns the source's names, shapes and dtypes; the numbers themselves are not there any more."""
    tensors = {}
    try:
        for name, text in dict(told["tensors"]).items():
            dtype, _, shape = str(text).partition(" ")
            tensors[name] = Tensor(tuple(int(n) for n in shape.split("x") if n), _dtype(dtype), _gone(name))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The card does not say what the source's tensors were ({error}). Convert again."
        ) from error
    return Weights(tensors, dict(told.get("settings") or {}))


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _gone(name: str) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        raise CheckpointError(f"The numbers of the source's {name} were not kept. Convert the source again.")

    return read


def _family(name: str) -> Family:
    found = next((f for f in families() if f.name == name), None)
    if found is None:
        raise CheckpointError(f"The card names the family {name!r}, of which this flaxtl has no table of names.")
    return found


def _of_step(
    step: mapping.Step,
    read: Callable[[paths.Leaf], np.ndarray],
    found: checkpoint.Description,
    source: Weights,
    prefix: str,
) -> list[Piece]:
    """Returns a leaf's tensors; a head that was trained anew has its own shape."""
    leaf = step.target
    assert leaf is not None

    def parts() -> list[np.ndarray]:
        return step.operation.backward(read(leaf), len(step.sources))

    def maker(number: int, dtype: np.dtype[Any]) -> Callable[[], np.ndarray]:
        return lambda: parts()[number].astype(dtype, copy=False)

    shapes = [source[n].shape for n in step.sources]
    if math.prod(found.leaves[leaf].shape) != sum(map(math.prod, shapes)):
        shapes = [part.shape for part in parts()]
    return [
        Piece(prefix + name, shape, source[name].dtype, maker(number, source[name].dtype))
        for number, (name, shape) in enumerate(zip(step.sources, shapes, strict=True))
    ]
