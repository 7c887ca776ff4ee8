"""Random changes to training sound: of the waveform on the host, of the spectrum where the front end has made it.

All is drawn on the host, from the generator of the example, as for pictures: so a run resumes to the bit, several
devices and processes draw what one would, and views are drawn once and kept. What masks hide is only known to the
front end, which runs on the device, so a row carries the drawn masks along and `masked` applies them there.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from flaxtl.data.rows import Form

if TYPE_CHECKING:
    import jax

# Where a row keeps its masks: float32 [masks, 3], each its axis (0 time, 1 frequency), start and width as shares.
MASKS = "masks"


@dataclasses.dataclass(frozen=True)
class SoundAugment:
    """What is changed, and how far. The defaults change nothing; the fields are those of `SoundAugmentation`.

    Attributes:
        gain: largest change of loudness, in dB.
        time_shift: largest move, in seconds; what leaves the window is lost, what is left empty is silence.
        snr: range of the ratio of signal to added white noise, in dB.
        time_masks: how many stretches of time are masked, each of up to which share of the clip.
        frequency_masks: how many bands of frequency are masked, each of up to which share of all.

    Example:
        >>> row = {'waveform': np.ones(4, np.float32), 'length': np.asarray(4, np.int32)}
        >>> louder = SoundAugment(gain=6.0).apply(row, np.random.default_rng(0), sample_rate=4)
        >>> 0.5 < float(louder['waveform'][0]) < 2.0
        True
    """

    gain: float = 0.0
    time_shift: float = 0.0
    snr: tuple[float, float] | None = None
    time_masks: tuple[int, float] | None = None
    frequency_masks: tuple[int, float] | None = None

    @property
    def needs_whole(self) -> bool:
        """Whether a change needs the whole clip: none does, a row of it is enough."""
        return False

    @property
    def added(self) -> dict[str, Form]:
        """The arrays that a changed row has besides its own."""
        number = sum(int(masks[0]) for masks in (self.time_masks, self.frequency_masks) if masks is not None)
        return {MASKS: Form((number, 3), np.dtype(np.float32))} if number else {}

    def apply(self, row: dict[str, np.ndarray], rng: np.random.Generator, sample_rate: int) -> dict[str, np.ndarray]:
        """Returns a changed copy of a row; the same for the same state of the generator.

        Args:
            row: "waveform" float32 [window], zeros from its end on, and "length", or "mask" int8 [window].
            rng: what is drawn from.
            sample_rate: in Hz.
        """
        row = dict(row)
        samples = row["waveform"][: _length(row)]
        if self.gain:
            samples = samples * np.float32(10.0 ** (rng.uniform(-self.gain, self.gain) / 20.0))
        if self.time_shift:
            samples = self._moved(samples, len(row["waveform"]), rng, sample_rate)
        if self.snr is not None:
            samples = samples + _noise(samples, rng.uniform(*self.snr), rng)
        if self.added:
            row[MASKS] = self._masks(len(samples) / len(row["waveform"]), rng)
        return {**row, **_as_row(samples, row)}

    def _moved(self, samples: np.ndarray, window: int, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
        # At least half of the clip stays in the window, wherever it is moved.
        furthest = min(round(self.time_shift * sample_rate), len(samples) // 2)
        move = int(rng.integers(-furthest, furthest + 1))
        if move < 0:
            return samples[-move:]
        return np.concatenate([np.zeros(move, np.float32), samples])[:window]

    def _masks(self, real: float, rng: np.random.Generator) -> np.ndarray:
        """Draws masks; those of time lie within the real part of the window."""
        found = []
        for axis, masks, span in ((0, self.time_masks, real), (1, self.frequency_masks, 1.0)):
            for _ in range(0 if masks is None else int(masks[0])):
                width = rng.uniform(0.0, masks[1]) if masks is not None else 0.0
                found.append((axis, span * rng.uniform(0.0, 1.0 - width), span * width))
        return np.array(found, np.float32).reshape(-1, 3)


def _length(row: dict[str, np.ndarray]) -> int:
    return int(row["mask"].sum()) if "mask" in row else int(row["length"])


def _as_row(samples: np.ndarray, row: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    waveform = np.zeros_like(row["waveform"])
    waveform[: len(samples)] = samples
    if "mask" in row:
        return {"waveform": waveform, "mask": (np.arange(len(waveform)) < len(samples)).astype(row["mask"].dtype)}
    return {"waveform": waveform, "length": np.asarray(len(samples), row["length"].dtype)}


def _noise(samples: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Returns white noise that lies so many dB below the samples; silence stays silent."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return rng.standard_normal(len(samples), np.float32) * np.float32(np.sqrt(power / 10.0 ** (ratio / 10.0)))


def masked(spectrum: jax.Array, masks_BM3: Any) -> jax.Array:
    """Hides stretches of time and bands of frequency (SpecAugment; Park et al. 2019, section 2, without warping).

    What is hidden becomes the mean of the example's spectrum. Of cepstral coefficients a band is some of these, as the
    keyword transformer was trained (Berg et al. 2021).

    Args:
        spectrum: float [batch, frames, bands, …], as a front end gives it.
        masks_BM3: float32 [batch, masks, 3]; see `MASKS`.

    Example:
        >>> import jax.numpy as jnp
        >>> masked(jnp.arange(4.0).reshape(1, 4, 1), np.array([[[0, 0.0, 0.5]]], np.float32))[0, :, 0].tolist()
        [1.5, 1.5, 2.0, 3.0]
    """
    import jax.numpy as jnp

    axis_BM, start_BM, width_BM = (masks_BM3[..., k] for k in range(3))

    def hidden(axis: int) -> jax.Array:
        size = spectrum.shape[1 + axis]
        place = (jnp.arange(size) + 0.5) / size
        inside = (place >= start_BM[..., None]) & (place < (start_BM + width_BM)[..., None])
        return (inside & (axis_BM == axis)[..., None]).any(axis=1)

    hide = hidden(0)[:, :, None] | hidden(1)[:, None, :]
    hide = hide.reshape(hide.shape + (1,) * (spectrum.ndim - 3))
    mean = spectrum.mean(axis=tuple(range(1, spectrum.ndim)), keepdims=True)
    return jnp.where(hide, mean, spectrum)
