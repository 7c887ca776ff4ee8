"""Examples with the same content, whatever they are called and wherever they lie."""

from __future__ import annotations

import collections
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flaxtl.data.image import ZipMember
from flaxtl.data.records import Record, content_of
from flaxtl.data.source import Source

Place = tuple[int, int]


def same_content(sources: Sequence[Source], *, apart: bool = False) -> list[list[Place]]:
    """Finds examples that are equal to the byte: files by their bytes, texts, arrays.

    Files are only read where another has the same size.

    Args:
        sources: of one modality.
        apart: whether only groups with members in several sources are wanted.

    Returns:
        Groups of two and more, each of (number of the source, place in it), in the order of their first member.

    Example:
        >>> same_content([Source.of('text', ['a', 'b', 'a']), Source.of('text', ['b'])])
        [[(0, 0), (0, 2)], [(0, 1), (1, 0)]]
    """
    entries = [((s, i), raw) for s, source in enumerate(sources) for i, raw in enumerate(source.raw)]
    modality = sources[0].modality if sources else ""
    by_size: dict[Any, list[tuple[Place, Any]]] = collections.defaultdict(list)
    for place, raw in entries:
        by_size[_size(raw, modality)].append((place, raw))
    alike = [some for some in by_size.values() if len(some) > 1 and (not apart or _several([p for p, _ in some]))]
    likely = [entry for some in alike for entry in some]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        digests = pool.map(lambda entry: content_digest(entry[1], modality), likely)
        groups: dict[bytes, list[Place]] = collections.defaultdict(list)
        for (place, _), digest in zip(likely, digests, strict=True):
            groups[digest].append(place)
    wanted = [sorted(places) for places in groups.values() if len(places) > 1 and (not apart or _several(places))]
    return sorted(wanted, key=lambda places: places[0])


def _several(places: Sequence[Place]) -> bool:
    return len({source for source, _ in places}) > 1


def content_digest(raw: Any, modality: str) -> bytes:
    """Returns the SHA-256 of an example's content.

    Args:
        raw: as a source holds it.
        modality: a string is a text where it is "text", else the path of a file.

    Example:
        >>> content_digest('a', 'text') == content_digest(b'a', 'text')
        True
    """
    if isinstance(raw, Record):
        return hashlib.sha256(_of_value(raw.value())).digest()
    if isinstance(raw, ZipMember):
        return hashlib.sha256(raw.read()).digest()
    if isinstance(raw, str) and modality != "text":
        raw = Path(raw)
    return hashlib.sha256(_of_value(raw)).digest()


def _of_value(value: Any) -> bytes:
    return value.read_bytes() if isinstance(value, Path) else content_of(value)


def _size(raw: Any, modality: str) -> Any:
    """Returns what differs between most examples that differ, without reading any; None where that is not known."""
    if isinstance(raw, str) and modality == "text":
        return raw
    if isinstance(raw, (str, Path)):
        return os.path.getsize(raw)
    if isinstance(raw, ZipMember):
        return raw.size
    return None if isinstance(raw, Record) else len(content_of(raw))
