"""ConvNeXt of timm and of transformers, versions 1 and 2."""

from __future__ import annotations

import dataclasses

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
    assumed,
    is_timms,
    read_timm,
    timm_image,
)
from flaxtl.convert.families.timm_names import CONVNEXT, require_listed
from flaxtl.convert.families.transformers_files import task_of, transformers_config
from flaxtl.convert.families.transformers_image import transformers_image
from flaxtl.convert.mapping import LINEAR, Rule, conv, layer_norm, linear, reshape
from flaxtl.convert.settings import READ, Setting, irrelevant, only, where
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.errors import CheckpointError
from flaxtl.nets.convnext import Config
from flaxtl.nets.transformer import ACTIVATIONS

# Names of the tensors in timm's and in transformers' files; {s} and {b} are the stage and the block in it.
TIMM = {
    "stage": "stages.{s}",
    "block": "stages.{s}.blocks.{b}",
    "downsample": "stages.{s}.downsample",
    "depthwise": "conv_dw",
    "norm": "norm",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "response_norm": "mlp.grn",
    "layer_scale": "gamma",
    "stem": "stem.0",
    "stem_norm": "stem.1",
    "last_norm": "head.norm",
    "head": "head.fc",
}
TRANSFORMERS = {
    "stage": "encoder.stages.{s}",
    "block": "encoder.stages.{s}.layers.{b}",
    "downsample": "encoder.stages.{s}.downsampling_layer",
    "depthwise": "dwconv",
    "norm": "layernorm",
    "fc1": "pwconv1",
    "fc2": "pwconv2",
    "response_norm": "grn",
    "layer_scale": "layer_scale_parameter",
    "stem": "embeddings.patch_embeddings",
    "stem_norm": "embeddings.layernorm",
    "last_norm": "layernorm",
    "head": "classifier",
}
_TYPES = ("convnext", "convnextv2")
_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "silu": "silu"}
_ARGUMENTS = {
    "act_layer": only(*_ACTIVATIONS),
    "norm_eps": READ,
    "norm_layer": only(),
    "global_pool": AVERAGE,
    "output_stride": only(32),
    "head_hidden_size": only(),
    **irrelevant(SHAPES, "depths", "dims", "kernel_sizes", "stem_type", "patch_size", "conv_mlp", "conv_bias"),
    **irrelevant(SHAPES, "use_grn", "head_norm_first", "ls_init_value"),
    **irrelevant(TRAINING, "head_init_scale"),
}
_DIFFERS = (
    (r"_rms|zepto", "another normalisation"),
    (r"_mlp|_clip", "a hidden layer in its head"),
    (r"^test_convnext3", "a kernel for each stage"),
)
# What becomes of the settings of transformers' ConvNeXt; see transformers_files.COMMON.
_OWN: dict[str, Setting] = {
    **dict.fromkeys(("image_size", "layer_norm_eps"), READ),
    "hidden_act": where(lambda v: v is None or v in ACTIVATIONS, f"the activations {', '.join(ACTIVATIONS)}"),
    **irrelevant("the tensors' shapes say it", "patch_size", "num_stages"),
    **irrelevant("where training began", "layer_scale_init_value"),
}
_DEFAULT = Image((224, 224), 3, IMAGENET_MEAN, IMAGENET_STD, "bicubic", 224 / 256)


def recognise(weights: Weights) -> Recognised | None:
    """Says which ConvNeXt weights are, by the shapes of their tensors and the few settings that these do not say."""
    names = _names(weights)
    if names is None:
        return None
    timm = read_timm(weights, _ARGUMENTS) if names is TIMM else Timm()
    require_listed(timm.name, CONVNEXT, _DIFFERS)
    if "head.pre_logits.fc.weight" in weights or "stem.3.weight" in weights:
        raise CheckpointError(
            "This ConvNeXt has another stem or head than ConvNeXt has, which flaxtl does not build. Take one of those, "
            "such as convnext_tiny."
        )
    outputs = (weights.shape(f"{names['head']}.weight") or (0,))[0]
    config = _config(weights, names, timm)
    spec = NetworkSpec("convnext", dataclasses.asdict(config))
    if names is TIMM:
        image = timm_image(timm, weights[f"{names['stem']}.weight"].shape[1], _DEFAULT)
        notes = assumed(timm, image, f"a ConvNeXt of depths {config.depths} with GELU and epsilon {config.epsilon:g}")
        return Recognised(spec, image, outputs, labels_of(weights, outputs), timm.task, notes=notes)
    kind = "convnextv2" if config.response_norm else "convnext"
    settings = transformers_config(
        weights, {**_OWN, "depths": only(config.depths), "hidden_sizes": only(config.widths)}
    )
    side = int(settings.get("image_size", 224))
    image = dataclasses.replace(_DEFAULT, channels=weights[f"{names['stem']}.weight"].shape[1])
    image, notes = transformers_image(weights, kind, (side, side), image)
    labels, task = labels_of(weights, outputs), task_of(weights, outputs)
    return Recognised(spec, image, outputs, labels, task, notes=notes)


def _names(weights: Weights) -> dict[str, str] | None:
    """Returns the table of names that fits, transformers' with the prefix that is there."""
    if "stages.0.blocks.0.conv_dw.weight" in weights and "stages.0.blocks.0.mlp.fc1.weight" in weights:
        return TIMM if is_timms(weights) else None
    for prefix in (*(f"{kind}." for kind in _TYPES), ""):
        if f"{prefix}encoder.stages.0.layers.0.dwconv.weight" in weights:
            body = {k: n if k in _INNER else prefix + n for k, n in TRANSFORMERS.items()}
            return body | {"head": TRANSFORMERS["head"]}
    return None


_INNER = ("depthwise", "norm", "fc1", "fc2", "response_norm", "layer_scale")


def _config(weights: Weights, names: dict[str, str], timm: Timm) -> Config:
    stages = count_numbered(weights, names["stage"].split("{")[0])
    widths = tuple(weights[f"{_block(names, s, 0)}.{names['norm']}.weight"].shape[0] for s in range(stages))
    block = _block(names, 0, 0)
    overlap = "stem.2.weight" in weights
    tests = timm.name.startswith("test_convnext")
    epsilon = float(timm.arguments.get("norm_eps") or (1e-5 if tests or timm.name == "convnext_xxlarge" else 1e-6))
    activation = _ACTIVATIONS[timm.arguments.get("act_layer") or ("gelu_tanh" if tests else "gelu")]
    stem = weights[f"{names['stem']}.weight"].shape
    return Config(
        depths=tuple(count_numbered(weights, _block(names, s, 0)[:-1]) for s in range(stages)),
        widths=widths,
        kernel=weights[f"{block}.{names['depthwise']}.weight"].shape[-1],
        patch=4 if overlap else stem[-1],
        overlap=stem[0] if overlap else 0,
        expansion=weights[f"{block}.{names['fc1']}.weight"].shape[0] / widths[0],
        layer_scale=f"{block}.{names['layer_scale']}" in weights,
        response_norm=f"{block}.{names['response_norm']}.weight" in weights,
        norm_first="norm_pre.weight" in weights,
        activation=activation if names is TIMM else str(weights.config.get("hidden_act", "gelu")),
        epsilon=epsilon,
        last_epsilon=epsilon if names is TIMM else float(weights.config.get("layer_norm_eps", 1e-12)),
    )


def _block(names: dict[str, str], stage: int, number: int) -> str:
    return names["block"].format(s=stage, b=number)


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a ConvNeXt."""
    names = _names(weights)
    assert names is not None
    table = _stem(config, names)
    target = 0
    for stage, depth in enumerate(config.depths):
        if stage:
            down = names["downsample"].format(s=stage)
            table += layer_norm(f"{down}.0", f"backbone/blocks_{target}/downsample/norm")
            table += conv(f"{down}.1", f"backbone/blocks_{target}/downsample/conv", bias=True)
        for number in range(depth):
            table += _block_rules(weights, names, _block(names, stage, number), f"backbone/blocks_{target}")
            target += 1
    table += layer_norm("norm_pre" if config.norm_first else names["last_norm"], "backbone/pool/norm")
    return table + (linear(names["head"], "head") if f"{names['head']}.weight" in weights else [])


def _stem(config: Config, names: dict[str, str]) -> list[Rule]:
    if not config.overlap:
        return [
            *conv(names["stem"], "backbone/stem/conv", bias=True),
            *layer_norm(names["stem_norm"], "backbone/stem/norm"),
        ]
    convolutions = [rule for i in (0, 1) for rule in conv(f"stem.{i}", f"backbone/stem/conv{i + 1}", bias=True)]
    return [*convolutions, *layer_norm("stem.2", "backbone/stem/norm")]


def _block_rules(weights: Weights, names: dict[str, str], source: str, target: str) -> list[Rule]:
    table = [
        *conv(f"{source}.{names['depthwise']}", f"{target}/depthwise", bias=True),
        *layer_norm(f"{source}.{names['norm']}", f"{target}/norm"),
    ]
    for part in ("fc1", "fc2"):
        outer = weights[f"{source}.{names[part]}.weight"].shape  # of a 1×1 convolution in timm's smaller networks
        operation = LINEAR if len(outer) == 2 else reshape(outer[:2], outer, LINEAR)
        table += conv(f"{source}.{names[part]}", f"{target}/mlp/{part}", bias=True, operation=operation)
    if f"{source}.{names['layer_scale']}" in weights:
        table.append(Rule(f"{source}.{names['layer_scale']}", f"{target}/layer_scale/scale"))
    for ours, theirs in (("scale", "weight"), ("bias", "bias")):
        tensor = f"{source}.{names['response_norm']}.{theirs}"
        if tensor in weights:
            outer = weights[tensor].shape
            table.append(Rule(tensor, f"{target}/mlp/response_norm/{ours}", reshape((outer[-1],), outer)))
    return table


FAMILY = Family("convnext", (*CONVNEXT, *_TYPES), recognise, rules)
