"""MobileNetV2, MobileNetV3 and EfficientNet of timm and of torchvision."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from flaxtl.card import Image, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.timm_config import (
    AVERAGE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SHAPES,
    TRAINING,
    Timm,
    architecture,
    assumed,
    is_timms,
    read_timm,
    timm_image,
)
from flaxtl.convert.families.timm_names import MOBILENET, require_listed
from flaxtl.convert.mapping import LINEAR, Rule, batch_norm, conv, linear, reshape
from flaxtl.convert.settings import READ, irrelevant, only
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.errors import CheckpointError
from flaxtl.nets.mobilenet import KINDS, Config

_NAME = re.compile(r"(tf_)?(mobilenetv2|mobilenetv3_large|mobilenetv3_small|efficientnet_b|efficientnet_lite)_?\d+d?")
_ARGUMENTS = {
    "pad_type": only("", "same", "symmetric"),
    "bn_eps": READ,
    "bn_tf": READ,
    "act_layer": READ,
    "global_pool": AVERAGE,
    "output_stride": only(32),
    "stem_kernel_size": only(3),
    **dict.fromkeys(("norm_layer", "aa_layer", "se_layer", "round_chs_fn", "layer_scale_init_value"), only()),
    **irrelevant(SHAPES, "num_features", "stem_size", "fix_stem", "head_bias", "head_norm"),
    **irrelevant(TRAINING, "bn_momentum"),
}
_ACTIVATIONS = {"swish": "silu", "hardswish": "hard_swish"}  # timm's other words for ours
_DIFFERS = (
    (r"minimal", "no squeeze-and-excitation and ReLU"),
    (r"_gn|_evos|_ln", "another normalisation than BatchNorm"),
    (r"blur", "pooling that blurs"),
    (r"pruned|_cc_|_rw|_e[slm]", "blocks of another kind"),
)
# torchvision's pictures (its weights' documentation): (blocks, top) → pixels, and the short side they are cropped from.
_TORCHVISION_EFFICIENT = {
    (16, 1280): (224, 256),
    (23, 1280): (240, 256),
    (23, 1408): (288, 288),
    (26, 1536): (300, 320),
    (32, 1792): (380, 384),
}


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a source keeps a block: each part's convolution and BatchNorm, or the two layers of the squeeze."""

    stage: int
    first: bool
    depthwise: tuple[str, str]
    project: tuple[str, str]
    expand: tuple[str, str] | None = None
    squeeze: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a source keeps a whole network: its convolutions with their BatchNorm, its dense layers."""

    stem: tuple[str, str]
    blocks: tuple[Places, ...]
    top: tuple[str, str]
    dense: str | None
    head: str


def recognise(weights: Weights) -> Recognised | None:
    """Says which of these networks weights are: the shapes of their tensors say the blocks, the kind the rest."""
    if not is_timms(weights):
        return None
    kind = _kind(weights, architecture(weights))
    if kind is None:
        return None
    timm = read_timm(weights, _ARGUMENTS)
    layout = _layout(weights)
    config = _with_arguments(_config(weights, layout, kind), timm, kind)
    if kind.startswith("mobilenetv3") and _torchvision(weights):
        config = dataclasses.replace(config, epsilon=1e-3)
    outputs = (weights.shape(f"{layout.head}.weight") or (0,))[0]
    spec = NetworkSpec("mobilenet", dataclasses.asdict(config))
    image = _image(weights, config, kind, timm, weights[f"{layout.stem[0]}.weight"].shape[1])
    notes = assumed(timm, image, f"{kind} of {len(config.widths)} blocks")
    return Recognised(spec, image, outputs, labels_of(weights, outputs), timm.task, notes=notes)


def _with_arguments(config: Config, timm: Timm, kind: str) -> Config:
    """Returns the network with what its name and arguments say of padding, epsilon and activation.

    Raises:
        CheckpointError: another activation than the kind's, since some blocks keep their own.
    """
    given, tf = timm.arguments, timm.name.startswith("tf_")
    wanted = given.get("act_layer")
    if wanted and _ACTIVATIONS.get(wanted, wanted) != config.activation:
        raise CheckpointError(
            f"config.json, model_args says act_layer={wanted!r}, where flaxtl computes {config.activation!r} in "
            f"{timm.name or kind}. Take weights that were trained with it."
        )
    same: Any = "same" if (given.get("pad_type") or ("same" if tf else "")) == "same" else "symmetric"
    epsilon = given.get("bn_eps") or (1e-3 if tf or given.get("bn_tf") else config.epsilon)
    return dataclasses.replace(config, padding=same, epsilon=float(epsilon))


def _torchvision(weights: Weights) -> bool:
    return "features.0.0.weight" in weights


def _kind(weights: Weights, name: str) -> str | None:
    """Returns the key of `KINDS`, or None for another family."""
    if _torchvision(weights):
        if "features.1.conv.0.0.weight" in weights:
            return "mobilenetv2"
        if "features.1.0.block.0.0.weight" in weights:
            return "efficientnet_b" if "features.1.0.block.1.fc1.weight" in weights else None  # V2 has fused blocks
        if "features.1.block.0.0.weight" in weights:
            return "mobilenetv3_small" if "features.1.block.1.fc1.weight" in weights else "mobilenetv3_large"
        return None
    if "conv_stem.weight" not in weights or "blocks.0.0.conv_dw.weight" not in weights:
        return None
    if name:
        require_listed(name, MOBILENET, _DIFFERS)
        match = _NAME.fullmatch(name)
        assert match is not None
        return match.group(2)
    if "blocks.0.0.se.conv_reduce.weight" not in weights and not any(".se." in n for n in weights):
        kernels = {weights[n].shape[-1] for n in weights if n.endswith("conv_dw.weight")}
        if kernels == {3} and count_numbered(weights, "blocks.") == 7:
            return "mobilenetv2"
    raise CheckpointError(
        "These tensors are named like timm's MobileNetV3 or EfficientNet, which were trained with two kinds of padding "
        "that the tensors do not tell apart. Put timm's config.json, which names the architecture, beside them."
    )


def _config(weights: Weights, layout: Layout, kind: str) -> Config:
    table = KINDS[kind]
    stages = [table.stages[min(p.stage, len(table.stages) - 1)] for p in layout.blocks]
    shape = lambda place: weights[f"{place}.weight"].shape  # noqa: E731
    return Config(
        stem=shape(layout.stem[0])[0],
        widths=tuple(shape(p.project[0])[0] for p in layout.blocks),
        hidden=tuple(shape(p.depthwise[0])[0] for p in layout.blocks),
        kernels=tuple(shape(p.depthwise[0])[-1] for p in layout.blocks),
        strides=tuple(s.stride if p.first else 1 for p, s in zip(layout.blocks, stages, strict=True)),
        squeeze=tuple(shape(p.squeeze[0])[0] if p.squeeze else 0 for p in layout.blocks),
        activations=tuple(s.activation for s in stages),
        activation=table.activation,
        squeeze_activation="relu" if table.hard else table.activation,
        gate="hard_sigmoid" if table.hard else "sigmoid",
        top=shape(layout.top[0])[0],
        pooled=shape(layout.dense)[0] if layout.dense else 0,
    )


def _image(weights: Weights, config: Config, kind: str, timm: Timm, channels: int) -> Image:
    if timm.said or kind != "efficientnet_b" or not _torchvision(weights):
        return timm_image(timm, channels)
    size, short = _TORCHVISION_EFFICIENT.get((len(config.widths), config.top), (224, 256))
    default = Image((size, size), 3, IMAGENET_MEAN, IMAGENET_STD, "bicubic", size / short)
    return timm_image(timm, channels, default)


def _layout(weights: Weights) -> Layout:
    if not _torchvision(weights):
        return _timm_layout(weights)
    top = count_numbered(weights, "features.") - 1
    dense = "classifier.0" if "classifier.0.weight" in weights else None
    return Layout(
        ("features.0.0", "features.0.1"),
        tuple(_torchvision_blocks(weights, top)),
        (f"features.{top}.0", f"features.{top}.1"),
        dense,
        "classifier.3" if dense else "classifier.1",
    )


def _timm_layout(weights: Weights) -> Layout:
    stages = count_numbered(weights, "blocks.")
    with_dense = f"blocks.{stages - 1}.0.conv.weight" in weights  # V3 keeps its last convolution among the blocks
    blocks = []
    for stage in range(stages - with_dense):
        for number in range(count_numbered(weights, f"blocks.{stage}.")):
            block = f"blocks.{stage}.{number}"
            parts = [("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")]
            if f"{block}.conv_pwl.weight" not in weights:
                parts = [("", ""), ("conv_dw", "bn1"), ("conv_pw", "bn2")]
            expand, depthwise, project = ((f"{block}.{c}", f"{block}.{n}") for c, n in parts)
            squeeze = (f"{block}.se.conv_reduce", f"{block}.se.conv_expand")
            blocks.append(
                Places(
                    stage,
                    number == 0,
                    depthwise,
                    project,
                    expand if parts[0][0] else None,
                    squeeze if f"{squeeze[0]}.weight" in weights else None,
                )
            )
    top = ("conv_head", "bn2")
    if with_dense:
        top = (f"blocks.{stages - 1}.0.conv", f"blocks.{stages - 1}.0.bn1")
    return Layout(("conv_stem", "bn1"), tuple(blocks), top, "conv_head" if with_dense else None, "classifier")


def _torchvision_blocks(weights: Weights, top: int) -> Iterator[Places]:
    """Yields torchvision's blocks, each a sequence of which what is not needed is left out."""
    inner = "conv" if "features.1.conv.0.0.weight" in weights else "block"
    nested = "features.1.0.block.0.0.weight" in weights  # EfficientNet: a sequence a stage
    stages = _stage_numbers(weights, top)
    for number in range(1, top):
        for inside in range(count_numbered(weights, f"features.{number}.")) if nested else (0,):
            block = f"features.{number}.{inside}" if nested else f"features.{number}"
            stage = number - 1 if nested else stages[number - 1]
            first = inside == 0 if nested else number == 1 or stages[number - 2] != stage
            yield _torchvision_block(weights, f"{block}.{inner}", stage, first)


def _torchvision_block(weights: Weights, block: str, stage: int, first: bool) -> Places:
    squeeze, layers = None, []
    for i in range(count_numbered(weights, f"{block}.")):
        if f"{block}.{i}.fc1.weight" in weights:
            squeeze = (f"{block}.{i}.fc1", f"{block}.{i}.fc2")
        elif f"{block}.{i}.0.weight" in weights:
            layers.append((f"{block}.{i}.0", f"{block}.{i}.1"))
        elif len(weights.shape(f"{block}.{i}.weight") or ()) == 4:  # V2's projection is not in a sequence of its own
            layers.append((f"{block}.{i}", f"{block}.{i + 1}"))
    expand = layers[0] if len(layers) == 3 else None
    return Places(stage, first, layers[-2], layers[-1], expand, squeeze)


def _stage_numbers(weights: Weights, top: int) -> Sequence[int]:
    """Returns the stage of each of torchvision's blocks: these follow one another as in the tables, at depth 1."""
    kind = _kind(weights, "")
    depths = [len(s.expansions) for s in KINDS[kind].stages] if kind else []
    return [stage for stage, depth in enumerate(depths) for _ in range(depth)][: top - 1]


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of one of these networks."""
    layout = _layout(weights)
    table = [*_layer(layout.stem, "backbone/stem"), *_layer(layout.top, "backbone/top")]
    for i, places in enumerate(layout.blocks):
        block = f"backbone/blocks_{i}"
        table += _layer(places.depthwise, f"{block}/depthwise") + _layer(places.project, f"{block}/project")
        if places.expand:
            table += _layer(places.expand, f"{block}/expand")
        if places.squeeze:
            table += conv(places.squeeze[0], f"{block}/squeeze/reduce", bias=True)
            table += conv(places.squeeze[1], f"{block}/squeeze/expand", bias=True)
    if layout.dense:
        outer = weights[f"{layout.dense}.weight"].shape
        operation = LINEAR if len(outer) == 2 else reshape(outer[:2], outer, LINEAR)
        table += conv(layout.dense, "backbone/pool/dense", bias=True, operation=operation)
    return table + (linear(layout.head, "head") if f"{layout.head}.weight" in weights else [])


def _layer(places: tuple[str, str], target: str) -> list[Rule]:
    return [*conv(places[0], f"{target}/conv"), *batch_norm(places[1], f"{target}/bn")]


FAMILY = Family("mobilenet", MOBILENET, recognise, rules)
