"""Residual networks with BatchNorm: the ImageNet stems 18…200, their C, D, S and T variants, and the CIFAR form.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (section 3.3 the ImageNet form, 4.2 the
CIFAR form with option A shortcuts); He et al., "Bag of Tricks", CVPR 2019, figure 2 for the C and D variants; Zhang,
"Making Convolutional Networks Shift-Invariant Again", ICML 2019, for what is put in place of strides.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.layers import ACTIVATIONS, Conv, average_pool, batch_norm, blur_pool, grid_mean, max_pool

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one residual network differ from another.

    Attributes:
        block: "basic" (two 3×3) or "bottleneck" (1×1, 3×3, 1×1 with four times the width at its end).
        depths: blocks per stage.
        widths: channels per stage, before the bottleneck's expansion.
        stem: "imagenet" (7×7 stride 2, max-pool), "deep" (three 3×3, as in D), or "cifar" (one 3×3).
        stem_width: channels after the stem; None means the first stage's width.
        stem_first: channels after the first layer of a deep stem; None means half of those after the stem.
        shortcut: where the shape changes: "conv" (1×1), "average" (2×2 mean, then 1×1: D), or "pad"
            (subsample and pad channels with zeros: CIFAR option A).
        downsample: how the picture is halved in the stem and inside blocks: by "stride", by "average" (2×2 means after
            a step of 1), or by "blur" (a binomial filter after a step of 1).
        activation: everywhere.
        pool: the features are the means over a grid of so many parts a side; 1 is the usual mean over the whole
            picture, 2 keeps above, below, left and right apart (four times the features).
    """

    block: Literal["basic", "bottleneck"] = "basic"
    depths: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: Literal["imagenet", "deep", "cifar"] = "imagenet"
    stem_width: int | None = None
    stem_first: int | None = None
    shortcut: Literal["conv", "average", "pad"] = "conv"
    downsample: Literal["stride", "average", "blur"] = "stride"
    activation: str = "relu"
    pool: int = 1

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.widths):
            raise ConfigError(f"A ResNet needs as many depths as widths; found {self.depths} and {self.widths}.")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"There is no activation {self.activation!r}.{did_you_mean(self.activation, ACTIVATIONS)}"
            )


_DEPTHS = {
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


def _variants() -> dict[str, Config]:
    found = {}
    for number, depths in _DEPTHS.items():
        block: Literal["basic", "bottleneck"] = "basic" if number in (18, 34) else "bottleneck"
        found[f"resnet{number}"] = Config(block, depths)
        found[f"resnet{number}d"] = Config(block, depths, stem="deep", shortcut="average")
    for number in (20, 32, 44, 56, 110):
        depth = (number - 2) // 6
        found[f"resnet{number}_cifar"] = Config("basic", (depth,) * 3, (16, 32, 64), stem="cifar", shortcut="pad")
    return found


VARIANTS = _variants()


def variant(name: str) -> Config:
    """Returns the configuration of a named network.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('resnet20_cifar').depths
        (3, 3, 3)
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no ResNet called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


class Shortcut(nn.Module):
    """The identity, or what stands for it where a block changes resolution or width."""

    kind: str
    features: int
    stride: int

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        channels = x_BHWC.shape[-1]
        if self.stride == 1 and channels == self.features:
            return x_BHWC
        if self.kind == "pad":
            x_BHWC = x_BHWC[:, :: self.stride, :: self.stride]
            extra = self.features - channels
            return jnp.pad(x_BHWC, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))
        stride = self.stride
        if self.kind == "average" and stride > 1:
            x_BHWC = _average_pool_ceil(x_BHWC, stride)
            stride = 1
        x_BHWC = Conv(self.features, (1, 1), (stride, stride), name="conv")(x_BHWC)
        return batch_norm("bn")(x_BHWC)


def _average_pool_ceil(x_BHWC: Array, window: int) -> Array:
    """Means of windows; a partial window at the far edge is averaged over what it covers."""
    pads = tuple((0, -size % window) for size in x_BHWC.shape[1:3])
    return nn.avg_pool(x_BHWC, (window, window), strides=(window, window), padding=pads, count_include_pad=False)


def _halved(x_BHWC: Array, how: str) -> Array:
    """Halves a picture by other means than a stride."""
    return average_pool(x_BHWC) if how == "average" else blur_pool(x_BHWC)


class Block(nn.Module):
    """One residual block: convolutions, the shortcut, their sum, the activation."""

    config: Config
    width: int
    stride: int

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        c, act = self.config, ACTIVATIONS[self.config.activation]
        by_stride = c.downsample == "stride"
        strides = (self.stride, self.stride) if by_stride else (1, 1)
        halved_after = 0 if by_stride or self.stride == 1 else 1 if c.block == "basic" else 2
        if c.block == "basic":
            plan = [(self.width, (3, 3), strides), (self.width, (3, 3), (1, 1))]
        else:
            plan = [
                (self.width, (1, 1), (1, 1)),
                (self.width, (3, 3), strides),
                (4 * self.width, (1, 1), (1, 1)),
            ]
        y = x_BHWC
        for number, (features, size, steps) in enumerate(plan, 1):
            y = Conv(features, size, steps, name=f"conv{number}")(y)
            y = batch_norm(f"bn{number}")(y)
            if number < len(plan):
                y = act(y)
            if number == halved_after:
                y = _halved(y, c.downsample)
        return act(y + Shortcut(c.shortcut, plan[-1][0], self.stride, name="shortcut")(x_BHWC))


class Stem(nn.Module):
    """The layers before the first block."""

    config: Config

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        c, width = self.config, self.config.stem_width or self.config.widths[0]
        if c.stem == "cifar":
            plan = [(width, (3, 3), (1, 1))]
        elif c.stem == "deep":
            plan = [
                (c.stem_first or width // 2, (3, 3), (2, 2)),
                (width // 2, (3, 3), (1, 1)),
                (width, (3, 3), (1, 1)),
            ]
        else:
            plan = [(width, (7, 7), (2, 2))]
        for number, (features, size, steps) in enumerate(plan, 1):
            x_BHWC = batch_norm(f"bn{number}")(Conv(features, size, steps, name=f"conv{number}")(x_BHWC))
            x_BHWC = ACTIVATIONS[c.activation](x_BHWC)
        if c.stem == "cifar":
            return x_BHWC
        if c.downsample == "stride":
            return max_pool(x_BHWC)
        return _halved(x_BHWC if c.downsample == "average" else max_pool(x_BHWC, stride=1), c.downsample)


class ResNet(nn.Module):
    """The backbone: stem, blocks, and the mean over the picture. Features are [batch, channels]."""

    config: Config

    def setup(self) -> None:
        c = self.config
        self.stem = Stem(c)
        self.blocks = [
            Block(c, width, 2 if stage and not number else 1)
            for stage, (depth, width) in enumerate(zip(c.depths, c.widths, strict=True))
            for number in range(depth)
        ]

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the parts in order."""
        return ("stem", *(f"blocks_{i}" for i in range(sum(self.config.depths))), "pool")

    @property
    def equal_segments(self) -> tuple[tuple[str, ...], ...]:
        """The blocks of each stage but the first, whose parameters have the same shapes."""
        groups, first = [], 0
        for depth in self.config.depths:
            groups.append(tuple(f"blocks_{i}" for i in range(first + 1, first + depth)))
            first += depth
        return tuple(g for g in groups if len(g) > 1)

    def run(self, segment: str, x: Array) -> Array:
        """Applies one segment."""
        if segment == "stem":
            return self.stem(x)
        if segment == "pool":
            return grid_mean(x, self.config.pool)
        return self.blocks[int(segment.removeprefix("blocks_"))](x)


def backbone(config: Config) -> ResNet:
    """Returns the backbone of a configuration."""
    return ResNet(config)
