"""ConvNeXt, versions 1 and 2.

Liu et al., "A ConvNet for the 2020s", CVPR 2022 (figure 4); Woo et al., "ConvNeXt V2", CVPR 2023 (section 3.2, global
response normalisation).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.layers import Conv
from flaxtl.nets.transformer import ACTIVATIONS

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one ConvNeXt differ from another.

    Attributes:
        depths: blocks per stage.
        widths: channels per stage.
        kernel: height and width of the depthwise convolutions.
        patch: pixels that the stem makes one of.
        overlap: channels between the two 3×3 convolutions of an overlapping stem; 0 for one that cuts patches.
        expansion: how many times wider a block is inside.
        layer_scale: whether a block's result is scaled channel by channel (version 1).
        response_norm: whether there is global response normalisation (version 2).
        norm_first: whether the last normalisation is before pooling instead of after it.
        activation: inside the blocks.
        epsilon: of the normalisations.
        last_epsilon: of the last one.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    kernel: int = 7
    patch: int = 4
    overlap: int = 0
    expansion: float = 4.0
    layer_scale: bool = True
    response_norm: bool = False
    norm_first: bool = False
    activation: str = "gelu"
    epsilon: float = 1e-6
    last_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.widths):
            raise ConfigError(f"A ConvNeXt needs as many depths as widths; found {self.depths} and {self.widths}.")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"There is no activation {self.activation!r}.{did_you_mean(self.activation, ACTIVATIONS)}"
            )


# name: depth of the third stage (of the second and last), width of the first; V2 has huge where V1 has xlarge.
_SIZES = {
    "atto": ((2, 2, 6, 2), 40),
    "femto": ((2, 2, 6, 2), 48),
    "pico": ((2, 2, 6, 2), 64),
    "nano": ((2, 2, 8, 2), 80),
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
    "xlarge": ((3, 3, 27, 3), 256),
    "huge": ((3, 3, 27, 3), 352),
}


def _variants() -> dict[str, Config]:
    found = {}
    for name, (depths, width) in _SIZES.items():
        config = Config(depths, (width, 2 * width, 4 * width, 8 * width))
        if name != "huge":
            found[f"convnext_{name}"] = config
        if name != "xlarge":
            found[f"convnextv2_{name}"] = dataclasses.replace(config, layer_scale=False, response_norm=True)
    return found


VARIANTS = _variants()


def variant(name: str) -> Config:
    """Returns the configuration of a named network, by timm's names.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('convnextv2_atto').widths
        (40, 80, 160, 320)
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no ConvNeXt called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


class ResponseNorm(nn.Module):
    """Global response normalisation: each channel against the mean of all, by its size over the picture.

    Woo et al., CVPR 2023, equations 1 to 3, with the affine part and the sum of their algorithm 1.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        shape = (x_BHWC.shape[-1],)
        scale = self.param("scale", nn.initializers.zeros_init(), shape, jnp.float32).astype(x_BHWC.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32).astype(x_BHWC.dtype)
        square = jnp.square(x_BHWC.astype(jnp.float32)).sum(axis=(1, 2), keepdims=True)
        size = jnp.sqrt(jnp.maximum(square, 1e-24))  # a channel of zeros has a derivative too
        relative = size / (size.mean(axis=-1, keepdims=True) + self.epsilon)
        return x_BHWC + (scale * (x_BHWC * relative.astype(x_BHWC.dtype)) + bias)


class LayerScale(nn.Module):
    """Multiplies each channel by a learnt number (Touvron et al., ICCV 2021, equation 2)."""

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones_init(), (x_BHWC.shape[-1],), jnp.float32)
        return x_BHWC * scale.astype(x_BHWC.dtype)


class Mlp(nn.Module):
    """Two dense layers at every pixel, with the activation and, in version 2, the normalisation between them."""

    config: Config

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        width = x_BHWC.shape[-1]
        y = nn.Dense(int(self.config.expansion * width), name="fc1")(x_BHWC)
        y = ACTIVATIONS[self.config.activation](y)
        if self.config.response_norm:
            y = ResponseNorm(name="response_norm")(y)
        return nn.Dense(width, name="fc2")(y)


class Downsample(nn.Module):
    """Between two stages: normalise, then make one pixel of each two by two."""

    width: int
    epsilon: float

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        x_BHWC = nn.LayerNorm(self.epsilon, name="norm")(x_BHWC)
        return Conv(self.width, (2, 2), (2, 2), 0, use_bias=True, name="conv")(x_BHWC)


class Block(nn.Module):
    """One block: depthwise convolution, normalisation, the two dense layers, the sum; a later stage's first halves."""

    config: Config
    width: int
    downsample: bool

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        c, size = self.config, (self.config.kernel, self.config.kernel)
        if self.downsample:
            x_BHWC = Downsample(self.width, c.epsilon, name="downsample")(x_BHWC)
        y = Conv(self.width, size, groups=self.width, use_bias=True, name="depthwise")(x_BHWC)
        y = nn.LayerNorm(c.epsilon, name="norm")(y)
        y = Mlp(c, name="mlp")(y)
        return x_BHWC + (LayerScale(name="layer_scale")(y) if c.layer_scale else y)


class Stem(nn.Module):
    """Cuts the picture into patches, or halves it twice with overlap, and normalises."""

    config: Config

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        c, width = self.config, self.config.widths[0]
        if c.overlap:
            x_BHWC = Conv(c.overlap, (3, 3), (2, 2), use_bias=True, name="conv1")(x_BHWC)
            x_BHWC = Conv(width, (3, 3), (2, 2), use_bias=True, name="conv2")(x_BHWC)
        else:
            x_BHWC = Conv(width, (c.patch, c.patch), (c.patch, c.patch), 0, use_bias=True, name="conv")(x_BHWC)
        return nn.LayerNorm(c.epsilon, name="norm")(x_BHWC)


class Pool(nn.Module):
    """The mean over the picture and the last normalisation, in either order."""

    config: Config

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        norm = nn.LayerNorm(self.config.last_epsilon, name="norm")
        if self.config.norm_first:
            return norm(x_BHWC).mean(axis=(1, 2))
        return norm(x_BHWC.mean(axis=(1, 2)))


class ConvNeXt(nn.Module):
    """The backbone: stem, blocks, pooling. Features are [batch, channels]."""

    config: Config

    def setup(self) -> None:
        c = self.config
        self.stem = Stem(c)
        self.blocks = [
            Block(c, width, stage > 0 and number == 0)
            for stage, (depth, width) in enumerate(zip(c.depths, c.widths, strict=True))
            for number in range(depth)
        ]
        self.pool = Pool(c)

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the parts in order."""
        return ("stem", *(f"blocks_{i}" for i in range(sum(self.config.depths))), "pool")

    @property
    def equal_segments(self) -> tuple[tuple[str, ...], ...]:
        """The blocks of each stage, but for those that halve the picture."""
        groups, first = [], 0
        for stage, depth in enumerate(self.config.depths):
            groups.append(tuple(f"blocks_{i}" for i in range(first + (stage > 0), first + depth)))
            first += depth
        return tuple(g for g in groups if len(g) > 1)

    def run(self, segment: str, x: Array) -> Array:
        """Applies one segment."""
        if segment.startswith("blocks_"):
            return self.blocks[int(segment.removeprefix("blocks_"))](x)
        return self.stem(x) if segment == "stem" else self.pool(x)


def backbone(config: Config) -> ConvNeXt:
    """Returns the backbone of a configuration."""
    return ConvNeXt(config)
