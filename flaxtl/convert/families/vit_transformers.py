"""Vision transformers in transformers' names: ViT, DeiT, DINOv2, and the image towers of CLIP and SigLIP.

Names are those of the published files (version 4's, which version 5 reads and writes), those of version 5's modules,
and those of the Flax classes that version 5 dropped, whose trees have the same names with other layouts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxtl import surgery
from flaxtl.card import NetworkSpec
from flaxtl.convert.families import Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.transformers_audio import attention
from flaxtl.convert.families.transformers_files import task_of, transformers_config
from flaxtl.convert.families.transformers_image import transformers_image
from flaxtl.convert.families.vit_common import distilled_head, grid_of, mlp, pair
from flaxtl.convert.families.vit_settings import OWN, PAIR, TEXT, TYPES
from flaxtl.convert.mapping import (
    CONCAT_LINEAR,
    CONV2D,
    KEEP,
    LINEAR,
    Operation,
    Rule,
    conv,
    ignored,
    layer_norm,
    linear,
    reshape,
)
from flaxtl.convert.settings import only
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError
from flaxtl.nets.transformer import ACTIVATIONS
from flaxtl.nets.vit import Config

TOWERS = ("clip", "siglip")
MARKS = ("embeddings.patch_embeddings.projection.", "embeddings.patch_embedding.")


def is_named_so(weights: Weights) -> bool:
    """Says whether the tensors have transformers' names of these models, and config.json, if any, says one of them."""
    kind = _type(weights)
    if kind is not None or "model_type" in weights.config:
        return kind is not None and _prefix(weights) is not None
    return _prefix(weights) in ("", "vit.", "deit.", "dinov2.", "dinov2_with_registers.", "vision_model.")


def _type(weights: Weights) -> str | None:
    kind = str(weights.config.get("model_type", "")).removesuffix("_vision_model")
    return kind if kind in TYPES else None


def _is_flax(weights: Weights) -> bool:
    return any("embeddings/" in name for name in weights)


def _dotted(weights: Weights) -> dict[str, str]:
    """The tensors' names with dots → as they are."""
    return {name.replace("/", "."): name for name in weights}


def _prefix(weights: Weights) -> str | None:
    """What comes before "embeddings." in the image tower's names."""
    for name in _dotted(weights):
        for mark in MARKS:
            if mark in name and name.endswith(("weight", "kernel")):
                return name[: name.index(mark)]
    return None


def _shape(weights: Weights, name: str) -> tuple[int, ...]:
    dotted = _dotted(weights)
    return weights[dotted[name]].shape if name in dotted else ()


def recognise(weights: Weights) -> Recognised:
    """Says which vision transformer the weights are, by their config.json.

    Raises:
        CheckpointError: there is no config.json, or it names something that flaxtl's ViT does not have.
    """
    kind, prefix = _type(weights), _prefix(weights)
    if kind is None or prefix is None:
        raise CheckpointError(
            "The tensors are named as a vision transformer of transformers, but do not say its number of heads, its "
            "activation or its epsilon. Put its config.json beside them."
        )
    image, defaults = TYPES[kind]
    settings = {**defaults, **_settings(weights, kind)}
    outputs = next((s[0] for n in ("classifier", "cls_classifier") if (s := _shape(weights, f"{n}.bias"))), 0)
    config = _config(weights, kind, prefix, settings, outputs > 0)
    pixels = pair(settings.get("image_size"), 224)
    size = pixels if tuple(p // s for p, s in zip(pixels, config.patch)) == config.grid else config.size
    image = dataclasses.replace(image, channels=int(settings.get("num_channels", 3)))
    image, notes = transformers_image(weights, kind, size, image)
    config, moved = _at(config, image.size)
    spec = NetworkSpec("vit", dataclasses.asdict(config))
    labels, task = labels_of(weights, outputs), task_of(weights, outputs)
    return Recognised(spec, image, outputs, labels, task, notes=(*notes, *moved))


def _settings(weights: Weights, kind: str) -> dict[str, Any]:
    """Returns the image tower's settings, which a model of two towers keeps below a name of their own."""
    tower = _tower(weights, kind)
    qkv = {"qkv_bias": only(f"{_first_block(weights, kind)[0]}.bias" in _dotted(weights))}
    own = {**OWN[kind], **qkv}
    if tower is weights.config:
        return transformers_config(weights, {**own, **TEXT})
    transformers_config(weights, PAIR)
    return transformers_config(weights, own, tower, "config.json, vision_config")


def _tower(weights: Weights, kind: str) -> Mapping[str, Any]:
    """Returns where the image tower's settings are; CLIP's older name for them goes before the newer one."""
    for name in ("vision_config_dict", "vision_config") if kind == "clip" else ("vision_config",):
        if isinstance(found := weights.config.get(name), Mapping) and found:
            return found
    return weights.config


def _first_block(weights: Weights, kind: str) -> tuple[str, ...]:
    """Returns the names of query, key and value of the first block."""
    number = _block_prefix(weights, _prefix(weights) or "", kind)
    place, parts, _ = _attention_names(weights, number, kind)
    return tuple(f"{number}0.{place}.{part}" for part in parts)


def _at(config: Config, size: tuple[int, int]) -> tuple[Config, tuple[str, ...]]:
    """Returns the network for the pictures that come out of its preprocessing, and what that does to its positions."""
    grid = size[0] // config.patch[0], size[1] // config.patch[1]
    if grid == config.grid:
        return config, ()
    if 0 in grid:
        raise CheckpointError(
            f"The preprocessing makes pictures of {size[0]}×{size[1]} pixels, which hold no patch of "
            f"{config.patch[0]}×{config.patch[1]}. Take the preprocessor_config.json that belongs to the weights."
        )
    note = (
        f"The weights have positions for {config.grid[0]}×{config.grid[1]} patches, and their preprocessing makes "
        f"pictures of {size[0]}×{size[1]} pixels, {grid[0]}×{grid[1]} patches: the positions are interpolated as the "
        "source does."
    )
    return dataclasses.replace(config, grid=grid), (note,)


def _config(weights: Weights, kind: str, prefix: str, settings: Mapping[str, Any], classifies: bool) -> Config:
    names, block = _dotted(weights), _block_prefix(weights, prefix, kind)
    place, parts, _ = _attention_names(weights, block, kind)
    has = {n.removeprefix(prefix) for n in names if n.startswith(prefix)}
    kernel = next(
        s for mark in MARKS for leaf in ("weight", "kernel") if (s := _shape(weights, f"{prefix}{mark}{leaf}"))
    )
    patch = kernel[:2] if _is_flax(weights) else kernel[2:]
    token, distilled = kind != "siglip", "embeddings.distillation_token" in has
    registers = int(settings.get("num_register_tokens", 4)) if kind == "dinov2_with_registers" else 0
    prefixes = {int(token) + int(distilled)}
    grid, positioned = _grid(weights, prefix, prefixes, (patch[0], patch[1]), settings.get("image_size"))
    width = int(settings.get("hidden_size", 768))
    gated, hidden = bool(settings.get("use_swiglu_ffn")), int(settings.get("mlp_ratio", 4) * width)
    hidden = hidden if kind.startswith("dinov2") else int(settings.get("intermediate_size", 3072))
    activation = "silu" if gated else str(settings.get("hidden_act", "gelu"))
    if activation not in ACTIVATIONS:
        raise CheckpointError(f"flaxtl's ViT has no activation {activation!r}; known: {', '.join(ACTIVATIONS)}.")
    return Config(
        grid=grid,
        patch=(patch[0], patch[1]),
        width=width,
        depth=int(settings.get("num_hidden_layers", 12)),
        heads=int(settings.get("num_attention_heads", 12)),
        hidden=(int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden,
        class_token=token,
        distillation_token=distilled,
        registers=registers,
        positioned=positioned,
        patch_bias=kind != "clip",
        pre_norm=kind == "clip",
        qkv_bias=f"{block}0.{place}.{parts[0]}.bias" in names,
        layer_scale=kind.startswith("dinov2"),
        gated=gated,
        activation=activation,
        epsilon=float(settings.get("layer_norm_eps", 1e-12)),
        pooling=_pooling(weights, kind, settings, classifies),
        final_norm="none" if kind == "clip" and classifies else "tokens",
        dropout=float(settings.get("hidden_dropout_prob", 0.0)),
    )


def _grid(
    weights: Weights, prefix: str, prefixes: set[int], patch: tuple[int, int], pixels: Any
) -> tuple[tuple[int, int], int]:
    """The grid that the weights' positions are for, and how many positions come before it."""
    return grid_of(_positions(weights, prefix), prefixes, patch, pair(pixels, 224))


def _positions(weights: Weights, prefix: str) -> int:
    names = ("position_embeddings", "position_embedding.weight", "position_embedding.embedding")
    shape = next((s for n in names if (s := _shape(weights, f"{prefix}embeddings.{n}"))), None)
    if shape is None:
        raise CheckpointError(
            f"The tensors {f'below {prefix!r} ' if prefix else ''}hold no learnt position embeddings, which flaxtl's "
            "ViT needs."
        )
    return shape[-2]


def _pooling(weights: Weights, kind: str, settings: Mapping[str, Any], classifies: bool) -> Any:
    if _shape(weights, "distillation_classifier.bias"):
        return "distilled"
    if kind == "siglip":
        return "average" if classifies or not settings.get("vision_use_head", True) else "map"
    if kind == "clip" and classifies:
        return "average"
    return "token_average" if kind.startswith("dinov2") and classifies else "token"


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a vision transformer in transformers' names."""
    kind, prefix = _type(weights), _prefix(weights)
    assert kind is not None
    assert prefix is not None
    pixels = _tower(weights, kind).get("image_size")
    grid, _ = _grid(weights, prefix, {config.positioned}, config.patch, pixels)
    # The class of DINOv2 with registers alone averages over what a smaller grid leaves out.
    position = _position(config, grid, antialias=kind == "dinov2_with_registers", flat=kind in TOWERS)
    table = [
        *(_tower_stem if kind in TOWERS else _stem)(config, prefix, position),
        *_blocks(config, weights, kind, prefix),
        *_pool(config, kind, prefix),
        *_head(config, weights),
    ]
    return [_as_flax(rule) for rule in table] if _is_flax(weights) else table


def _position(config: Config, grid: tuple[int, int], *, antialias: bool, flat: bool) -> Operation:
    """Returns what becomes of positions for a grid of the source: interpolated where the network has another."""
    prefix, width = config.positioned, config.width

    def forward(arrays: Sequence[np.ndarray]) -> np.ndarray:
        found = arrays[0].reshape(1, -1, width)
        if found.shape[1] == prefix + config.grid[0] * config.grid[1]:
            return found
        wide = found.astype(np.float32)
        return surgery.resize_positions(wide, grid, config.grid, prefix=prefix, antialias=antialias)[0]

    def backward(leaf: np.ndarray, _: int) -> list[np.ndarray]:
        return [leaf[0] if flat else leaf]

    if grid == config.grid:
        tokens = prefix + grid[0] * grid[1]
        return reshape((1, tokens, width), (tokens, width)) if flat else KEEP
    name = f"positions {grid[0]}×{grid[1]} → {config.grid[0]}×{config.grid[1]}"
    return Operation(name, forward, backward, exact=False)


def _stem(config: Config, prefix: str, position: Operation) -> list[Rule]:
    source, target = f"{prefix}embeddings", "backbone/stem"
    table = [
        Rule(f"{source}.cls_token", f"{target}/class_token"),
        Rule(f"{source}.position_embeddings", f"{target}/position", position),
        *conv(f"{source}.patch_embeddings.projection", f"{target}/patch", bias=True),
        ignored(f"{source}.mask_token", "stands for hidden patches, in pretraining only"),
        ignored("decoder.*", "draws hidden patches, in pretraining only"),
        ignored(f"{prefix}pooler.*", "a layer over the class token; the features are the class token itself"),
    ]
    if config.distillation_token:
        table.append(Rule(f"{source}.distillation_token", f"{target}/distillation_token"))
    if config.registers:
        table.append(Rule(f"{source}.register_tokens", f"{target}/registers"))
    return table


def _tower_stem(config: Config, prefix: str, position: Operation) -> list[Rule]:
    source, target, width = f"{prefix}embeddings", "backbone/stem", config.width
    table = [
        Rule(f"{source}.position_embedding.weight", f"{target}/position", position),
        *conv(f"{source}.patch_embedding", f"{target}/patch", bias=config.patch_bias),
        ignored(f"{source}.position_ids", "the numbers 0, 1, 2 …"),
        ignored("text_model.*", "the text tower, which no picture enters"),
        ignored("text_projection*", "of the text tower, which no picture enters"),
        ignored("logit_*", "scales the likeness of picture and text"),
        ignored("visual_projection*", "leads to the space shared with text; the features are what enters it"),
    ]
    if config.class_token:
        token = Rule(f"{source}.class_embedding", f"{target}/class_token", reshape((1, 1, width), (width,)))
        table += [token, *layer_norm(f"{prefix}pre_layrnorm", f"{target}/norm")]
    return table


def _block_prefix(weights: Weights, prefix: str, kind: str) -> str:
    """What comes before a block's number."""
    if kind in TOWERS:
        return f"{prefix}encoder.layers."
    old = f"{prefix}encoder.layer."
    return old if any(n.startswith(old) for n in _dotted(weights)) else f"{prefix}layers."


# Where query, key and value are, and the output's name: as published, in version 5's modules, in CLIP and SigLIP.
PUBLISHED = ("attention", ("attention.query", "attention.key", "attention.value"), "output.dense")
MODULES = ("attention", ("q_proj", "k_proj", "v_proj"), "o_proj")
TOWER = ("self_attn", ("q_proj", "k_proj", "v_proj"), "out_proj")


def _attention_names(weights: Weights, number: str, kind: str) -> tuple[str, tuple[str, ...], str]:
    if kind in TOWERS:
        return TOWER
    return PUBLISHED if any(n.startswith(f"{number}0.attention.attention.") for n in _dotted(weights)) else MODULES


def _blocks(config: Config, weights: Weights, kind: str, prefix: str) -> list[Rule]:
    number = _block_prefix(weights, prefix, kind)
    source, target = f"{number}{{i}}", "backbone/blocks_{i}"
    place, parts, out = _attention_names(weights, number, kind)
    norms = ("layer_norm1", "layer_norm2") if kind in TOWERS else ("norm1", "norm2")
    if kind in ("vit", "deit"):
        norms = ("layernorm_before", "layernorm_after")
    fc1, fc2 = ("mlp.weights_in", "mlp.weights_out") if config.gated else ("mlp.fc1", "mlp.fc2")
    if f"{number}0.intermediate.dense.bias" in _dotted(weights):
        fc1, fc2 = "intermediate.dense", "output.dense"
    table = [
        *layer_norm(f"{source}.{norms[0]}", f"{target}/norm1"),
        *attention(f"{source}.{place}", f"{target}/attention", parts, out, bias=config.qkv_bias),
        *layer_norm(f"{source}.{norms[1]}", f"{target}/norm2"),
        *linear(f"{source}.{fc1}", f"{target}/mlp/fc1"),
        *linear(f"{source}.{fc2}", f"{target}/mlp/fc2"),
    ]
    if config.layer_scale:
        table += [Rule(f"{source}.layer_scale{n}.lambda1", f"{target}/layer_scale{n}/scale") for n in (1, 2)]
    return table


def _pool(config: Config, kind: str, prefix: str) -> list[Rule]:
    target, norm = "backbone/pool", f"{prefix}{'post_layernorm' if kind in TOWERS else 'layernorm'}"
    if config.final_norm == "none":
        return [ignored(f"{norm}.*", "of the class token; the classifier reads the patches, before it")]
    table = layer_norm(norm, f"{target}/norm")
    if kind != "siglip":
        return table
    if config.pooling != "map":
        return [*table, ignored(f"{prefix}head.*", "attention pooling; the classifier reads the mean of the patches")]
    source, target = f"{prefix}head", f"{target}/attention"
    return [
        *table,
        Rule(f"{source}.probe", f"{target}/query"),
        Rule(f"{source}.attention.in_proj_weight", f"{target}/qkv/kernel", LINEAR),
        Rule(f"{source}.attention.in_proj_bias", f"{target}/qkv/bias"),
        *linear(f"{source}.attention.out_proj", f"{target}/out"),
        *mlp(source, target, "layernorm"),
    ]


def _head(config: Config, weights: Weights) -> list[Rule]:
    if config.pooling == "distilled":
        return distilled_head("cls_classifier", "distillation_classifier")
    return linear("classifier", "head") if _shape(weights, "classifier.bias") else []


SIDE_BY_SIDE = Operation(
    "concatenate the outputs",
    lambda arrays: np.concatenate(list(arrays), axis=-1),
    lambda leaf, n: np.split(leaf, n, axis=-1),
)
_FLAX = {LINEAR.name: KEEP, CONV2D.name: KEEP, CONCAT_LINEAR.name: SIDE_BY_SIDE}


def _as_flax(rule: Rule) -> Rule:
    """The same rule for a tree of the Flax classes: kernels lie as ours, scales and embeddings have their own names."""
    leaf = (rule.target or "").rpartition("/")[2]
    last = leaf if leaf in ("kernel", "scale") else "embedding"
    names = tuple(re.sub(r"\bweight$", last, n).replace(".", "/") for n in rule.sources)
    source = names[0] if isinstance(rule.source, str) else names
    return dataclasses.replace(rule, source=source, operation=_FLAX.get(rule.operation.name, rule.operation))
