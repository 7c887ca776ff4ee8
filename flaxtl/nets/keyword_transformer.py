"""The Keyword Transformer: attention over the frames of a second of speech, as MFCC.

Berg, O'Connor and Cruz, "Keyword Transformer: A Self-Attention Model for Keyword Spotting", Interspeech 2021
(section 2.1: post-norm blocks, a class token, learned positions).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.transformer import Mlp, SelfAttention

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one keyword transformer differ from another.

    Attributes:
        width: features of a token.
        depth: blocks.
        heads: of attention.
        hidden: features between the two layers of the feed-forward part.
        frames: MFCC frames of a clip; the positions are one more, for the class token.
        epsilon: of the normalisation.
        dropout: after attention and feed-forward, in training.
    """

    width: int = 64
    depth: int = 12
    heads: int = 1
    hidden: int = 256
    frames: int = 98
    epsilon: float = 1e-6
    dropout: float = 0.0


class Stem(nn.Module):
    """Frames become tokens, the class token comes first, positions are added."""

    config: Config

    @nn.compact
    def __call__(self, x_BLC: Array) -> Array:
        c = self.config
        if x_BLC.shape[1] != c.frames:
            raise ConfigError(
                f"This keyword transformer takes {c.frames} frames; found {x_BLC.shape[1]}. "
                "Its card's window must be that of its pretraining."
            )
        normal = nn.initializers.normal(0.02)
        x_BLF = nn.Dense(c.width, name="projection")(x_BLC)
        class_token = self.param("class_token", normal, (1, 1, c.width)).astype(x_BLF.dtype)
        position = self.param("position", normal, (1, c.frames + 1, c.width)).astype(x_BLF.dtype)
        tokens = jnp.broadcast_to(class_token, (x_BLF.shape[0], 1, c.width))
        return jnp.concatenate([tokens, x_BLF], axis=1) + position


class Block(nn.Module):
    """One post-norm block: attention and feed-forward, each added and then normalised."""

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        y = SelfAttention(c.heads, qkv_bias=False, dropout=c.dropout, name="attention")(x_BLF)
        x_BLF = nn.LayerNorm(epsilon=c.epsilon, name="norm1")(x_BLF + y)
        y = Mlp(c.hidden, "gelu_tanh", c.dropout, name="mlp")(x_BLF)
        return nn.LayerNorm(epsilon=c.epsilon, name="norm2")(x_BLF + y)


class KeywordTransformer(nn.Module):
    """The backbone: MFCC [batch, frames, coefficients] → the class token [batch, width]."""

    config: Config

    def setup(self) -> None:
        self.stem = Stem(self.config)
        self.blocks = [Block(self.config) for _ in range(self.config.depth)]

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
        if segment == "stem":
            return self.stem(x)
        if segment == "pool":
            return x[:, 0]
        return self.blocks[int(segment.removeprefix("blocks_"))](x)


VARIANTS = {f"kwt{number}": Config(width=64 * number, heads=number, hidden=256 * number) for number in (1, 2, 3)}


def variant(name: str) -> Config:
    """Returns the configuration of a named network.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('kwt3').width
        192
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no keyword transformer called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def backbone(config: Config) -> KeywordTransformer:
    """Returns the backbone of a configuration."""
    return KeywordTransformer(config)
