"""Whisper's encoder: two convolutions over a log-mel spectrogram, then a transformer; its mean over time.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022 (section 2.2). The decoder, which
writes text, is not needed for features.
"""

from __future__ import annotations

import dataclasses

import jax
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.transformer import ACTIVATIONS, Mlp, SelfAttention

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one Whisper encoder differ from another.

    Attributes:
        bands: mel bands of the spectrogram.
        positions: tokens of the longest clip, two frames each; 1,500 for 30 seconds.
        width: features of a token.
        depth: blocks.
        heads: of attention.
        hidden: features between the two layers of the feed-forward part.
        projector: features of a dense layer before the mean over time, which classifiers have; 0 for none.
        activation: of the feed-forward parts.
        epsilon: of the normalisation.
        dropout: after attention and feed-forward, in training.
    """

    bands: int = 80
    positions: int = 1500
    width: int = 384
    depth: int = 4
    heads: int = 6
    hidden: int = 1536
    projector: int = 0
    activation: str = "gelu"
    epsilon: float = 1e-5
    dropout: float = 0.0


class Stem(nn.Module):
    """Two convolutions over time, the second of which halves it, and the positions."""

    config: Config

    @nn.compact
    def __call__(self, x_BTM: Array) -> Array:
        c = self.config
        x_BTM = ACTIVATIONS["gelu"](nn.Conv(c.width, (3,), (1,), ((1, 1),), name="conv1")(x_BTM))
        x_BLF = ACTIVATIONS["gelu"](nn.Conv(c.width, (3,), (2,), ((1, 1),), name="conv2")(x_BTM))
        if x_BLF.shape[1] > c.positions:
            raise ConfigError(
                f"This Whisper encoder takes up to {2 * c.positions} frames; found {x_BTM.shape[1]}. "
                "Shorten its card's window."
            )
        position = self.param("position", nn.initializers.normal(0.02), (c.positions, c.width))
        x_BLF = x_BLF + position[: x_BLF.shape[1]].astype(x_BLF.dtype)
        return nn.Dropout(c.dropout, deterministic=True)(x_BLF)


class Block(nn.Module):
    """One pre-norm block."""

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        y = nn.LayerNorm(epsilon=c.epsilon, name="norm1")(x_BLF)
        x_BLF = x_BLF + SelfAttention(c.heads, dropout=c.dropout, name="attention")(y)
        y = nn.LayerNorm(epsilon=c.epsilon, name="norm2")(x_BLF)
        return x_BLF + Mlp(c.hidden, c.activation, c.dropout, name="mlp")(y)


class Pool(nn.Module):
    """The last normalisation, the projector, and the mean over time."""

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        x_BLF = nn.LayerNorm(epsilon=c.epsilon, name="norm")(x_BLF)
        x_BLF = nn.Dense(c.projector, name="projector")(x_BLF) if c.projector else x_BLF
        return x_BLF.mean(axis=1)


class Whisper(nn.Module):
    """The backbone: a log-mel spectrogram [batch, frames, bands] → [batch, features]."""

    config: Config

    def setup(self) -> None:
        self.stem = Stem(self.config)
        self.blocks = [Block(self.config) for _ in range(self.config.depth)]
        self.pool = Pool(self.config)

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the parts in order."""
        return ("stem", *(f"blocks_{i}" for i in range(self.config.depth)), "pool")

    @property
    def equal_segments(self) -> tuple[tuple[str, ...], ...]:
        """All blocks have the same shapes."""
        return (self.segments[1:-1],)

    def run(self, segment: str, x: Array) -> Array:
        """Applies one segment."""
        if segment in ("stem", "pool"):
            return getattr(self, segment)(x)
        return self.blocks[int(segment.removeprefix("blocks_"))](x)


def _sizes() -> dict[str, Config]:
    found = {}
    for name, width, depth, heads in (
        ("tiny", 384, 4, 6),
        ("base", 512, 6, 8),
        ("small", 768, 12, 12),
        ("medium", 1024, 24, 16),
        ("large", 1280, 32, 20),
    ):
        found[f"whisper-{name}"] = Config(width=width, depth=depth, heads=heads, hidden=4 * width)
    found["whisper-large-v3"] = dataclasses.replace(found["whisper-large"], bands=128)
    return found


VARIANTS = _sizes()


def variant(name: str) -> Config:
    """Returns the configuration of a named network.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('whisper-large-v3').bands
        128
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no Whisper called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def backbone(config: Config) -> Whisper:
    """Returns the backbone of a configuration."""
    return Whisper(config)
