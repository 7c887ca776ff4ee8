"""YAMNet as float32 tensors in Flax's layout, its BatchNorm folded into biases."""

from __future__ import annotations

import dataclasses

from flaxtl.card import Audio, NetworkSpec
from flaxtl.convert.families import Family, Recognised
from flaxtl.convert.families.labels import labels_of, require_names_alone
from flaxtl.convert.mapping import Rule
from flaxtl.convert.weights import Weights
from flaxtl.nets.yamnet import VARIANTS, Config

# 96 frames of 25 ms, 10 ms apart; the next patch begins 48 frames later (tensorflow/models, yamnet/params.py).
INPUT = Audio(16000, window=0.975, hop=0.48, front_end="log_mel")


def recognise(weights: Weights) -> Recognised | None:
    """Says that weights are YAMNet's, by the names and shapes of its layers."""
    if not {"layer1/conv/kernel", "layer2/depthwise/kernel", "layer3/conv/kernel"} <= set(weights):
        return None
    require_names_alone(weights)
    blocks = sum(n.endswith("/depthwise/kernel") for n in weights)
    widths = tuple(weights[f"layer{2 * i + 3}/conv/kernel"].shape[-1] for i in range(blocks))
    strides = Config().strides if blocks == len(Config().strides) else (1,) * blocks
    config = Config(weights["layer1/conv/kernel"].shape[-1], widths, strides)
    outputs = (weights.shape("logits/kernel") or (0,))[-1]
    spec = NetworkSpec("yamnet", dataclasses.asdict(config))
    return Recognised(spec, INPUT, outputs, labels_of(weights, outputs), "multilabel")


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of YAMNet."""
    table = _layer("layer1/conv", "backbone/stem/conv")
    for i in range(len(config.widths)):
        table += _layer(f"layer{2 * i + 2}/depthwise", f"backbone/blocks_{i}/depthwise")
        table += _layer(f"layer{2 * i + 3}/conv", f"backbone/blocks_{i}/pointwise")
    return table + (_layer("logits", "head") if "logits/kernel" in weights else [])


def _layer(source: str, target: str) -> list[Rule]:
    return [Rule(f"{source}/{part}", f"{target}/{part}") for part in ("kernel", "bias")]


FAMILY = Family("yamnet", tuple(VARIANTS), recognise, rules)
