"""Residual networks of timm, torchvision and the CIFAR repository of Yerlan Idelbayev."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from flaxtl.card import Image, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.timm_config import (
    AVERAGE,
    SHAPES,
    TRAINING,
    Timm,
    assumed,
    is_timms,
    read_timm,
    timm_image,
)
from flaxtl.convert.families.timm_names import RESNET, require_listed
from flaxtl.convert.mapping import Rule, batch_norm, conv, linear
from flaxtl.convert.settings import irrelevant, only
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.nets.resnet import Config

# The statistics of CIFAR-10's training pictures that nearly every CIFAR network was trained with (ImageNet's, in
# Idelbayev's repository).
CIFAR = Image((32, 32), 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# timm's words for what stands in place of strides, and for activations → ours.
_DOWNSAMPLE = {"avg": "average", "avgpool": "average", "blur": "blur", "blurpool": "blur"}
_ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "silu": "silu", "swish": "silu", "gelu": "gelu"}
_ACTIVATIONS |= {"gelu_tanh": "gelu_tanh", "hard_swish": "hard_swish"}
_ARGUMENTS = {
    "act_layer": only(*_ACTIVATIONS),
    "aa_layer": only(*_DOWNSAMPLE),
    "global_pool": AVERAGE,
    "output_stride": only(32),
    "cardinality": only(1),
    "base_width": only(64),
    "replace_stem_pool": only(False),
    "block_reduce_first": only(1),
    "down_kernel_size": only(1),
    "norm_layer": only("batchnorm", "batchnorm2d"),
    "block_args": only({}),
    **irrelevant(SHAPES, "layers", "channels", "stem_width", "stem_type", "avg_down"),
    **irrelevant(TRAINING, "zero_init_last"),
}
_DIFFERS = (
    (r"gn$", "another normalisation than BatchNorm"),
    (r"^(se|eca|gc|sk|legacy_se)|^senet|rs\d|^res(nest|2net)", "attention over channels or split convolutions"),
    (r"resnext|^wide", "wider or grouped convolutions"),
)


def recognise(weights: Weights) -> Recognised | None:
    """Says which residual network weights are, by the shapes of their tensors and the name of the architecture.

    Raises:
        CheckpointError: config.json names a network, or settings, that flaxtl does not compute.
    """
    if "layer1.0.conv1.weight" not in weights or "layer1.0.conv2.weight" not in weights or not is_timms(weights):
        return None
    timm = read_timm(weights, _ARGUMENTS)
    require_listed(timm.name, RESNET, _DIFFERS)
    config = _config(weights, timm)
    stem = "conv1.0" if config.stem == "deep" else "conv1"
    image = timm_image(timm, weights[f"{stem}.weight"].shape[1], CIFAR if config.stem == "cifar" else None)
    head = weights.shape("linear.weight") or weights.shape("fc.weight")
    spec = NetworkSpec("resnet", dataclasses.asdict(config))
    outputs = head[0] if head else 0
    notes = assumed(timm, image, f"a ResNet of depths {config.depths} with strides and ReLU")
    return Recognised(spec, image, outputs, labels_of(weights, outputs), timm.task, notes=notes)


def _config(weights: Weights, timm: Timm) -> Config:
    depths = tuple(
        count_numbered(weights, f"layer{stage}.") for stage in (1, 2, 3, 4) if f"layer{stage}.0.conv1.weight" in weights
    )
    bottleneck = "layer1.0.conv3.weight" in weights
    widths = tuple(weights[f"layer{s + 1}.0.conv1.weight"].shape[0] for s in range(len(depths)))
    block: Literal["basic", "bottleneck"] = "bottleneck" if bottleneck else "basic"
    if len(depths) == 3:
        shortcut: Literal["conv", "average", "pad"] = "conv" if _has(weights, "layer2.0.shortcut.") else "pad"
        return Config(block, depths, widths, "cifar", shortcut=shortcut)
    deep = "conv1.0.weight" in weights
    first = weights["conv1.0.weight" if deep else "conv1.weight"].shape[0]
    last = weights["conv1.6.weight"].shape[0] if deep else first
    average = len(weights.shape("layer2.0.downsample.1.weight") or ()) == 4  # before it comes the mean, without weights
    config = Config(
        block,
        depths,
        widths,
        "deep" if deep else "imagenet",
        last,
        first if deep and 2 * first != last else None,
        "average" if average else "conv",
        activation=_ACTIVATIONS[timm.arguments.get("act_layer") or "relu"],
    )
    antialias = timm.arguments.get("aa_layer") or next((w for w in ("blur", "aa") if w in timm.name), None)
    how: Any = {**_DOWNSAMPLE, "aa": "average"}[antialias] if antialias else "stride"
    return dataclasses.replace(config, downsample=how)


def _has(weights: Weights, prefix: str) -> bool:
    return any(n.startswith(prefix) for n in weights)


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a residual network."""
    table = [*_stem(config)]
    number = 0
    for stage, depth in enumerate(config.depths, 1):
        for block in range(depth):
            table += _block(config, f"layer{stage}.{block}", f"backbone/blocks_{number}")
            number += 1
    head = "linear" if "linear.weight" in weights else "fc"
    return table + (linear(head, "head") if f"{head}.weight" in weights else [])


def _stem(config: Config) -> list[Rule]:
    if config.stem != "deep":
        return [*conv("conv1", "backbone/stem/conv1"), *batch_norm("bn1", "backbone/stem/bn1")]
    places = (("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1"))
    return [
        rule
        for n, (convolution, norm) in enumerate(places, 1)
        for rule in (
            *conv(convolution, f"backbone/stem/conv{n}"),
            *batch_norm(norm, f"backbone/stem/bn{n}"),
        )
    ]


def _block(config: Config, source: str, target: str) -> list[Rule]:
    table: list[Rule] = []
    for n in (1, 2, 3) if config.block == "bottleneck" else (1, 2):
        table += conv(f"{source}.conv{n}", f"{target}/conv{n}")
        table += batch_norm(f"{source}.bn{n}", f"{target}/bn{n}")
    first = 1 if config.shortcut == "average" else 0
    downsample = [
        *conv(f"{source}.downsample.{first}", f"{target}/shortcut/conv"),
        *batch_norm(f"{source}.downsample.{first + 1}", f"{target}/shortcut/bn"),
    ]
    return table + [dataclasses.replace(r, optional=True) for r in downsample]


FAMILY = Family("resnet", RESNET, recognise, rules)
