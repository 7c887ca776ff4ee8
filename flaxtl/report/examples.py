"""Examples as they are shown on a page: small pictures, players of sound, and texts."""

from __future__ import annotations

import dataclasses
import io
import wave
from typing import Any

import numpy as np
from PIL import Image as pillow

from flaxtl.data import Source
from flaxtl.data.audio import decode as decode_sound
from flaxtl.data.audio import mono, resample
from flaxtl.data.image import decode as decode_picture
from flaxtl.errors import DataError
from flaxtl.report.elements import Shown, data_uri

MOST = 12  # examples in a section
_THUMBNAIL = 112  # pixels a side
_LONGEST_TEXT = 240
# Sound is embedded at a rate that speech is clear at, and no longer than this: a dozen clips stay below 2 MB.
_RATE, _SECONDS = 11025, 5


def shown_example(source: Source, row: int, caption: str) -> Shown:
    """Returns an example with a caption; without its content where it cannot be shown or is no longer there.

    Args:
        source: the examples.
        row: which of them.
        caption: what is said of it.
    """
    raw: Any = source.raw[row]
    plain = Shown(str(source.keys[row]), _name(source, row), caption)
    try:
        if source.modality == "image":
            return dataclasses.replace(plain, picture=_thumbnail(raw))
        if source.modality == "audio":
            return dataclasses.replace(plain, sound=_clip(raw))
    except DataError:  # the file has gone since it was read
        return plain
    if source.modality == "text" and isinstance(raw, (str, tuple, list)):
        text = raw if isinstance(raw, str) else " / ".join(map(str, raw))
        return dataclasses.replace(plain, text=text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…")
    return plain


def _name(source: Source, row: int) -> str:
    """Returns a key without the folders that all keys share."""
    folders = [key.split("/")[:-1] for key in source.keys]
    shared = 0
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        shared += 1
    return "/".join(source.keys[row].split("/")[shared:])


def _thumbnail(raw: Any) -> str:
    values = decode_picture(raw)
    picture = pillow.fromarray(values if values.shape[2] == 3 else values[..., 0])
    if max(picture.size) < _THUMBNAIL:
        factor = max(1, _THUMBNAIL // max(picture.size))
        picture = picture.resize((picture.width * factor, picture.height * factor), pillow.Resampling.NEAREST)
    picture.thumbnail((2 * _THUMBNAIL, 2 * _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=82)
    return data_uri("image/jpeg", file.getvalue())


def _clip(raw: Any) -> str:
    """Returns the beginning of a clip as a WAV file, or nothing for samples of an unknown rate."""
    clip = decode_sound(raw)
    if clip.sample_rate is None:
        return ""
    samples = mono(clip.samples[: _SECONDS * clip.sample_rate])
    rate = clip.sample_rate
    if rate > _RATE:
        samples, rate = resample(samples, rate, _RATE), _RATE
    whole = np.rint(32767 * np.clip(np.asarray(samples, np.float64), -1.0, 1.0)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(whole.tobytes())
    return data_uri("audio/wav", file.getvalue())
