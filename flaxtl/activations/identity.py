"""What decides an activation: the parameters and settings before its border, the example's content, its view."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as pillow

from flaxtl import paths
from flaxtl.checkpoint.digest import digest
from flaxtl.data import Changes
from flaxtl.data.image import ZipMember, decode, file_stamp
from flaxtl.model import Model

# Raised when the same parameters and pictures give other numbers than before.
FORMAT = 2


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
        "format": [FORMAT, version("flaxtl")],
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


def example_digests(raw: Sequence[Any], modality: str) -> list[bytes] | None:
    """Returns the SHA-256 of each example's content, or None if there is an example that has none.

    Files are read whole: size and time of change are equal for files that were swapped, unpacked, or copied by tools
    that fix the time. Within one process a digest is remembered as long as the file stays the same by its size, both
    of its times, its device and its number.

    Args:
        raw: examples as a source holds them.
        modality: strings are texts where it is "text", else paths of files.

    Example:
        >>> [a, b] = example_digests(['same', 'same'], 'text')
        >>> a == b
        True
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        found = list(pool.map(lambda one: content_digest(one, modality), raw))
    return None if any(digest is None for digest in found) else [digest for digest in found if digest is not None]


def is_file(raw: Any, modality: str) -> bool:
    """Whether an example is a file, or a member of an archive, whose content is not in memory.

    Example:
        >>> is_file('a.png', 'image'), is_file('a.png', 'text')
        (True, False)
    """
    return isinstance(raw, (Path, ZipMember)) or (isinstance(raw, str) and modality != "text")


def content_digest(raw: Any, modality: str = "text") -> bytes | None:
    """Returns the SHA-256 of an example's content, or None for kinds that have none.

    Args:
        raw: a file, text, bytes, an array, a picture, several of them, or an object that says `content() -> bytes`.
        modality: a string is a text where it is "text", else the path of a file.

    Example:
        >>> content_digest('a') == content_digest('a') != content_digest(b'a')
        True
    """
    if is_file(raw, modality):
        return _file_digest(Path(raw) if isinstance(raw, str) else raw)
    found = hashlib.sha256()
    for part in _parts(raw, modality):
        if part is None:
            return None
        found.update(part)
    return found.digest()


def _parts(raw: Any, modality: str) -> Iterable[bytes | None]:
    if isinstance(raw, str):
        return [b"text", raw.encode("utf-8", "surrogatepass")]
    if isinstance(raw, bytes):
        return [b"bytes", raw]
    if isinstance(raw, (tuple, list)):
        return [b"several", *(content_digest(part, modality) for part in raw)]
    if isinstance(raw, pillow.Image):  # its own bytes leave out palette, transparency and orientation
        return [b"picture", *_parts(decode(raw), modality)]
    if hasattr(raw, "content"):
        return [b"content", raw.content()]
    if dataclasses.is_dataclass(raw) and not isinstance(raw, (type, os.PathLike)) and not hasattr(raw, "read"):
        values = [getattr(raw, f.name) for f in dataclasses.fields(raw)]
        return [type(raw).__name__.encode(), *(content_digest(value, modality) for value in values)]
    if isinstance(raw, (int, float)) or raw is None:
        return [repr(raw).encode()]
    if isinstance(raw, np.ndarray) and raw.dtype == object:  # its bytes are addresses
        return [f"objects{raw.shape}".encode(), *(content_digest(part, modality) for part in raw.flat)]
    if hasattr(raw, "tobytes"):
        return [f"{getattr(raw, 'dtype', '')}{getattr(raw, 'shape', ())}".encode(), raw.tobytes()]
    return [None]


# Digests of this process by file and stamp; a file that changed a moment ago may change again within one tick.
_known: dict[tuple[str, tuple[int, ...]], bytes] = {}
_SETTLED_NS = 2_000_000_000


def _file_digest(file: Path | ZipMember) -> bytes:
    """Returns the digest of a file's bytes, the same as that of the bytes themselves."""
    place = file.archive if isinstance(file, ZipMember) else file
    stamp = file_stamp(place)
    name = f"{place.absolute()}//{file.name if isinstance(file, ZipMember) else ''}"
    known = _known.get((name, stamp))
    if known is not None:
        return known
    found = hashlib.sha256(b"bytes")
    if isinstance(file, ZipMember):
        found.update(file.read())
    else:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                found.update(block)
    if file_stamp(place) == stamp and time.time_ns() - max(stamp[1:3]) > _SETTLED_NS:
        _known[name, stamp] = found.digest()
    return found.digest()
