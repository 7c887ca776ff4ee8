"""wav2vec 2.0 and HuBERT: convolutions over the waveform, then a transformer over their frames.

Baevski et al., "wav2vec 2.0", NeurIPS 2020 (section 2); Hsu et al., "HuBERT", 2021. The large models normalise layers
where the base ones normalise groups (channels over time), and put the normalisation before each part of a block.

A clip that is filled up with zeros gives what it gives alone: given a mask, statistics, attention and mean are taken
over real frames only. Without a mask every sample is real.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.transformer import ACTIVATIONS, Mlp, SelfAttention, padding_bias

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one such network differ from another.

    Attributes:
        conv_widths: channels of the convolutions over the waveform.
        conv_sizes: their kernels.
        conv_strides: their steps.
        conv_bias: whether they have a bias.
        conv_norm: "group" normalises each channel of the first one over time, "layer" each frame of all of them.
        projection_norm: whether frames are normalised before they enter the transformer.
        width: features of a frame in the transformer.
        depth: blocks.
        heads: of attention.
        hidden: features between the two layers of the feed-forward part.
        position_size: kernel of the convolution that tells where a frame is.
        position_groups: its groups.
        pre_norm: whether blocks normalise before their parts ("stable layer norm") or after.
        projector: features of a dense layer before the mean over time, which classifiers have; 0 for none.
        weighted_sum: whether what is averaged is a learnt mixture of all blocks' outputs (SUPERB) or the last one's.
        activation: of the feed-forward parts.
        conv_activation: of the convolutions.
        epsilon: of the normalisation.
        dropout: after attention and feed-forward, in training.
    """

    conv_widths: tuple[int, ...] = (512,) * 7
    conv_sizes: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    conv_norm: Literal["group", "layer"] = "group"
    projection_norm: bool = True
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    position_size: int = 128
    position_groups: int = 16
    pre_norm: bool = False
    projector: int = 0
    weighted_sum: bool = False
    activation: str = "gelu"
    conv_activation: str = "gelu"
    epsilon: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.conv_widths) == len(self.conv_sizes) == len(self.conv_strides):
            raise ConfigError(
                "wav2vec 2.0 needs a width, a kernel size and a stride for each convolution; found "
                f"{len(self.conv_widths)}, {len(self.conv_sizes)} and {len(self.conv_strides)}."
            )


def frames_of(samples: Array, config: Config) -> Array:
    """Returns how many frames the convolutions make of so many samples, at least one.

    Example:
        >>> frames_of(jnp.array(16000), Config()).item()
        49
    """
    for size, stride in zip(config.conv_sizes, config.conv_strides, strict=True):
        samples = (samples - size) // stride + 1
    return jnp.maximum(samples, 1)


class TimeNorm(nn.Module):
    """Normalises each channel over the real frames of a clip (group norm with one channel a group)."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x_BLF: Array, count_B: Array) -> Array:
        features = x_BLF.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (features,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (features,), jnp.float32)
        real = (jnp.arange(x_BLF.shape[1]) < count_B[:, None])[..., None]
        count = count_B[:, None, None].astype(jnp.float32)
        x = x_BLF.astype(jnp.float32)
        mean = jnp.where(real, x, 0.0).sum(axis=1, keepdims=True) / count
        variance = jnp.where(real, jnp.square(x - mean), 0.0).sum(axis=1, keepdims=True) / count
        y = (x - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale.astype(jnp.float32)) + bias
        return y.astype(x_BLF.dtype)


class Stem(nn.Module):
    """The convolutions over the waveform, the projection of their frames, and where each frame is."""

    config: Config

    @nn.compact
    def __call__(self, x: Any) -> dict[str, Any]:
        c = self.config
        given = x if isinstance(x, dict) else {"x": x}
        waveform_BN, mask_BN = given["x"], given.get("mask")
        whole = jnp.full(waveform_BN.shape[0], waveform_BN.shape[1], jnp.int32)
        samples = whole if mask_BN is None else mask_BN.astype(jnp.int32).sum(axis=1)
        x_BLF = self._convolved(waveform_BN[..., None], samples)
        if c.projection_norm:
            x_BLF = nn.LayerNorm(epsilon=c.epsilon, name="norm")(x_BLF)
        x_BLF = nn.Dense(c.width, name="projection")(x_BLF)
        mask_BL = (jnp.arange(x_BLF.shape[1]) < frames_of(samples, c)[:, None]).astype(jnp.int32)
        x_BLF = x_BLF * mask_BL[..., None].astype(x_BLF.dtype)
        x_BLF = x_BLF + Position(c, name="position")(x_BLF)
        if not c.pre_norm:
            x_BLF = nn.LayerNorm(epsilon=c.epsilon, name="position_norm")(x_BLF)
        x_BLF = nn.Dropout(c.dropout, deterministic=True)(x_BLF)
        return {"x": x_BLF, "mask": mask_BL} | ({"layers": (x_BLF,)} if c.weighted_sum else {})

    def _convolved(self, x_BLF: Array, samples_B: Array) -> Array:
        c = self.config
        for i, (width, size, stride) in enumerate(zip(c.conv_widths, c.conv_sizes, c.conv_strides, strict=True)):
            x_BLF = nn.Conv(width, (size,), (stride,), "VALID", use_bias=c.conv_bias, name=f"conv{i}")(x_BLF)
            if c.conv_norm == "layer":
                x_BLF = nn.LayerNorm(epsilon=1e-5, name=f"norm{i}")(x_BLF)
            elif i == 0:
                count = jnp.clip((samples_B - size) // stride + 1, 1)
                x_BLF = TimeNorm(name="norm0")(x_BLF, count)
            x_BLF = ACTIVATIONS[c.conv_activation](x_BLF)
        return x_BLF


class Position(nn.Module):
    """A wide grouped convolution; its kernel is direction · magnitude, a magnitude for each tap.

    Salimans and Kingma, "Weight Normalization", 2016. The two are kept apart, as published: their product could not be
    taken apart again to the bit.
    """

    config: Config

    @nn.compact
    def __call__(self, x_BLF: Array) -> Array:
        c = self.config
        normal = nn.initializers.normal(0.02)
        direction = self.param("direction", normal, (c.position_size, c.width // c.position_groups, c.width))
        magnitude = self.param("magnitude", normal, (c.position_size, 1, 1)).astype(jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (c.width,))
        wide = direction.astype(jnp.float32)
        length = jnp.sqrt(jnp.square(wide).sum(axis=(1, 2), keepdims=True))
        half = c.position_size // 2
        y = jax.lax.conv_general_dilated(
            x_BLF,
            (wide * (magnitude / length)).astype(x_BLF.dtype),
            window_strides=(1,),
            padding=((half, half - (c.position_size % 2 == 0)),),
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=c.position_groups,
        )
        return ACTIVATIONS[c.conv_activation](y + bias.astype(y.dtype))


class Block(nn.Module):
    """One transformer block, normalised before or after its parts."""

    config: Config

    @nn.compact
    def __call__(self, x: dict[str, Any]) -> dict[str, Any]:
        c = self.config
        attention = SelfAttention(c.heads, dropout=c.dropout, name="attention")
        mlp = Mlp(c.hidden, c.activation, c.dropout, name="mlp")
        norm1, norm2 = (nn.LayerNorm(epsilon=c.epsilon, name=f"norm{i}") for i in (1, 2))
        x_BLF, bias = x["x"], padding_bias(x["mask"], x["x"].dtype)
        if c.pre_norm:
            x_BLF = x_BLF + attention(norm1(x_BLF), bias)
            x_BLF = x_BLF + mlp(norm2(x_BLF))
        else:
            x_BLF = norm1(x_BLF + attention(x_BLF, bias))
            x_BLF = norm2(x_BLF + mlp(x_BLF))
        return {**x, "x": x_BLF} | ({"layers": (*x["layers"], x_BLF)} if c.weighted_sum else {})


class Pool(nn.Module):
    """The last normalisation, the projector, and the mean over real frames."""

    config: Config

    @nn.compact
    def __call__(self, x: dict[str, Any]) -> Array:
        c = self.config
        x_BLF = x["x"]
        norm = nn.LayerNorm(epsilon=c.epsilon, name="norm") if c.pre_norm else (lambda y: y)
        if c.weighted_sum:
            mixture = self.param("mixture", nn.initializers.zeros_init(), (c.depth + 1,))
            layers = (*x["layers"][:-1], norm(x["layers"][-1]))
            x_BLF = sum(w * y for w, y in zip(jax.nn.softmax(mixture), layers, strict=True))
        else:
            x_BLF = norm(x_BLF)
        if c.projector:
            x_BLF = nn.Dense(c.projector, name="projector")(x_BLF)
        real = x["mask"][..., None].astype(x_BLF.dtype)
        return (x_BLF * real).sum(axis=1) / real.sum(axis=1)


class Wav2Vec2(nn.Module):
    """The backbone: a waveform [batch, samples], or {"x", "mask"} of it → [batch, features]."""

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
        """All blocks have the same shapes; where each block's output is kept, they cannot be one loop."""
        return () if self.config.weighted_sum else (self.segments[1:-1],)

    def run(self, segment: str, x: Any) -> Any:
        """Applies one segment."""
        if segment in ("stem", "pool"):
            return getattr(self, segment)(x)
        return self.blocks[int(segment.removeprefix("blocks_"))](x)


_LARGE = Config(conv_bias=True, conv_norm="layer", width=1024, depth=24, heads=16, hidden=4096, pre_norm=True)
VARIANTS = {
    "wav2vec2-base": Config(),
    "wav2vec2-large-lv60": _LARGE,
    "hubert-base-ls960": Config(),
    "hubert-large-ll60k": _LARGE,
    "hubert-xlarge-ll60k": dataclasses.replace(_LARGE, width=1280, depth=48, hidden=5120),
    "distilhubert": Config(depth=2, projection_norm=False),
}


def variant(name: str) -> Config:
    """Returns the configuration of a named network.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('hubert-large-ll60k').depth
        24
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no wav2vec 2.0 called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def backbone(config: Config) -> Wav2Vec2:
    """Returns the backbone of a configuration."""
    return Wav2Vec2(config)
