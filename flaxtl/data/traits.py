"""What examples are like before anything is done to them, read from headers alone, and what a card does to them."""

from __future__ import annotations

import collections
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as pillow

from flaxtl.card import Audio, Image, Input
from flaxtl.data.audio import decode as decode_sound
from flaxtl.data.image import UNREADABLE, ZipMember, decode
from flaxtl.data.records import Record
from flaxtl.data.source import Source
from flaxtl.data.text import read_text
from flaxtl.data.turned import Turned


class PictureTraits(NamedTuple):
    """A picture's size in pixels as it is stored, and its channels: 1 grey, 3 colour."""

    height: int
    width: int
    channels: int


class SoundTraits(NamedTuple):
    """A clip's samples a channel, sample rate in Hz (None if it is the network's) and channels."""

    samples: int
    sample_rate: int | None
    channels: int


class TextTraits(NamedTuple):
    """A text's length in characters; of a pair that of both."""

    characters: int


class ArrayTraits(NamedTuple):
    """An array's shape."""

    shape: tuple[int, ...]


Traits = PictureTraits | SoundTraits | TextTraits | ArrayTraits


def traits_of(source: Source) -> list[Any]:
    """Returns the traits of each example, in order.

    Example:
        >>> traits_of(Source.of('text', ['abc', ('a', 'b')]))
        [TextTraits(characters=3), TextTraits(characters=2)]
    """
    look = _LOOK[source.modality]
    # A picture that is there in four turns is looked at once.
    entries = [raw.raw if isinstance(raw, Turned) else raw for raw in source.raw]
    several = {id(entry): entry for entry in entries}
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        found = dict(zip(several, pool.map(look, several.values()), strict=True))
    return [_turned(found[id(entry)], raw) for entry, raw in zip(entries, source.raw, strict=True)]


def _turned(traits: Any, raw: Any) -> Any:
    turned = isinstance(raw, Turned) and raw.quarters % 2
    return PictureTraits(traits.width, traits.height, traits.channels) if turned else traits


def _stored(raw: Any) -> Any:
    """Returns a file's bytes or path, or what is in memory."""
    if isinstance(raw, Record):
        raw = raw.value()
    return raw.read() if isinstance(raw, ZipMember) else raw


def _picture(raw: Any) -> PictureTraits:
    stored = _stored(raw)
    if isinstance(stored, (bytes, str, Path)):
        try:
            with pillow.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored) as picture:
                grey = picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I")
                return PictureTraits(picture.height, picture.width, 1 if grey else 3)
        except UNREADABLE:
            pass  # decoding says what is wrong with it
    return PictureTraits(*decode(stored).shape)


def _sound(raw: Any) -> SoundTraits:
    stored = _stored(raw)
    if isinstance(stored, (bytes, str, Path)):
        import soundfile

        try:
            with io.BytesIO(stored) if isinstance(stored, bytes) else open(stored, "rb") as stream:
                said = soundfile.info(stream)
            if 0 < said.frames < 1 << 62:  # a stream's header leaves its length open
                return SoundTraits(said.frames, said.samplerate, said.channels)
        except soundfile.SoundFileError:
            pass  # decoding says what is wrong with it
    clip = decode_sound(stored)
    return SoundTraits(len(clip.samples), clip.sample_rate, clip.samples.shape[1])


def _text(raw: Any) -> TextTraits:
    return TextTraits(sum(len(read_text(part)) for part in (raw if isinstance(raw, (tuple, list)) else [raw])))


def _array(raw: Any) -> ArrayTraits:
    return ArrayTraits(np.shape(raw.value() if isinstance(raw, Record) else raw))


_LOOK: dict[str, Callable[[Any], Any]] = {"image": _picture, "audio": _sound, "text": _text, "array": _array}


def adaptations(sources: Sequence[Source], spec: Input) -> list[str]:
    """Says what a card's preprocessing changes about examples that are not as the network was trained on.

    Args:
        sources: of the card's modality.
        spec: the card's input.

    Returns:
        A sentence for each kind of change.

    Example:
        >>> adaptations([Source.of('image', [np.zeros((9, 9, 3), np.uint8)] * 2)], Image((8, 8), 1))
        ['2 colour pictures are made grey.']
    """
    if isinstance(spec, Image):
        return _of_pictures([t for source in sources for t in traits_of(source)], spec)
    if isinstance(spec, Audio):
        return _of_sound([t for source in sources for t in traits_of(source)], spec)
    return []


def _of_pictures(found: Sequence[PictureTraits], spec: Image) -> list[str]:
    colour = sum(t.channels == 3 for t in found) if spec.channels == 1 else 0
    grey = sum(t.channels == 1 for t in found) if spec.channels == 3 else 0
    height, width = spec.size
    small = sum(t.height < height or t.width < width for t in found)
    return [
        *([f"{colour:,} colour pictures are made grey."] if colour else []),
        *([f"{grey:,} grey pictures are given to the network's three channels alike."] if grey else []),
        *([f"{small:,} pictures smaller than {height}×{width} are enlarged."] if small else []),
    ]


def _of_sound(found: Sequence[SoundTraits], spec: Audio) -> list[str]:
    rates = collections.Counter(t.sample_rate for t in found if t.sample_rate not in (None, spec.sample_rate))
    several = sum(t.channels > 1 for t in found)
    long = sum(t.samples / (t.sample_rate or spec.sample_rate) > spec.window for t in found)
    how = "mixed to one" if spec.mix == "mean" else "reduced to their first"
    return [
        *(f"{n:,} clips of {rate:,} Hz are resampled to {spec.sample_rate:,} Hz." for rate, n in sorted(rates.items())),
        *([f"{several:,} clips of several channels are {how}."] if several else []),
        *([f"{long:,} clips longer than {spec.window:g} s are cut into windows, which are averaged."] if long else []),
    ]
