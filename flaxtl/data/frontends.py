"""From waveform to network input: the front ends that published sound networks were trained with, in JAX.

They run on the device and always in float32, whatever the network computes in, and they hold no parameters, so that
nothing can train or round them. A card names one (`Audio.front_end`) and gives its settings.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl.card import Audio
from flaxtl.errors import CardError, did_you_mean

Array = jax.Array


class FrontEnd(Protocol):
    """A transformation of waveforms; hashable, so that compiled functions can be shared."""

    def __call__(self, waveform_BN: Array, length_B: Array) -> Any:
        """Turns waveforms, of which the first `length` samples are real and the rest zeros, into network input."""


def frames(waveform_BN: Array, size: int, hop: int) -> Array:
    """Returns overlapping frames [batch, 1 + (samples - size) // hop, size].

    Example:
        >>> frames(jnp.arange(5.0)[None], 3, 2)[0].tolist()
        [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    """
    count = 1 + (waveform_BN.shape[1] - size) // hop
    return waveform_BN[:, np.arange(count)[:, None] * hop + np.arange(size)]


def hann(size: int, *, periodic: bool) -> np.ndarray:
    """Returns a Hann window, float32 [size]."""
    return np.hanning(size + periodic)[:size].astype(np.float32)


def mel_filters(
    bands: int, fft: int, sample_rate: int, low: float, high: float, scale: Literal["htk", "slaney"] = "htk"
) -> np.ndarray:
    """Returns triangular filters, float32 [fft // 2 + 1, bands].

    Args:
        bands: number of filters.
        fft: size of the Fourier transform.
        sample_rate: in Hz.
        low: the lowest frequency, in Hz.
        high: the highest.
        scale: "htk" (1127 ln(1 + f / 700), triangles straight in mel: TensorFlow, Kaldi) or "slaney" (linear below
            1 kHz, triangles straight in Hz and of equal area: Slaney's Auditory Toolbox, librosa, Whisper).

    Example:
        >>> mel_filters(4, 16, 16000, 0.0, 8000.0).shape
        (9, 4)
    """
    frequency = np.linspace(0.0, sample_rate / 2, fft // 2 + 1)
    to_mel = _htk_mel if scale == "htk" else _slaney_mel
    edges = np.linspace(to_mel(np.float64(low)), to_mel(np.float64(high)), bands + 2)
    place = to_mel(frequency)
    if scale == "slaney":
        edges, place = _slaney_hertz(edges), frequency
    below, centre, above = edges[:-2], edges[1:-1], edges[2:]
    rising = (place[:, None] - below) / (centre - below)
    falling = (above - place[:, None]) / (above - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if scale == "slaney":
        filters *= 2.0 / (above - below)
    return filters.astype(np.float32)


def _htk_mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(hertz / 700.0)


_SLANEY_STEP = np.log(6.4) / 27.0


def _slaney_mel(hertz: Any) -> Any:
    return np.where(hertz < 1000.0, hertz * 3.0 / 200.0, 15.0 + np.log(np.maximum(hertz, 1.0) / 1000.0) / _SLANEY_STEP)


def _slaney_hertz(mel: Any) -> Any:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp((mel - 15.0) * _SLANEY_STEP))


def _project(spectrum_BTK: Array, matrix: np.ndarray) -> Array:
    """A product in full float32: GPU and TPU would otherwise round its factors to 10 or 7 bits."""
    return jnp.matmul(spectrum_BTK, matrix, precision="highest")


@dataclasses.dataclass(frozen=True)
class Waveform:
    """The waveform itself, for networks that learn their own front end (wav2vec 2.0, HuBERT).

    Attributes:
        normalise: to zero mean and unit variance over the real samples.
        mask: whether the network is told which samples are real: {"x": [batch, samples], "mask": [batch, samples]}.
    """

    name: ClassVar[str] = "waveform"
    normalise: bool = False
    mask: bool = False

    def __call__(self, waveform_BN: Array, length_B: Array) -> Any:
        """Returns float32 [batch, samples], with the mask (int32) if asked."""
        real = jnp.arange(waveform_BN.shape[1]) < length_B[:, None]
        if self.normalise:
            count = jnp.maximum(length_B, 1)[:, None]
            mean = jnp.where(real, waveform_BN, 0.0).sum(axis=1, keepdims=True) / count
            centred = jnp.where(real, waveform_BN - mean, 0.0)
            variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
            waveform_BN = centred * jax.lax.rsqrt(variance + 1e-7)
        return {"x": waveform_BN, "mask": real.astype(jnp.int32)} if self.mask else waveform_BN


@dataclasses.dataclass(frozen=True)
class LogMel:
    """YAMNet's log-mel patches: log(mel · |STFT| + offset), [batch, frames, bands, 1].

    Attributes:
        sample_rate: in Hz.
        frame: samples of a frame, weighted by a periodic Hann window.
        hop: samples between two frames.
        fft: size of the Fourier transform.
        bands: mel bands.
        low: the lowest frequency, in Hz.
        high: the highest.
        offset: what is added before the logarithm.
    """

    name: ClassVar[str] = "log_mel"
    sample_rate: int = 16000
    frame: int = 400
    hop: int = 160
    fft: int = 512
    bands: int = 64
    low: float = 125.0
    high: float = 7500.0
    offset: float = 0.001

    def __call__(self, waveform_BN: Array, length_B: Array) -> Array:
        """Returns float32 [batch, frames, bands, 1]."""
        framed = frames(waveform_BN, self.frame, self.hop) * hann(self.frame, periodic=True)
        magnitude = jnp.abs(jnp.fft.rfft(framed, self.fft))
        mel = _project(magnitude, mel_filters(self.bands, self.fft, self.sample_rate, self.low, self.high))
        return jnp.log(mel + self.offset)[..., None]


@dataclasses.dataclass(frozen=True)
class Mfcc:
    """Mel-frequency cepstral coefficients as the keyword transformer takes them, [batch, frames, coefficients].

    Attributes:
        sample_rate: in Hz.
        frame: samples of a frame, weighted by a periodic Hann window.
        hop: samples between two frames.
        fft: size of the Fourier transform.
        bands: mel bands.
        low: the lowest frequency, in Hz.
        high: the highest.
        floor: the least mel magnitude whose logarithm is taken.
        coefficients: of the cosine transform.
    """

    name: ClassVar[str] = "mfcc"
    sample_rate: int = 16000
    frame: int = 480
    hop: int = 160
    fft: int = 512
    bands: int = 80
    low: float = 20.0
    high: float = 7600.0
    floor: float = 1e-12
    coefficients: int = 40

    def cosines(self) -> np.ndarray:
        """Returns the cosine transform (type II), float32 [bands, coefficients], every row scaled alike."""
        n, k = np.arange(self.bands)[:, None], np.arange(self.coefficients)
        return (np.sqrt(2.0 / self.bands) * np.cos(np.pi * k * (2 * n + 1) / (2 * self.bands))).astype(np.float32)

    def __call__(self, waveform_BN: Array, length_B: Array) -> Array:
        """Returns float32 [batch, frames, coefficients]."""
        framed = frames(waveform_BN, self.frame, self.hop) * hann(self.frame, periodic=True)
        magnitude = jnp.abs(jnp.fft.rfft(framed, self.fft))
        mel = _project(magnitude, mel_filters(self.bands, self.fft, self.sample_rate, self.low, self.high))
        return _project(jnp.log(jnp.maximum(mel, self.floor)), self.cosines())


@dataclasses.dataclass(frozen=True)
class KaldiFbank:
    """Kaldi's log-mel filter bank as AST takes it, [batch, frames, bands]; frames beyond the clip count as zero.

    Attributes:
        sample_rate: in Hz.
        bands: mel bands from 20 Hz to half the sample rate.
        frames: that the network takes, 25 ms each and 10 ms apart.
        mean: what is subtracted.
        std: half of what is divided by: (x - mean) / (2 std).
    """

    name: ClassVar[str] = "kaldi_fbank"
    sample_rate: int = 16000
    bands: int = 128
    frames: int = 1024
    mean: float = -4.2677393
    std: float = 4.5689974

    def __call__(self, waveform_BN: Array, length_B: Array) -> Array:
        """Returns float32 [batch, frames, bands]."""
        size, hop = self.sample_rate // 40, self.sample_rate // 100
        fft = 1 << (size - 1).bit_length()
        framed = frames(waveform_BN, size, hop)[:, : self.frames]
        framed = framed - framed.mean(axis=-1, keepdims=True)
        before = jnp.concatenate([framed[..., :1], framed[..., :-1]], axis=-1)
        framed = (framed - 0.97 * before) * hann(size, periodic=False)
        power = jnp.square(jnp.abs(jnp.fft.rfft(framed, fft)))
        mel = _project(power, mel_filters(self.bands, fft, self.sample_rate, 20.0, self.sample_rate / 2))
        logged = jnp.log(jnp.maximum(mel, np.finfo(np.float32).eps))
        count = 1 + jnp.maximum(length_B - size, 0) // hop
        logged = jnp.where((jnp.arange(logged.shape[1]) < count[:, None])[..., None], logged, 0.0)
        logged = jnp.pad(logged, ((0, 0), (0, self.frames - logged.shape[1]), (0, 0)))
        return (logged - self.mean) / (2.0 * self.std)


@dataclasses.dataclass(frozen=True)
class WhisperLogMel:
    """Whisper's log-mel spectrogram, [batch, frames, bands]: log₁₀, floored 8 below the clip's loudest, (x + 4) / 4.

    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 2.2.

    Attributes:
        sample_rate: in Hz.
        bands: 80, or 128 in the third large model.
        fft: samples of a frame.
        hop: samples between two frames.
    """

    name: ClassVar[str] = "whisper_log_mel"
    sample_rate: int = 16000
    bands: int = 80
    fft: int = 400
    hop: int = 160

    def __call__(self, waveform_BN: Array, length_B: Array) -> Array:
        """Returns float32 [batch, samples / hop, bands]."""
        half = self.fft // 2
        padded = jnp.pad(waveform_BN, ((0, 0), (half, half)), mode="reflect")
        framed = frames(padded, self.fft, self.hop)[:, :-1] * hann(self.fft, periodic=True)
        power = jnp.square(jnp.abs(jnp.fft.rfft(framed)))
        mel = _project(power, mel_filters(self.bands, self.fft, self.sample_rate, 0.0, 8000.0, "slaney"))
        logged = jnp.log10(jnp.maximum(mel, 1e-10))
        return (jnp.maximum(logged, logged.max(axis=(1, 2), keepdims=True) - 8.0) + 4.0) / 4.0


FRONT_ENDS: Mapping[str, type] = {kind.name: kind for kind in (Waveform, LogMel, Mfcc, KaldiFbank, WhisperLogMel)}


def front_end(spec: Audio) -> FrontEnd:
    """Returns the front end that a card names, with the card's settings.

    Raises:
        CardError: the front end or one of its settings is unknown.

    Example:
        >>> front_end(Audio(front_end='mfcc', settings={'coefficients': 13})).coefficients
        13
    """
    if spec.front_end not in FRONT_ENDS:
        raise CardError(
            f"The card names the front end {spec.front_end!r}, which this flaxtl does not know."
            f"{did_you_mean(spec.front_end, FRONT_ENDS)}"
        )
    kind = FRONT_ENDS[spec.front_end]
    known = [n for n in inspect.signature(kind).parameters if n != "sample_rate"]
    for key in spec.settings:
        if key not in known:
            raise CardError(f"The front end {spec.front_end!r} has no setting {key!r}.{did_you_mean(key, known)}")
    rate = {"sample_rate": spec.sample_rate} if kind is not Waveform else {}
    return kind(**rate, **spec.settings)
