"""What decides an activation: the parameters and settings before its border, the example's content, its view."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from flaxtl import paths
from flaxtl.checkpoint.digest import digest
from flaxtl.data import Changes
from flaxtl.model import Model

# Raised when the same parameters and pictures give other numbers than before.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class View:
    """A random change of the examples that is drawn once and kept.

    Attributes:
        number: which of several, from 1 on.
        augment: what is changed.
        seed: of the draw; what is drawn for an example depends on its content, not on its place.
    """

    number: int
    augment: Changes
    seed: int = 0

    def generator(self, example: bytes) -> np.random.Generator:
        """Returns the generator that changes an example with this digest."""
        return np.random.default_rng([self.seed, self.number, int.from_bytes(example[:8], "big")])


def shelf_of(model: Model, stop: int, view: View | None = None) -> str:
    """Returns the name of what activations at a border have in common: hexadecimal, 32 characters.

    It depends on every parameter and statistic before the border, the network's settings, the card's input, the files
    that travel with the model, and the view. It does not depend on the head, unless the border lies behind it.

    Args:
        model: whose activations they are.
        stop: one past the last segment that is computed.
        view: the change of the examples.

    Example:
        >>> from flaxtl.convert import load
        >>> model = load('flaxtl:characters')
        >>> shelf_of(model, 2) == shelf_of(model.with_head(['a', 'b']), 2) != shelf_of(model, 1)
        True
    """
    before = [
        (leaf.name, digest(value))
        for leaf, value in paths.leaves(model.variables)
        if model.network.segment_of(leaf.path) < stop
    ]
    files = {name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for name, file in model.files.items()}
    card = model.card.to_dict()
    said = {
        "format": FORMAT,
        "leaves": sorted(before),
        "network": card["network"],
        "module": "" if is_ours(model) else repr(model.network),
        "execution": repr(getattr(model.network, "execution", None)),
        "input": card["input"],
        "files": files,
        "segments": model.network.segments[:stop],
        "view": None if view is None else dataclasses.asdict(view),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:32]


def is_ours(model: Model) -> bool:
    """Whether the network is of one of flaxtl's families, which the card identifies; a user's own code may change."""
    return model.card.network.family != "custom"


def content_digest(raw: Any) -> bytes | None:
    """Returns the SHA-256 of an example's content, or None for kinds that have none.

    Args:
        raw: text, bytes, an array, several of them, or an object that says `content() -> bytes`. Files are not read
            here: see `Store.digests`.

    Example:
        >>> content_digest('a') == content_digest('a') != content_digest(b'a')
        True
    """
    found = hashlib.sha256()
    for part in _parts(raw):
        if part is None:
            return None
        found.update(part)
    return found.digest()


def _parts(raw: Any) -> Iterable[bytes | None]:
    if isinstance(raw, str):
        return [b"text", raw.encode("utf-8", "surrogatepass")]
    if isinstance(raw, bytes):
        return [b"bytes", raw]
    if isinstance(raw, (tuple, list)):
        return [b"several", *(content_digest(part) for part in raw)]
    if hasattr(raw, "content"):
        return [b"content", raw.content()]
    if dataclasses.is_dataclass(raw) and not isinstance(raw, (type, os.PathLike)) and not hasattr(raw, "read"):
        values = [getattr(raw, f.name) for f in dataclasses.fields(raw)]
        return [type(raw).__name__.encode(), *(content_digest(value) for value in values)]
    if isinstance(raw, (int, float)) or raw is None:
        return [repr(raw).encode()]
    if hasattr(raw, "tobytes"):  # arrays and Pillow's pictures
        shape = getattr(raw, "shape", getattr(raw, "size", ()))
        kind = getattr(raw, "dtype", getattr(raw, "mode", ""))
        return [f"{kind}{shape}".encode(), raw.tobytes()]
    return [None]
