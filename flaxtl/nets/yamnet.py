"""YAMNet: MobileNet-v1 on patches of a log-mel spectrogram, pretrained on AudioSet.

Howard et al., "MobileNets", 2017 (table 1); the sound network is that of tensorflow/models, research/audioset/yamnet.
Its published quantised form has the BatchNorm folded into biases, so there are no statistics here.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
from flax import linen as nn

from flaxtl.errors import ConfigError
from flaxtl.nets.layers import Conv

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one such network differ from another.

    Attributes:
        stem_width: channels after the first convolution, which halves both axes.
        widths: channels after each depthwise-separable block.
        strides: of each block's depthwise convolution.
        activation: "relu", or "relu6" as in the quantised form.
    """

    stem_width: int = 32
    widths: tuple[int, ...] = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    strides: tuple[int, ...] = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    activation: Literal["relu", "relu6"] = "relu6"

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.strides):
            raise ConfigError(
                f"A YAMNet needs as many widths as strides; found {len(self.widths)} and {len(self.strides)}."
            )


class Block(nn.Module):
    """A depthwise 3×3 convolution and a pointwise one, each with bias and activation."""

    width: int
    stride: int
    activation: str

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        channels, steps = x_BHWC.shape[-1], (self.stride, self.stride)
        activate = getattr(nn, self.activation)
        x_BHWC = Conv(channels, (3, 3), steps, "SAME", groups=channels, use_bias=True, name="depthwise")(x_BHWC)
        return activate(Conv(self.width, (1, 1), use_bias=True, name="pointwise")(activate(x_BHWC)))


class Stem(nn.Module):
    """The first convolution, 3×3 with stride 2."""

    width: int
    activation: str

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        y = Conv(self.width, (3, 3), (2, 2), "SAME", use_bias=True, name="conv")(x_BHWC)
        return getattr(nn, self.activation)(y)


class YamNet(nn.Module):
    """The backbone: log-mel patches [batch, frames, bands, 1] → [batch, channels]."""

    config: Config

    def setup(self) -> None:
        c = self.config
        self.stem = Stem(c.stem_width, c.activation)
        self.blocks = [Block(width, stride, c.activation) for width, stride in zip(c.widths, c.strides, strict=True)]

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the parts in order."""
        return ("stem", *(f"blocks_{i}" for i in range(len(self.config.widths))), "pool")

    @property
    def equal_segments(self) -> tuple[tuple[str, ...], ...]:
        """Runs of blocks that keep size and width, whose parameters have the same shapes."""
        c = self.config
        groups: list[tuple[str, ...]] = []
        before = (c.stem_width, *c.widths)
        for i, width in enumerate(c.widths):
            same = c.strides[i] == 1 and before[i] == width
            if same and i and groups and groups[-1][-1] == f"blocks_{i - 1}":
                groups[-1] = (*groups[-1], f"blocks_{i}")
            elif same:
                groups.append((f"blocks_{i}",))
        return tuple(g for g in groups if len(g) > 1)

    def run(self, segment: str, x: Array) -> Array:
        """Applies one segment."""
        if segment == "stem":
            return self.stem(x)
        if segment == "pool":
            return x.mean(axis=(1, 2))
        return self.blocks[int(segment.removeprefix("blocks_"))](x)


VARIANTS = {"yamnet": Config()}


def variant(name: str) -> Config:
    """Returns the configuration of a named network.

    Raises:
        ConfigError: the name is unknown.

    Example:
        >>> len(variant('yamnet').widths)
        13
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no YAMNet called {name!r}; the one there is is called 'yamnet'.")
    return VARIANTS[name]


def backbone(config: Config) -> YamNet:
    """Returns the backbone of a configuration."""
    return YamNet(config)
