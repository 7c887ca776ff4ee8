"""ModernBERT: rotary positions, attention that is local in most blocks, gated feed-forward parts, no biases.

Warner et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder", 2024; Su et al., "RoFormer", 2021
(rotary positions); Shazeer, "GLU Variants Improve Transformer", 2020.

Input and what goes between segments are those of `flaxtl.nets.bert`, without token types.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.bert import pooled, unit
from flaxtl.nets.transformer import ACTIVATIONS, GatedMlp, attend, padding_bias

Array = jax.Array
_GLOBAL_EVERY_THIRD = tuple(bool(i % 3) for i in range(22))


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one such network differ from another.

    Attributes:
        vocabulary: rows of the token embeddings.
        longest: the most tokens that it was trained for.
        width: features of a token.
        heads: of attention.
        hidden: features between the two layers of the feed-forward part.
        local: for each block, whether its attention is local.
        reach: how many tokens to either side local attention sees.
        local_base: of the wavelengths of rotary positions in local blocks.
        global_base: likewise in the others.
        activation: of the feed-forward part's gate.
        epsilon: of the normalisation.
        norm_bias: whether normalisations have a bias.
        attention_bias: whether attention's layers have one.
        mlp_bias: whether feed-forward layers have one.
        pooling: the features: the "mean" over real tokens, the first token ("cls"), or the "max" over real tokens.
        dense: whether a dense layer, its activation and a normalisation follow (a classifier's inner layer).
        dense_bias: whether that layer has a bias.
        dense_activation: its activation.
        normalise: whether the features are divided by their length.
        dropout: after embedding, attention and feed-forward, in training.
    """

    vocabulary: int = 50368
    longest: int = 8192
    width: int = 768
    heads: int = 12
    hidden: int = 1152
    local: tuple[bool, ...] = _GLOBAL_EVERY_THIRD
    reach: int = 64
    local_base: float = 10_000.0
    global_base: float = 160_000.0
    activation: str = "gelu"
    epsilon: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    pooling: Literal["mean", "cls", "max"] = "mean"
    dense: bool = False
    dense_bias: bool = False
    dense_activation: str = "gelu"
    normalise: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"ModernBERT's width must be an even multiple of its heads; found {self.width} and {self.heads}."
            )
        for name in (self.activation, self.dense_activation):
            if name not in ACTIVATIONS:
                raise ConfigError(f"There is no activation {name!r} for ModernBERT.{did_you_mean(name, ACTIVATIONS)}")


def rotate(x_BHLD: Array, base: float) -> Array:
    """Turns each pair of features (i, i + D/2) by position · base^(-2i/D) (Su et al. 2021, equation 34).

    Args:
        x_BHLD: float [batch, heads, length, dimension].
        base: of the wavelengths.

    Example:
        >>> rotate(jnp.ones((1, 1, 2, 2)), 10_000.0)[0, 0].round(4).tolist()
        [[1.0, 1.0], [-0.3012000024318695, 1.3817999362945557]]
    """
    length, dimension = x_BHLD.shape[-2:]
    slow = 1.0 / np.float32(base) ** (np.arange(0, dimension, 2, dtype=np.float32) / np.float32(dimension))
    angle_LD = np.arange(length, dtype=np.float32)[:, None] * slow[None]
    cosine, sine = jnp.asarray(np.cos(angle_LD)), jnp.asarray(np.sin(angle_LD))
    first, second = jnp.split(x_BHLD.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x_BHLD.dtype)


def local_bias(length: int, reach: int, dtype: Any = jnp.float32) -> Array:
    """Returns the bias [1, 1, queries, keys] that hides keys more than `reach` tokens away.

    Example:
        >>> (local_bias(3, 1)[0, 0] == 0).tolist()
        [[True, True, False], [True, True, True], [False, True, True]]
    """
    place = np.arange(length)
    near = np.abs(place[:, None] - place[None, :]) <= reach
    return jnp.where(near, 0.0, -1e30).astype(dtype)[None, None]


class Attention(nn.Module):
    """Self-attention with rotary positions, over all tokens or the near ones; parameters as in `SelfAttention`."""

    config: Config
    local: bool

    @nn.compact
    def __call__(self, x_BLF: Array, mask_BL: Array) -> Array:
        c = self.config
        batch, length, features = x_BLF.shape
        qkv = nn.Dense(3 * features, use_bias=c.attention_bias, name="qkv")(x_BLF)
        q, k, v = qkv.reshape(batch, length, 3, c.heads, features // c.heads).transpose(2, 0, 3, 1, 4)
        base = c.local_base if self.local else c.global_base
        bias = padding_bias(mask_BL, x_BLF.dtype)
        if self.local and length > c.reach + 1:
            bias = bias + local_bias(length, c.reach, x_BLF.dtype)
        y = attend(rotate(q, base), rotate(k, base), v, bias)
        y = nn.Dense(features, use_bias=c.attention_bias, name="out")(y.swapaxes(1, 2).reshape(x_BLF.shape))
        return nn.Dropout(c.dropout, deterministic=True)(y)


class Block(nn.Module):
    """One block, normalised before its parts; what enters the first one is normalised already."""

    config: Config
    local: bool
    first: bool

    @nn.compact
    def __call__(self, x: dict[str, Array]) -> dict[str, Array]:
        c = self.config
        x_BLF = x["x"]
        y = x_BLF if self.first else _norm(c, "norm1")(x_BLF)
        x_BLF = x_BLF + Attention(c, self.local, name="attention")(y, x["mask"])
        mlp = GatedMlp(c.hidden, c.activation, c.dropout, c.mlp_bias, name="mlp")
        return {**x, "x": x_BLF + mlp(_norm(c, "norm2")(x_BLF))}


def _norm(config: Config, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=config.epsilon, use_bias=config.norm_bias, name=name)


class Stem(nn.Module):
    """The embeddings of tokens, normalised."""

    config: Config

    @nn.compact
    def __call__(self, x: dict[str, Array]) -> dict[str, Array]:
        c = self.config
        if x["ids"].shape[1] > c.longest:
            raise ConfigError(f"A row has {x['ids'].shape[1]} tokens; this network takes {c.longest}.")
        x_BLF = _norm(c, "norm")(nn.Embed(c.vocabulary, c.width, name="tokens")(x["ids"]))
        return {"x": nn.Dropout(c.dropout, deterministic=True)(x_BLF), "mask": x["mask"]}


class Pool(nn.Module):
    """The last normalisation, and from tokens to features."""

    config: Config

    @nn.compact
    def __call__(self, x: dict[str, Array]) -> Array:
        c = self.config
        y_BF = pooled(_norm(c, "norm")(x["x"]), x["mask"], c.pooling)
        if c.dense:
            y_BF = nn.Dense(c.width, use_bias=c.dense_bias, name="dense")(y_BF)
            y_BF = _norm(c, "dense_norm")(ACTIVATIONS[c.dense_activation](y_BF))
        return unit(y_BF) if c.normalise else y_BF


class ModernBert(nn.Module):
    """The backbone: {"ids", "mask"} → [batch, width]."""

    config: Config

    def setup(self) -> None:
        self.stem = Stem(self.config)
        self.blocks = [Block(self.config, local, not i) for i, local in enumerate(self.config.local)]
        self.pool = Pool(self.config)

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the parts in order."""
        return ("stem", *(f"blocks_{i}" for i in range(len(self.config.local))), "pool")

    @property
    def equal_segments(self) -> tuple[tuple[str, ...], ...]:
        """Blocks in a row that attend alike; the first has no normalisation before its attention."""
        groups: list[list[str]] = []
        for i, local in enumerate(self.config.local[1:], 1):
            if groups and local == self.config.local[i - 1] and i > 1:
                groups[-1].append(f"blocks_{i}")
            else:
                groups.append([f"blocks_{i}"])
        return tuple(tuple(g) for g in groups if len(g) > 1)

    def run(self, segment: str, x: Any) -> Any:
        """Applies one segment."""
        if segment in ("stem", "pool"):
            return getattr(self, segment)(x)
        return self.blocks[int(segment.removeprefix("blocks_"))](x)


VARIANTS = {
    "ModernBERT-base": Config(),
    "ModernBERT-large": Config(width=1024, heads=16, hidden=2624, local=tuple(bool(i % 3) for i in range(28))),
}


def variant(name: str) -> Config:
    """Returns the configuration of a named network.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('ModernBERT-large').width
        1024
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no ModernBERT called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def backbone(config: Config) -> ModernBert:
    """Returns the backbone of a configuration."""
    return ModernBert(config)
