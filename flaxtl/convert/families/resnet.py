"""Residual networks of timm, torchvision and the CIFAR repository of Yerlan Idelbayev."""

from __future__ import annotations

import dataclasses
from typing import Literal

from flaxtl.card import Image, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.timm_config import timm_image
from flaxtl.convert.mapping import Rule, batch_norm, conv, linear
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.nets.resnet import VARIANTS, Config

# The statistics of CIFAR-10's training pictures that nearly every CIFAR network was trained with (ImageNet's, in
# Idelbayev's repository).
CIFAR = Image((32, 32), 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def recognise(weights: Weights) -> Recognised | None:
    """Says which residual network weights are, by the shapes of their tensors."""
    if "layer1.0.conv1.weight" not in weights or "layer1.0.conv2.weight" not in weights:
        return None
    config = _config(weights)
    cifar = config.stem == "cifar"
    head = weights.shape("linear.weight") or weights.shape("fc.weight")
    spec = NetworkSpec("resnet", dataclasses.asdict(config))
    outputs = head[0] if head else 0
    return Recognised(spec, CIFAR if cifar else timm_image(weights), outputs, labels_of(weights, outputs))


def _config(weights: Weights) -> Config:
    depths = tuple(
        count_numbered(weights, f"layer{stage}.") for stage in (1, 2, 3, 4) if f"layer{stage}.0.conv1.weight" in weights
    )
    bottleneck = "layer1.0.conv3.weight" in weights
    widths = tuple(weights[f"layer{s + 1}.0.conv1.weight"].shape[0] for s in range(len(depths)))
    block: Literal["basic", "bottleneck"] = "bottleneck" if bottleneck else "basic"
    if len(depths) == 3:
        shortcut: Literal["conv", "average", "pad"] = "conv" if _has(weights, "layer2.0.shortcut.") else "pad"
        return Config(block, depths, widths, "cifar", shortcut=shortcut)
    if "conv1.0.weight" in weights:
        return Config(block, depths, widths, "deep", weights["conv1.6.weight"].shape[0], "average")
    return Config(block, depths, widths, stem_width=weights["conv1.weight"].shape[0])


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


FAMILY = Family("resnet", tuple(VARIANTS), recognise, rules)
