"""The Audio Spectrogram Transformer: a ViT over overlapping patches of a log-mel spectrogram.

Gong, Chung and Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021 (section 2.1: 16×16 patches every 10
frames and bands, a class and a distillation token whose mean is the clip's features).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.layers import Conv
from flaxtl.nets.transformer import Mlp, SelfAttention

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one AST differ from another.

    Attributes:
        bands: mel bands of the spectrogram.
        frames: frames of the spectrogram.
        patch: height and width of a patch.
        band_stride: bands between two patches.
        frame_stride: frames between two patches.
        width: features of a token.
        depth: blocks.
        heads: of attention.
        hidden: features between the two layers of the feed-forward part.
        qkv_bias: whether query, key and value have a bias.
        head_norm: whether the features are normalised once more before the head, as the classifier has it.
        activation: of the feed-forward parts.
        epsilon: of the normalisation.
        dropout: after attention and feed-forward, in training.
    """

    bands: int = 128
    frames: int = 1024
    patch: int = 16
    band_stride: int = 10
    frame_stride: int = 10
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    qkv_bias: bool = True
    head_norm: bool = True
    activation: str = "gelu"
    epsilon: float = 1e-12
    dropout: float = 0.0

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along bands and frames."""
        return (self.bands - self.patch) // self.band_stride + 1, (self.frames - self.patch) // self.frame_stride + 1


class Stem(nn.Module):
    """Patches become tokens, band by band; class and distillation token come first, positions are added."""

    config: Config

    @nn.compact
    def __call__(self, x_BTM: Array) -> Array:
        c = self.config
        if x_BTM.shape[1:] != (c.frames, c.bands):
            raise ConfigError(
                f"This AST takes {c.frames} frames of {c.bands} mel bands; found {x_BTM.shape[1]} of {x_BTM.shape[2]}. "
                "Its card's window and front end must be those of its pretraining."
            )
        picture = x_BTM.swapaxes(1, 2)[..., None]
        strides = (c.band_stride, c.frame_stride)
        patches = Conv(c.width, (c.patch, c.patch), strides, padding=0, use_bias=True, name="patch")(picture)
        x_BLF = patches.reshape(patches.shape[0], -1, c.width)
        normal = nn.initializers.normal(0.02)
        first = [self.param(name, normal, (1, 1, c.width)) for name in ("class_token", "distillation_token")]
        tokens = [jnp.broadcast_to(t, (x_BLF.shape[0], 1, c.width)).astype(x_BLF.dtype) for t in first]
        position = self.param("position", normal, (1, 2 + c.grid[0] * c.grid[1], c.width)).astype(x_BLF.dtype)
        return nn.Dropout(c.dropout, deterministic=True)(jnp.concatenate([*tokens, x_BLF], axis=1) + position)


class Block(nn.Module):
    """One pre-norm block."""

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        y = nn.LayerNorm(epsilon=c.epsilon, name="norm1")(x_BLF)
        x_BLF = x_BLF + SelfAttention(c.heads, c.qkv_bias, dropout=c.dropout, name="attention")(y)
        y = nn.LayerNorm(epsilon=c.epsilon, name="norm2")(x_BLF)
        return x_BLF + Mlp(c.hidden, c.activation, c.dropout, name="mlp")(y)


class Pool(nn.Module):
    """The last normalisation, the mean of class and distillation token, and the head's own normalisation."""

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        y = nn.LayerNorm(epsilon=c.epsilon, name="norm")(x_BLF[:, :2]).mean(axis=1)
        return nn.LayerNorm(epsilon=c.epsilon, name="head_norm")(y) if c.head_norm else y


class AudioSpectrogramTransformer(nn.Module):
    """The backbone: a spectrogram [batch, frames, bands] → the mean of its two first tokens [batch, width]."""

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


VARIANTS = {
    "ast-audioset": Config(),
    "ast-speech-commands": Config(frames=128),
}


def variant(name: str) -> Config:
    """Returns the configuration of a named network.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('ast-audioset').grid
        (12, 101)
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no AST called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def backbone(config: Config) -> AudioSpectrogramTransformer:
    """Returns the backbone of a configuration."""
    return AudioSpectrogramTransformer(config)
