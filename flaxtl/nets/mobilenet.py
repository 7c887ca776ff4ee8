"""Networks of inverted residual blocks: MobileNetV2, MobileNetV3 and EfficientNet.

Sandler et al., "MobileNetV2", CVPR 2018 (table 2); Howard et al., "Searching for MobileNetV3", ICCV 2019 (tables 1
and 2); Tan and Le, "EfficientNet", ICML 2019 (table 1, scaled as in section 3.3). One family, because one block with
four choices (expansion, kernel, squeeze-and-excitation, activation) makes all three.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
from flax import linen as nn

from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.nets.layers import ACTIVATIONS, Conv, SqueezeExcite, batch_norm

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes one such network differ from another; the tuples have one entry a block.

    Attributes:
        stem: channels after the first convolution, 3×3 with stride 2.
        widths: channels after each block.
        hidden: channels inside each block; equal to those that enter it, the block has no expanding convolution.
        kernels: height and width of each depthwise convolution.
        strides: its steps.
        squeeze: channels inside its squeeze-and-excitation; 0 for none.
        activations: inside each block.
        activation: of the layers before and after the blocks.
        squeeze_activation: inside every squeeze-and-excitation.
        gate: after it.
        top: channels after the last convolution, 1×1.
        pooled: units of the dense layer after pooling (V3); 0 for none.
        padding: "symmetric" as in PyTorch, or "same" as in TensorFlow, where many of these weights were trained.
        epsilon: of every BatchNorm.
    """

    stem: int = 32
    widths: tuple[int, ...] = (16,)
    hidden: tuple[int, ...] = (32,)
    kernels: tuple[int, ...] = (3,)
    strides: tuple[int, ...] = (1,)
    squeeze: tuple[int, ...] = (0,)
    activations: tuple[str, ...] = ("relu6",)
    activation: str = "relu6"
    squeeze_activation: str = "relu"
    gate: str = "sigmoid"
    top: int = 1280
    pooled: int = 0
    padding: Literal["symmetric", "same"] = "symmetric"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        lists = ("widths", "hidden", "kernels", "strides", "squeeze", "activations")
        lengths = {name: len(getattr(self, name)) for name in lists}
        if len(set(lengths.values())) > 1:
            raise ConfigError(f"A MobileNet's lists need one entry a block each; found {lengths}.")
        named = (*self.activations, self.activation, self.squeeze_activation, self.gate)
        for name in named:
            if name not in ACTIVATIONS:
                raise ConfigError(f"There is no activation {name!r}.{did_you_mean(name, ACTIVATIONS)}")


def rounded(channels: float, divisor: int = 8) -> int:
    """Returns channels rounded to a multiple of `divisor`, never more than a tenth down (Sandler et al., their code).

    Example:
        >>> rounded(24 * 0.75), rounded(16 * 0.35)
        (24, 8)
    """
    near = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * channels else near


@dataclasses.dataclass(frozen=True)
class Stage:
    """A line of the papers' tables: blocks of which only the first has the stride.

    Attributes:
        width: channels after it.
        expansions: how many times wider than its input each block is inside; 1 for no expansion.
        kernel: of the depthwise convolutions.
        stride: of the first block.
        squeeze: whether it has squeeze-and-excitation.
        activation: in its blocks.
    """

    width: int
    expansions: tuple[float, ...]
    kernel: int
    stride: int
    squeeze: bool
    activation: str


@dataclasses.dataclass(frozen=True)
class Kind:
    """A table of stages, and what all networks made from it share.

    Attributes:
        stages: at width and depth 1.
        stem: channels after the first convolution.
        top: channels after the last one.
        pooled: units of the dense layer after pooling.
        activation: before and after the blocks.
        hard: whether squeeze-and-excitation is V3's: a quarter of the channels inside, ReLU and hard sigmoid.
    """

    stages: tuple[Stage, ...]
    stem: int = 32
    top: int = 1280
    pooled: int = 0
    activation: str = "relu6"
    hard: bool = False


def _stages(*lines: tuple[int, Sequence[float], int, int, bool, str]) -> tuple[Stage, ...]:
    return tuple(Stage(width, tuple(expansions), *rest) for width, expansions, *rest in lines)  # type: ignore[arg-type]


def _uniform(squeeze: bool, activation: str, *lines: tuple[int, int, int, int, int]) -> tuple[Stage, ...]:
    """Stages of equal blocks, as tables of width, expansion, depth, kernel and stride."""
    return _stages(*((width, [e] * depth, k, s, squeeze, activation) for width, e, depth, k, s in lines))


_V2 = (
    (16, 1, 1, 3, 1),
    (24, 6, 2, 3, 2),
    (32, 6, 3, 3, 2),
    (64, 6, 4, 3, 2),
    (96, 6, 3, 3, 1),
    (160, 6, 3, 3, 2),
    (320, 6, 1, 3, 1),
)
_B0 = (
    (16, 1, 1, 3, 1),
    (24, 6, 2, 3, 2),
    (40, 6, 2, 5, 2),
    (80, 6, 3, 3, 2),
    (112, 6, 3, 5, 1),
    (192, 6, 4, 5, 2),
    (320, 6, 1, 3, 1),
)

KINDS = {
    "mobilenetv2": Kind(_uniform(False, "relu6", *_V2)),
    "mobilenetv3_large": Kind(
        _stages(
            (16, [1], 3, 1, False, "relu"),
            (24, [4, 3], 3, 2, False, "relu"),
            (40, [3, 3, 3], 5, 2, True, "relu"),
            (80, [6, 2.5, 2.3, 2.3], 3, 2, False, "hard_swish"),
            (112, [6, 6], 3, 1, True, "hard_swish"),
            (160, [6, 6, 6], 5, 2, True, "hard_swish"),
        ),
        stem=16,
        top=960,
        pooled=1280,
        activation="hard_swish",
        hard=True,
    ),
    "mobilenetv3_small": Kind(
        _stages(
            (16, [1], 3, 2, True, "relu"),
            (24, [4.5, 3.67], 3, 2, False, "relu"),
            (40, [4, 6, 6], 5, 2, True, "hard_swish"),
            (48, [3, 3], 5, 1, True, "hard_swish"),
            (96, [6, 6, 6], 5, 2, True, "hard_swish"),
        ),
        stem=16,
        top=576,
        pooled=1024,
        activation="hard_swish",
        hard=True,
    ),
    "efficientnet_b": Kind(_uniform(True, "silu", *_B0), activation="silu"),
    "efficientnet_lite": Kind(_uniform(False, "relu6", *_B0)),
}


def scaled(kind: Kind, width: float = 1.0, depth: float = 1.0, *, fixed_ends: bool = False) -> Config:
    """Returns a table's network at another width and depth (Tan and Le, section 3.3).

    Args:
        kind: from `KINDS`.
        width: factor of the channels.
        depth: factor of the blocks a stage.
        fixed_ends: leave the stem, the top, and the depth of the first and last stage as they are.

    Example:
        >>> scaled(KINDS['efficientnet_b'], 1.2, 1.4).widths[-1]
        384
    """
    stem = kind.stem if fixed_ends or (kind.hard and width < 0.75) else rounded(kind.stem * width)
    blocks: list[tuple[int, int, int, int, int, str]] = []
    entering = stem
    for number, stage in enumerate(kind.stages):
        ends = fixed_ends and number in (0, len(kind.stages) - 1)
        extra = math.ceil(len(stage.expansions) * (1.0 if ends else depth)) - len(stage.expansions)
        for i, expansion in enumerate(stage.expansions + stage.expansions[-1:] * extra):
            out, hidden = rounded(stage.width * width), rounded(entering * expansion)
            inner = rounded(hidden / 4) if kind.hard else round(entering / 4)
            squeeze = inner if stage.squeeze else 0
            blocks.append((out, hidden, stage.kernel, 1 if i else stage.stride, squeeze, stage.activation))
            entering = out
    widths, hiddens, kernels, strides, squeezes, activations = zip(*blocks, strict=True)
    gate = ("relu", "hard_sigmoid") if kind.hard else (kind.activation, "sigmoid")
    top = rounded(kind.top * width)
    if not kind.pooled:  # V2 keeps at least as many features as at width 1; EfficientNet scales them both ways
        top = kind.top if fixed_ends else max(kind.top, top)
    return Config(
        stem, widths, hiddens, kernels, strides, squeezes, activations, kind.activation, *gate, top, kind.pooled
    )


_EFFICIENT = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))  # B0…B4: width, depth


def _variants() -> dict[str, Config]:
    found = {}
    for percent in (35, 50, 75, 100, 140):
        found[f"mobilenetv2_{percent:03d}"] = scaled(KINDS["mobilenetv2"], percent / 100)
    found["mobilenetv2_110d"] = scaled(KINDS["mobilenetv2"], 1.1, 1.2, fixed_ends=True)
    found["mobilenetv2_120d"] = scaled(KINDS["mobilenetv2"], 1.2, 1.4, fixed_ends=True)
    for size, percents in (("large", (75, 100)), ("small", (50, 75, 100))):
        for percent in percents:
            found[f"mobilenetv3_{size}_{percent:03d}"] = scaled(KINDS[f"mobilenetv3_{size}"], percent / 100)
    for number, factors in enumerate(_EFFICIENT):
        found[f"efficientnet_b{number}"] = scaled(KINDS["efficientnet_b"], *factors)
        found[f"efficientnet_lite{number}"] = scaled(KINDS["efficientnet_lite"], *factors, fixed_ends=True)
    also = {n: c for n, c in found.items() if not n.startswith("mobilenetv2") and n != "mobilenetv3_small_050"}
    born_in_tensorflow = {
        f"tf_{name}": dataclasses.replace(config, padding="same", epsilon=1e-3) for name, config in also.items()
    }
    return found | born_in_tensorflow


VARIANTS = _variants()


def variant(name: str) -> Config:
    """Returns the configuration of a named network, by timm's names.

    Raises:
        ConfigError: the name is unknown; the message names the nearest.

    Example:
        >>> variant('mobilenetv3_small_100').hidden[:4]
        (16, 72, 88, 96)
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no MobileNet or EfficientNet called {name!r}.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


class Layer(nn.Module):
    """A convolution, its BatchNorm, and an activation."""

    features: int
    kernel: int
    stride: int
    activation: str | None
    padding: str
    epsilon: float
    depthwise: bool = False

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        groups = self.features if self.depthwise else 1
        padding = "SAME" if self.padding == "same" else None
        size, steps = (self.kernel, self.kernel), (self.stride, self.stride)
        x_BHWC = Conv(self.features, size, steps, padding, groups, name="conv")(x_BHWC)
        x_BHWC = batch_norm("bn", epsilon=self.epsilon)(x_BHWC)
        return ACTIVATIONS[self.activation](x_BHWC) if self.activation else x_BHWC


class Block(nn.Module):
    """An inverted residual: expand 1×1, depthwise, squeeze-and-excitation, project 1×1, and the sum if shapes allow."""

    config: Config
    number: int

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        c, i = self.config, self.number
        hidden, stride, activation, common = c.hidden[i], c.strides[i], c.activations[i], (c.padding, c.epsilon)
        y = x_BHWC
        if hidden != x_BHWC.shape[-1]:
            y = Layer(hidden, 1, 1, activation, *common, name="expand")(y)
        y = Layer(hidden, c.kernels[i], stride, activation, *common, depthwise=True, name="depthwise")(y)
        if c.squeeze[i]:
            y = SqueezeExcite(c.squeeze[i], c.squeeze_activation, c.gate, name="squeeze")(y)
        y = Layer(c.widths[i], 1, 1, None, *common, name="project")(y)
        return y + x_BHWC if stride == 1 and c.widths[i] == x_BHWC.shape[-1] else y


class Pool(nn.Module):
    """The mean over the picture, and V3's dense layer."""

    units: int
    activation: str

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        x_BC = x_BHWC.mean(axis=(1, 2))
        return ACTIVATIONS[self.activation](nn.Dense(self.units, name="dense")(x_BC)) if self.units else x_BC


class MobileNet(nn.Module):
    """The backbone: stem, blocks, top, pooling. Features are [batch, top or pooled]."""

    config: Config

    def setup(self) -> None:
        c = self.config
        self.stem = Layer(c.stem, 3, 2, c.activation, c.padding, c.epsilon)
        self.blocks = [Block(c, i) for i in range(len(c.widths))]
        self.top = Layer(c.top, 1, 1, c.activation, c.padding, c.epsilon)
        self.pool = Pool(c.pooled, c.activation)

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the parts in order."""
        return ("stem", *(f"blocks_{i}" for i in range(len(self.config.widths))), "top", "pool")

    @property
    def equal_segments(self) -> tuple[tuple[str, ...], ...]:
        """Runs of blocks whose parameters have the same shapes and that do the same."""
        c, groups = self.config, list[tuple[str, ...]]()
        entering = (c.stem, *c.widths[:-1])
        alike = list(zip(entering, c.widths, c.hidden, c.kernels, c.strides, c.squeeze, c.activations, strict=True))
        for i, what in enumerate(alike):
            if i and what == alike[i - 1]:
                groups[-1] += (f"blocks_{i}",)
            else:
                groups.append((f"blocks_{i}",))
        return tuple(g for g in groups if len(g) > 1)

    def run(self, segment: str, x: Array) -> Array:
        """Applies one segment."""
        if segment.startswith("blocks_"):
            return self.blocks[int(segment.removeprefix("blocks_"))](x)
        return {"stem": self.stem, "top": self.top, "pool": self.pool}[segment](x)


def backbone(config: Config) -> MobileNet:
    """Returns the backbone of a configuration."""
    return MobileNet(config)
