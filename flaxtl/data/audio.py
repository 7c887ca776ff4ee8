"""What a card's `Audio` does to a clip: decoded, mixed to one channel, resampled, cut into windows; then its front end.

soundfile decodes wav, flac, ogg, mp3 and others, soxr resamples; both are imported when a clip first needs them.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flaxtl.card import Audio
from flaxtl.data.augment import Changes
from flaxtl.data.augment_sound import MASKS, SoundAugment, masked
from flaxtl.data.containers import nist_samples, whole
from flaxtl.data.image import UNREADABLE, ZipMember
from flaxtl.data.records import Record
from flaxtl.data.rows import Form
from flaxtl.errors import DataError

if TYPE_CHECKING:
    from flaxtl.data.frontends import FrontEnd

# A header beyond these is damaged: telephone speech has 8,000 samples a second, studio recordings up to 384,000.
RATES = (1_000, 768_000)
# Floating-point files may pass 1 a little; values such as 32,767 are integers that somebody forgot to scale.
LOUDEST = 100.0
_BLOCK = 1 << 16  # samples a channel that are decoded at once
_UNKNOWN = 1 << 62  # what libsndfile says of a stream's length


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """Sound in memory.

    Attributes:
        samples: float in -1…1, or integers of their type's range; [samples] or [samples, channels].
        sample_rate: in Hz; None if it is the network's.
    """

    samples: np.ndarray
    sample_rate: int | None = None


def decode(raw: Any) -> Clip:
    """Turns a file, or an array, into a clip of floats.

    Args:
        raw: a path, bytes, a `ZipMember`, a `Record`, a `Clip`, or an array at the network's sample rate.

    Returns:
        A clip, float32 [samples, channels].

    Raises:
        DataError: it cannot be decoded, is empty, or holds no sensible numbers; the message names the file.

    Example:
        >>> decode(np.array([0, 16384], np.int16)).samples.tolist()
        [[0.0], [0.5]]
    """
    name = _name(raw)
    if isinstance(raw, Record):
        raw = raw.value()
    if raw is None:
        raise DataError(f"{name} is missing (null).")
    if isinstance(raw, Clip):
        return _checked(name, np.asarray(raw.samples), raw.sample_rate)
    if isinstance(raw, np.ndarray):
        return _checked(name, raw, None)
    try:
        data = raw if isinstance(raw, bytes) else raw.read() if isinstance(raw, ZipMember) else Path(raw).read_bytes()
    except UNREADABLE as error:
        raise DataError(f"{name} cannot be read: {error}.") from error
    if not data:
        raise DataError(f"{name} is empty (zero bytes).")
    return _checked(name, *_decoded(name, whole(name, data)))


def _decoded(name: str, data: bytes) -> tuple[np.ndarray, int]:
    """Decodes a file's bytes from front to back: some formats cannot seek, and some do not say how long they are."""
    soundfile = _needed("soundfile", "read sound")
    blocks: list[np.ndarray] = []
    promised = 0
    try:
        with _forward(soundfile)(io.BytesIO(data)) as file:
            rate, channels, promised = file.samplerate, file.channels, nist_samples(data) or file.frames
            # An mp3's header only estimates its length, and a stream's says nothing.
            promised = 0 if file.format in ("MP3", "MPEG") or promised >= _UNKNOWN else promised
            while len(block := file.read(min(promised, _BLOCK) or _BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block)
    except soundfile.SoundFileError as error:
        said = re.sub(r"^Error opening <.*?>: |^Error : ", "", str(error)).rstrip(".")
        if promised:
            raise DataError(
                f"{name} is cut short or damaged: {said}. Its header promises {promised} samples."
            ) from error
        raise DataError(f"{name} cannot be decoded: {said}. It is damaged, or no wav, flac, ogg or mp3.") from error
    there = sum(map(len, blocks))
    if there < promised:
        raise DataError(f"{name} is cut short: {there} of {promised} samples are there.")
    return (np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)), rate


@functools.cache
def _forward(soundfile: Any) -> Any:
    """Returns soundfile's class without the seeking that it does around each reading."""

    class Forward(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return Forward


def _name(raw: Any) -> str:
    return f"The clip {raw}" if isinstance(raw, (str, Path, ZipMember, Record)) else "The clip"


def _needed(module: str, purpose: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"To {purpose}, flaxtl needs {module}: pip install 'flaxtl[audio]'.") from error


def _checked(name: str, samples: np.ndarray, rate: int | None) -> Clip:
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2:
        raise DataError(f"{name} has the shape {samples.shape}; expected [samples] or [samples, channels].")
    if 0 in samples.shape:
        raise DataError(f"{name} holds no samples.")
    if rate is not None and not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{name} claims {rate} samples a second; expected {RATES[0]:,} to {RATES[1]:,}.")
    samples = _as_floats(name, samples)
    if not np.isfinite(samples).all():
        raise DataError(f"{name} holds samples that are not finite numbers.")
    if np.abs(samples).max() > LOUDEST:
        raise DataError(
            f"{name} reaches {np.abs(samples).max():g}; expected floats from -1 to 1, or integers. "
            "Divide by the largest value that a sample can have."
        )
    return Clip(samples, rate)


def _as_floats(name: str, samples: np.ndarray) -> np.ndarray:
    """Integers are scaled by their type's range; unsigned ones are centred, as in 8-bit wav files."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype.kind not in "iu":
        raise DataError(f"{name} holds {samples.dtype}; expected floats from -1 to 1, or integers.")
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    if samples.dtype == np.int64:  # what tensorflow-datasets calls 16-bit sound
        half = 2.0**15
    centre = half if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - centre) / half).astype(np.float32)


def mono(samples_NC: np.ndarray, how: Literal["mean", "first"] = "mean") -> np.ndarray:
    """Mixes channels to one: their mean, or the first.

    Args:
        samples_NC: float32 [samples, channels].
        how: as the card says.

    Example:
        >>> mono(np.array([[1.0, 0.0]], np.float32)).tolist()
        [0.5]
    """
    if samples_NC.shape[1] == 1 or how == "first":
        return samples_NC[:, 0]
    return samples_NC.mean(axis=1, dtype=np.float32)


def resample(samples: np.ndarray, sample_rate: int, wanted: int) -> np.ndarray:
    """Returns float32 samples at another rate, by soxr's high quality (band-limited) interpolation.

    Args:
        samples: float32 [samples].
        sample_rate: in Hz.
        wanted: in Hz.

    Example:
        >>> len(resample(np.zeros(800, np.float32), 8000, 16000))
        1600
    """
    if sample_rate == wanted:
        return samples
    soxr = _needed("soxr", f"resample sound from {sample_rate} to {wanted} Hz")
    return soxr.resample(samples, sample_rate, wanted).astype(np.float32)


def window_starts(length: int, window: int, hop: int) -> list[int]:
    """Returns where the windows of a clip begin, in samples.

    They follow each other at `hop` until the clip is covered; the last is moved back to end where the clip does, so
    that none is mostly silence of our making.

    Example:
        >>> window_starts(10, 4, 4), window_starts(3, 4, 4)
        ([0, 4, 6], [0])
    """
    if length <= window:
        return [0]
    count = 1 + -(-(length - window) // hop)
    return [min(i * hop, length - window) for i in range(count)]


@dataclasses.dataclass(frozen=True)
class AudioPreprocess:
    """What a card's `Audio` does to a clip; the settings of its front end are resolved, so that it is hashable.

    Attributes:
        sample_rate: in Hz.
        window: samples of a row.
        hop: samples between the starts of two rows of one clip.
        mix: how several channels become one.
        front_end: from waveforms to the network's input; runs on the device.

    Example:
        >>> pre = AudioPreprocess.of(Audio(sample_rate=1000, window=0.004, hop=0.004))
        >>> [{k: v.tolist() for k, v in row.items()} for row in pre.rows(np.array([0.5, -0.5]))]
        [{'waveform': [0.5, -0.5, 0.0, 0.0], 'length': 2}]
    """

    sample_rate: int
    window: int
    hop: int
    mix: Literal["mean", "first"]
    front_end: FrontEnd

    @classmethod
    def of(cls, spec: Audio) -> AudioPreprocess:
        """Resolves a card's input.

        Raises:
            CardError: its front end is unknown.
        """
        from flaxtl.data.frontends import front_end

        window, hop = (max(round(seconds * spec.sample_rate), 1) for seconds in (spec.window, spec.hop))
        return cls(spec.sample_rate, window, hop, spec.mix, front_end(spec))

    @property
    def masked(self) -> bool:
        """Whether the network is told which samples are real, so that padding need not be computed."""
        return bool(getattr(self.front_end, "mask", False))

    @property
    def row(self) -> dict[str, Form]:
        """The waveform, and which or how many of its samples are real."""
        real = (
            {"mask": Form((self.window,), np.dtype(np.int8))} if self.masked else {"length": Form((), np.dtype("i4"))}
        )
        return {"waveform": Form((self.window,), np.dtype(np.float32)), **real}

    @property
    def lengths(self) -> tuple[int, ...]:
        """Halves of the window, to which a batch of short clips may be cut; () where a network takes whole ones."""
        return tuple(-(-self.window // 2**halvings) for halvings in (4, 3, 2, 1, 0)) if self.masked else ()

    def rows(
        self, raw: Any, rng: np.random.Generator | None = None, augment: Changes | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Returns one row a window: the waveform, filled up with zeros, and which or how many samples are real."""
        clip = decode(raw)
        samples = mono(clip.samples, self.mix)
        samples = resample(samples, clip.sample_rate or self.sample_rate, self.sample_rate)
        if not len(samples):
            raise DataError(f"{_name(raw)} is too short: resampled to {self.sample_rate} Hz it has no samples.")
        return [self._row(samples[s : s + self.window]) for s in window_starts(len(samples), self.window, self.hop)]

    def augmented(
        self, row: dict[str, np.ndarray], rng: np.random.Generator, augment: Changes
    ) -> dict[str, np.ndarray]:
        """Changes a row at random; it carries the masks that `device` is to apply, if any are asked for."""
        return augment.apply(row, rng, self.sample_rate) if isinstance(augment, SoundAugment) else row

    def _row(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        padded = np.zeros(self.window, np.float32)
        padded[: len(samples)] = samples
        if self.masked:
            return {"waveform": padded, "mask": (np.arange(self.window) < len(samples)).astype(np.int8)}
        return {"waveform": padded, "length": np.asarray(len(samples), np.int32)}

    def device(self, inputs: Any) -> Any:
        """Turns a batch of rows into the network's input; float32, compiled with the network."""
        length = inputs["mask"].astype("int32").sum(axis=1) if self.masked else inputs["length"]
        spectrum = self.front_end(inputs["waveform"], length)
        return masked(spectrum, inputs[MASKS]) if MASKS in inputs else spectrum
