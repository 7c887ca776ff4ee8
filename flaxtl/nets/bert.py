"""BERT and its kin: RoBERTa, XLM-R, DistilBERT, MPNet, and the sentence encoders made of them (MiniLM, BGE, E5, GTE).

Devlin et al., "BERT", NAACL 2019; Liu et al., "RoBERTa", 2019 (positions counted over real tokens); Sanh et al.,
"DistilBERT", 2019; Song et al., "MPNet", NeurIPS 2020 (a bias by distance, buckets of Raffel et al., "T5", JMLR 2020);
Reimers and Gurevych, "Sentence-BERT", EMNLP 2019 (pooling).

The input is {"ids": int32 [batch, length], "mask": int32 [batch, length]}, and {"types": int32} where the network has
them; tokens whose mask is 0 change nothing. Between segments go {"x": float [batch, length, width], "mask"}.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.transformer import ACTIVATIONS, Mlp, SelfAttention, padding_bias

Array = jax.Array
Pooling = Literal["mean", "cls", "max", "pooler"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one such network differ from another.

    Attributes:
        vocabulary: rows of the token embeddings.
        positions: rows of the position embeddings.
        first_position: the row of the first token; RoBERTa and MPNet begin at 2, count real tokens only, and give
            padding the row before.
        types: rows of the token type embeddings (which sentence of a pair); 0 for none.
        buckets: of the attention bias by distance (MPNet); 0 for none.
        width: features of a token.
        depth: blocks.
        heads: of attention.
        hidden: features between the two layers of the feed-forward part.
        activation: of the feed-forward part.
        epsilon: of the normalisation.
        pooling: the features: the "mean" over real tokens, the first token ("cls"), the "max" over real tokens, or
            "pooler", a dense layer on the first token.
        pooler_activation: of that layer: tanh in BERT and RoBERTa, relu in DistilBERT.
        normalise: whether the features are divided by their length.
        dropout: after embedding, attention and feed-forward, in training.
    """

    vocabulary: int = 30522
    positions: int = 512
    first_position: int = 0
    types: int = 2
    buckets: int = 0
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    activation: str = "gelu"
    epsilon: float = 1e-12
    pooling: Pooling = "mean"
    pooler_activation: Literal["tanh", "relu"] = "tanh"
    normalise: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"BERT's width must be a multiple of its heads; found {self.width} and {self.heads}.")
        if self.activation not in ACTIVATIONS:
            near = did_you_mean(self.activation, ACTIVATIONS)
            raise ConfigError(f"There is no activation {self.activation!r} for BERT.{near}")

    @property
    def longest(self) -> int:
        """The most tokens that have a position."""
        return self.positions - self.first_position


def distance_buckets(length: int, buckets: int, farthest: int = 128) -> np.ndarray:
    """Returns the bucket of each distance key - query from 1 - length to length - 1 (Raffel et al. 2020).

    Half of the buckets are for keys behind the query; of each half, one half holds a distance each, the rest grow
    logarithmically up to `farthest`.

    Args:
        length: tokens.
        buckets: how many there are.
        farthest: from this distance on the last bucket serves.

    Returns:
        int32 [2 · length - 1].

    Example:
        >>> distance_buckets(3, 32).tolist()
        [2, 1, 0, 17, 18]
    """
    half = buckets // 2
    exact = half // 2
    distance = np.arange(1 - length, length)
    size = np.abs(distance)
    # In float32, as the source computes it: another rounding would move a distance to its neighbour.
    logarithm = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    far = exact + (logarithm / np.float32(math.log(farthest / exact)) * np.float32(half - exact)).astype(np.int64)
    bucket = np.where(size < exact, size, np.minimum(far, half - 1))
    return (bucket + half * (distance > 0)).astype(np.int32)


def bias_by_distance(values_DH: Array, length: int) -> Array:
    """Returns the attention bias [1, heads, queries, keys] from one value a distance.

    Args:
        values_DH: float [2 · length - 1, heads], from the key farthest before the query to the farthest behind it.
        length: tokens.

    Example:
        >>> bias_by_distance(jnp.arange(3.0)[:, None], 2)[0, 0].tolist()
        [[1.0, 2.0], [0.0, 1.0]]
    """
    place = np.arange(length)[None, :] - np.arange(length)[:, None] + length - 1
    return values_DH.T[:, place][None]


class Stem(nn.Module):
    """Embeddings of tokens, positions and types, summed and normalised; MPNet's bias by distance."""

    config: Config

    @nn.compact
    def __call__(self, x: dict[str, Array]) -> dict[str, Array]:
        c = self.config
        ids_BL, mask_BL = x["ids"], x["mask"]
        length = ids_BL.shape[1]
        if length > c.longest:
            raise ConfigError(f"A row has {length} tokens; this network has positions for {c.longest}.")
        x_BLF = nn.Embed(c.vocabulary, c.width, name="tokens")(ids_BL)
        if c.types:
            types_BL = x.get("types", jnp.zeros_like(ids_BL))
            x_BLF = x_BLF + nn.Embed(c.types, c.width, name="types")(types_BL)
        x_BLF = x_BLF + nn.Embed(c.positions, c.width, name="positions")(self._places(mask_BL))
        x_BLF = nn.LayerNorm(epsilon=c.epsilon, name="norm")(x_BLF)
        found = {"x": nn.Dropout(c.dropout, deterministic=True)(x_BLF), "mask": mask_BL}
        if c.buckets:
            values_DH = nn.Embed(c.buckets, c.heads, name="distances")(distance_buckets(length, c.buckets))
            # The same for every row; with a row's axis, so that what goes between segments can be cut row by row.
            found["distances"] = jnp.broadcast_to(values_DH, (ids_BL.shape[0], *values_DH.shape))
        return found

    def _places(self, mask_BL: Array) -> Array:
        first = self.config.first_position
        if not first:
            return jnp.arange(mask_BL.shape[1])
        real = (mask_BL > 0).astype(jnp.int32)
        return jnp.cumsum(real, axis=1) * real + (first - 1)


class Block(nn.Module):
    """One transformer block, normalised after attention and after the feed-forward part."""

    config: Config

    @nn.compact
    def __call__(self, x: dict[str, Array]) -> dict[str, Array]:
        c = self.config
        x_BLF = x["x"]
        bias = padding_bias(x["mask"], x_BLF.dtype)
        if c.buckets:
            bias = bias + bias_by_distance(x["distances"][0], x_BLF.shape[1])
        y = SelfAttention(c.heads, dropout=c.dropout, name="attention")(x_BLF, bias)
        x_BLF = nn.LayerNorm(epsilon=c.epsilon, name="norm1")(x_BLF + y)
        y = Mlp(c.hidden, c.activation, c.dropout, name="mlp")(x_BLF)
        return {**x, "x": nn.LayerNorm(epsilon=c.epsilon, name="norm2")(x_BLF + y)}


def pooled(x_BLF: Array, mask_BL: Array, how: Literal["mean", "cls", "max"]) -> Array:
    """Returns one vector a row: the mean or the maximum over real tokens, or the first token.

    Args:
        x_BLF: float [batch, length, features].
        mask_BL: int [batch, length], 0 for padding.
        how: "mean", "cls" or "max".

    Returns:
        float [batch, features]; a row without a real token gives zeros ("mean").

    Example:
        >>> pooled(jnp.array([[[2.0], [4.0], [9.0]]]), jnp.array([[1, 1, 0]]), 'mean').tolist()
        [[3.0]]
    """
    if how == "cls":
        return x_BLF[:, 0]
    real = mask_BL[..., None] > 0
    if how == "max":
        return jnp.where(real, x_BLF, jnp.finfo(x_BLF.dtype).min).max(axis=1)
    total = jnp.where(real, x_BLF, 0).sum(axis=1, dtype=jnp.float32)
    return (total / jnp.maximum(real.sum(axis=1), 1)).astype(x_BLF.dtype)


def unit(x_BF: Array) -> Array:
    """Divides each row by its length; a row of zeros stays."""
    square = jnp.square(x_BF.astype(jnp.float32)).sum(axis=-1, keepdims=True)
    return (x_BF * jax.lax.rsqrt(jnp.maximum(square, 1e-24))).astype(x_BF.dtype)


class Pool(nn.Module):
    """From tokens to features."""

    config: Config

    @nn.compact
    def __call__(self, x: dict[str, Array]) -> Array:
        c = self.config
        y_BF = pooled(x["x"], x["mask"], "cls" if c.pooling == "pooler" else c.pooling)
        if c.pooling == "pooler":
            activation = jnp.tanh if c.pooler_activation == "tanh" else jax.nn.relu
            y_BF = activation(nn.Dense(c.width, name="dense")(y_BF))
            y_BF = nn.Dropout(c.dropout, deterministic=True)(y_BF)
        return unit(y_BF) if c.normalise else y_BF


class Bert(nn.Module):
    """The backbone: {"ids", "mask"} and perhaps {"types"} → [batch, width]."""

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

    def run(self, segment: str, x: Any) -> Any:
        """Applies one segment."""
        if segment in ("stem", "pool"):
            return getattr(self, segment)(x)
        return self.blocks[int(segment.removeprefix("blocks_"))](x)


_ROBERTA = Config(50265, 514, 2, types=1, epsilon=1e-5)
_XLM_ROBERTA = dataclasses.replace(_ROBERTA, vocabulary=250002)
_LARGE: dict[str, Any] = {"width": 1024, "depth": 24, "heads": 16, "hidden": 4096}
VARIANTS = {
    "bert-base-uncased": Config(),
    "bert-base-cased": Config(28996),
    "bert-large-uncased": dataclasses.replace(Config(), **_LARGE),
    "roberta-base": _ROBERTA,
    "roberta-large": dataclasses.replace(_ROBERTA, **_LARGE),
    "xlm-roberta-base": _XLM_ROBERTA,
    "xlm-roberta-large": dataclasses.replace(_XLM_ROBERTA, **_LARGE),
    "distilbert-base-uncased": Config(types=0, depth=6),
    "mpnet-base": Config(30527, 514, 2, types=0, buckets=32, epsilon=1e-5),
    "all-MiniLM-L6-v2": Config(width=384, depth=6, hidden=1536, normalise=True),
    "bge-small-en-v1.5": Config(width=384, hidden=1536, pooling="cls", normalise=True),
}


def variant(name: str) -> Config:
    """Returns the configuration of a named network.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('roberta-base').longest
        512
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no BERT called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def backbone(config: Config) -> Bert:
    """Returns the backbone of a configuration."""
    return Bert(config)
