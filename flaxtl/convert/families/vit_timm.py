"""Vision transformers in timm's names, which DeiT's and DINOv2's own files use too."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from flaxtl.card import Image, NetworkSpec, Task
from flaxtl.convert.families import Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.timm_config import (
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
from flaxtl.convert.families.timm_names import VIT, require_listed
from flaxtl.convert.families.vit_common import distilled_head, grid_of, mlp, pair
from flaxtl.convert.mapping import CONCAT, CONCAT_LINEAR, Operation, Rule, conv, ignored, layer_norm, linear
from flaxtl.convert.settings import READ, irrelevant, only
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.errors import CheckpointError
from flaxtl.nets.vit import VARIANTS, Config, Pooling

PATCH, QKV = "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"
# Heads by the name's word for the size; what a name has beside its size may change them.
HEADS = {
    **{"tiny": 3, "xsmall": 4, "wee": 4, "little": 5, "small": 6, "medium": 8, "mediumd": 8, "betwixt": 10, "base": 12},
    **{"large": 16, "huge": 16, "giant": 16, "giantopt": 16, "gigantic": 16, "intern300m": 16},
    **{"so150m": 14, "so150m2": 13, "so400m": 16},
}
OTHER_HEADS = (
    (r"test_vit2?", 2),
    (r"test_vit3", 3),
    (r".*_plus_.*", 14),
    (r"vit_base_patch16_gap_224", 16),
    (r"vit_giant_patch14_(reg\d_)?(dinov2|tipsv2)", 24),
)
TANH_GELU = re.compile(r".*(patch32_siglip|large_patch16_siglip_(gap_)?512|so400m_patch16_siglip|giantopt)")
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "silu": "silu"}
POOLING: dict[str, Pooling] = {"token": "token", "avg": "average", "map": "map"}
_ARGUMENTS = {
    **dict.fromkeys(("num_heads", "pool_include_prefix", "img_size"), READ),
    "act_layer": only(*ACTIVATIONS),
    "global_pool": only(*POOLING),
    "dynamic_img_pad": only(False),
    "pos_embed": only("learn"),
    **dict.fromkeys(("qk_norm", "scale_attn_norm", "scale_mlp_norm"), only(False)),
    "proj_bias": only(True),
    **dict.fromkeys(("norm_layer", "embed_norm_layer", "embed_layer", "block_fn", "mlp_layer", "attn_layer"), only()),
    **irrelevant(SHAPES, "patch_size", "embed_dim", "depth", "mlp_ratio", "qkv_bias", "init_values", "class_token"),
    **irrelevant(SHAPES, "no_embed_class", "reg_tokens", "pre_norm", "final_norm", "fc_norm"),
    **irrelevant("the card names one size", "dynamic_img_size", "strict_img_size"),
    **irrelevant(TRAINING, "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate"),
    **irrelevant(TRAINING, "weight_init", "fix_init", "distilled_training"),
}
_DIFFERS = (
    (
        r"_rpn|_xp|x2_224|dlittle|dwee|pwee|dpwee|^vit_s?relpos|^vit_pe|_mci|_rope|rms|^aimv2|vit4",
        "blocks of another kind",
    ),
    (r"_r\d+_|_resnet|_r_s", "a convolutional network before its patches"),
    (r"radio", "an input of its own"),
    (r"^beit|^eva0?\d|^cait|^xcit|^swin|^naflex", "blocks of another kind"),
)


def is_named_so(weights: Weights) -> bool:
    """Says whether the tensors have timm's names, and config.json, if any, may be timm's."""
    return not {PATCH, QKV, "pos_embed"} - set(weights) and is_timms(weights)


def recognise(weights: Weights) -> Recognised:
    """Says which vision transformer the weights are.

    Raises:
        CheckpointError: a variant that flaxtl does not build, or whose settings the tensors alone do not say.
    """
    timm = read_timm(weights, _ARGUMENTS)
    require_listed(timm.name, VIT, _DIFFERS)
    if "blocks.0.norm1.bias" not in weights or "blocks.0.attn.q_norm.weight" in weights:
        raise CheckpointError(
            f"{timm.name or 'This ViT'} has blocks of another kind than ViT, DeiT, DINOv2, CLIP and SigLIP have, which "
            "flaxtl does not build. Take one of these, such as vit_small_patch16_224."
        )
    config, image, notes = _config(weights, timm)
    outputs = (weights.shape("head.weight") or (0,))[0]
    spec = NetworkSpec("vit", dataclasses.asdict(config))
    told = (
        f"a ViT of {config.depth} blocks, {config.heads} heads and {config.activation}, features by {config.pooling!r}"
    )
    notes = (*notes, *assumed(timm, image, told))
    return Recognised(spec, image, outputs, labels_of(weights, outputs), _task(timm), notes=notes)


def _task(timm: Timm) -> Task:
    """CLIP's output layer maps to the space that it shares with text, unless it was fine-tuned to classes."""
    if (
        "_clip_" in timm.name
        and "ft" not in str(timm.input.get("tag", "")).split("_")
        and not timm.arguments.get("head")
    ):
        return "regression"
    return timm.task


def _config(weights: Weights, timm: Timm) -> tuple[Config, Image, tuple[str, ...]]:
    given, name = timm.arguments, timm.name
    width, channels, *patch = weights[PATCH].shape
    patches = patch[0], patch[1]
    first, tokens = _tokens(weights)
    default = Image((224, 224), channels, IMAGENET_MEAN, IMAGENET_STD, "bicubic", 224 / 256)
    image = timm_image(timm, channels, default)
    if given.get("img_size"):
        image = dataclasses.replace(image, size=pair(given["img_size"], 224))
    grid, positioned = grid_of(tokens, {0, 1 if first else 0, first}, patches, image.size if timm.said else None)
    depth, fc2 = count_numbered(weights, "blocks."), weights["blocks.0.mlp.fc2.weight"].shape
    config = Config(
        grid=grid,
        patch=patches,
        width=width,
        depth=depth,
        heads=int(given.get("num_heads") or _heads(weights, name, width, depth, fc2[1])),
        hidden=fc2[1],
        class_token="cls_token" in weights,
        distillation_token="dist_token" in weights,
        registers=_registers(weights),
        positioned=positioned,
        patch_bias="patch_embed.proj.bias" in weights,
        pre_norm="norm_pre.weight" in weights,
        qkv_bias="blocks.0.attn.qkv.bias" in weights,
        layer_scale=any(f"blocks.0.{scale}" in weights for scale in ("ls1.gamma", "gamma_1")),
        gated=weights["blocks.0.mlp.fc1.weight"].shape[0] == 2 * fc2[1],
        activation=_activation(weights, timm),
        epsilon=1e-5 if "_clip_" in name or (not name and "norm_pre.weight" in weights) else 1e-6,
        pooling=_pooling(weights, timm),
        pool_prefix=bool(given.get("pool_include_prefix", name == "test_vit3")),
        final_norm="tokens" if "norm.weight" in weights else "pooled" if "fc_norm.weight" in weights else "none",
    )
    if (image.size[0] // patches[0], image.size[1] // patches[1]) == grid:
        return config, image, ()
    note = (
        f"The source's pictures have {image.size[0]}×{image.size[1]} pixels, its positions are for "
        f"{config.size[0]}×{config.size[1]}, which is what is taken."
    )
    return config, dataclasses.replace(image, size=config.size), (note,) if timm.said else ()


def _registers(weights: Weights) -> int:
    return next((weights[n].shape[1] for n in ("reg_token", "register_tokens") if n in weights), 0)


def _tokens(weights: Weights) -> tuple[int, int]:
    """The number of tokens before the patches, and of position embeddings."""
    single = sum(name in weights for name in ("cls_token", "dist_token"))
    return single + _registers(weights), weights["pos_embed"].shape[-2]


def _heads(weights: Weights, name: str, width: int, depth: int, hidden: int) -> int:
    """Returns the number of heads, which no tensor shows: by the name, else if one known network alone is so large."""
    if name:
        return next((n for pattern, n in OTHER_HEADS if re.fullmatch(pattern, name)), None) or HEADS[_size(name)]
    known = {v.heads for v in VARIANTS.values() if (v.width, v.depth, v.hidden) == (width, depth, hidden)}
    if len(known) != 1 or "norm_pre.weight" in weights or "attn_pool.latent" in weights:
        raise CheckpointError(
            f"The tensors are a ViT's of {depth} blocks and {width} features, but do not say its number of heads or "
            "its activation. Put timm's config.json beside them."
        )
    return known.pop()


def _size(name: str) -> str:
    return next(word for word in name.split("_")[1:] if word in HEADS)


def _activation(weights: Weights, timm: Timm) -> str:
    if wanted := timm.arguments.get("act_layer"):
        return ACTIVATIONS[wanted]
    if weights["blocks.0.mlp.fc1.weight"].shape[0] == 2 * weights["blocks.0.mlp.fc2.weight"].shape[1]:
        return "silu"
    return "quick_gelu" if "quickgelu" in timm.name else "gelu_tanh" if TANH_GELU.match(timm.name) else "gelu"


def _pooling(weights: Weights, timm: Timm) -> Pooling:
    if "head_dist.weight" in weights or "dist_token" in weights:
        return "distilled"
    if wanted := timm.arguments.get("global_pool"):
        return POOLING[wanted]
    if "attn_pool.latent" in weights:
        return "map"
    return "average" if "fc_norm.weight" in weights or "cls_token" not in weights else "token"


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a vision transformer in timm's names."""
    stem, pool = "backbone/stem", "backbone/pool"
    table = [
        *conv("patch_embed.proj", f"{stem}/patch", bias=config.patch_bias),
        Rule("pos_embed", f"{stem}/position"),
        ignored("mask_token", "stands for hidden patches, in pretraining only"),
    ]
    for source, target in (
        ("cls_token", "class_token"),
        ("dist_token", "distillation_token"),
        ("reg_token", "registers"),
        ("register_tokens", "registers"),
    ):
        table += [Rule(source, f"{stem}/{target}")] if source in weights else []
    table += layer_norm("norm_pre", f"{stem}/norm") if config.pre_norm else []
    table += _block(config, weights)
    if config.final_norm != "none":
        table += layer_norm("norm" if config.final_norm == "tokens" else "fc_norm", f"{pool}/norm")
    if config.pooling == "map":
        table += _attention_pool(f"{pool}/attention")
    else:
        table.append(ignored("attn_pool.*", "attention pooling, which these settings do not use"))
    if "head.weight" not in weights:
        return table
    return table + (distilled_head("head", "head_dist") if config.pooling == "distilled" else linear("head", "head"))


def _block(config: Config, weights: Weights) -> list[Rule]:
    source, target = "blocks.{i}", "backbone/blocks_{i}"
    table = [
        *layer_norm(f"{source}.norm1", f"{target}/norm1"),
        *linear(f"{source}.attn.qkv", f"{target}/attention/qkv", bias=config.qkv_bias),
        *linear(f"{source}.attn.proj", f"{target}/attention/out"),
        *layer_norm(f"{source}.norm2", f"{target}/norm2"),
        *linear(f"{source}.mlp.fc1", f"{target}/mlp/fc1"),
        *linear(f"{source}.mlp.fc2", f"{target}/mlp/fc2"),
    ]
    if config.layer_scale:
        names = "ls{}.gamma" if "blocks.0.ls1.gamma" in weights else "gamma_{}"
        table += [Rule(f"{source}.{names.format(n)}", f"{target}/layer_scale{n}/scale") for n in (1, 2)]
    return table


def _attention_pool(target: str) -> list[Rule]:
    source = "attn_pool"
    names = (f"{source}.q", f"{source}.kv")
    return [
        Rule(f"{source}.latent", f"{target}/query"),
        Rule(tuple(f"{n}.weight" for n in names), f"{target}/qkv/kernel", _one_and_two(CONCAT_LINEAR)),
        Rule(tuple(f"{n}.bias" for n in names), f"{target}/qkv/bias", _one_and_two(CONCAT)),
        *linear(f"{source}.proj", f"{target}/out"),
        *mlp(source, target),
    ]


def _one_and_two(operation: Operation) -> Operation:
    """Query, and key and value together: as `operation`, but the second part is twice the first."""

    def backward(leaf: Any, _: int) -> list[Any]:
        query, key, value = operation.backward(leaf, 3)
        return [query, np.concatenate([key, value])]

    return Operation(operation.name, operation.forward, backward)
