"""Vision transformers in timm's names, which DeiT's and DINOv2's own files use too."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxtl.card import Image, NetworkSpec, Task
from flaxtl.convert.families import Recognised
from flaxtl.convert.families.labels import labels_of
from flaxtl.convert.families.timm_config import IMAGENET_MEAN, IMAGENET_STD, architecture, timm_image
from flaxtl.convert.families.vit_common import distilled_head, grid_of, mlp, pair
from flaxtl.convert.mapping import CONCAT, CONCAT_LINEAR, Operation, Rule, conv, ignored, layer_norm, linear
from flaxtl.convert.weights import Weights, count_numbered
from flaxtl.errors import CheckpointError
from flaxtl.nets.vit import VARIANTS, Config, Pooling

PATCH, QKV = "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"
FAMILIAR = re.compile(r"(vit|deit3?|flexivit|eva_large|test_vit)\d?_|test_vit")
# Blocks of another kind than norm, attention, norm, feed-forward, though some have the same names.
OTHER = re.compile(
    r"vit_(relpos|srelpos|pe|.*_rpn|.*_xp|.*x2_224|dlittle|dwee|pwee|dpwee|.*_mci|.*_rope|.*_r\d+_)|.*_mci"
)
# Sizes whose heads are not 64 features wide: huge 80, giant 88, gigantic 104, so400m 72, giantopt 96.
SIXTEEN_HEADS = re.compile(
    r".*_(huge|gigantic|so400m|giantopt)_|vit_giant_patch1[46]_(224|clip|gap)|vit_base_patch16_gap_"
)
TANH_GELU = re.compile(r".*(patch32_siglip|large_patch16_siglip_(gap_)?512|so400m_patch16_siglip|giantopt)")
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "silu": "silu"}
POOLING: dict[str, Pooling] = {"token": "token", "avg": "average", "map": "map"}


def is_named_so(weights: Weights) -> bool:
    """Says whether the tensors have timm's names, and config.json, if any, says a vision transformer."""
    named = architecture(weights)
    if {PATCH, QKV, "pos_embed"} - set(weights) or "model_type" in weights.config:
        return False
    return bool(FAMILIAR.match(named)) if named else True


def recognise(weights: Weights) -> Recognised:
    """Says which vision transformer the weights are.

    Raises:
        CheckpointError: a variant that flaxtl does not build, or whose settings the tensors alone do not say.
    """
    name = architecture(weights)
    if OTHER.match(name) or "blocks.0.norm1.bias" not in weights or "blocks.0.attn.q_norm.weight" in weights:
        raise CheckpointError(
            f"{name or 'This ViT'} has blocks of another kind than ViT, DeiT, DINOv2, CLIP and SigLIP have, which "
            "flaxtl does not build. Take one of these, such as vit_small_patch16_224."
        )
    config, image = _config(weights, name)
    outputs = (weights.shape("head.weight") or (0,))[0]
    spec = NetworkSpec("vit", dataclasses.asdict(config))
    return Recognised(spec, image, outputs, labels_of(weights, outputs), _task(weights, name))


def _task(weights: Weights, name: str) -> Task:
    """CLIP's output layer maps to the space that it shares with text, unless it was fine-tuned to classes."""
    tag = str((weights.config.get("pretrained_cfg") or {}).get("tag", ""))
    return "regression" if "_clip_" in name and "ft" not in tag.split("_") else "classification"


def _config(weights: Weights, name: str) -> tuple[Config, Image]:
    given = weights.config.get("model_args") or {}
    width, channels, *patch = weights[PATCH].shape
    patches = patch[0], patch[1]
    first, tokens = _tokens(weights)
    default = Image((224, 224), channels, IMAGENET_MEAN, IMAGENET_STD, "bicubic", 224 / 256)
    image = timm_image(weights, default)
    if given.get("img_size"):
        image = dataclasses.replace(image, size=pair(given["img_size"], 224))
    grid, positioned = grid_of(tokens, {0, 1 if first else 0, first}, patches, image.size if name else None)
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
        activation=_activation(weights, name, given),
        epsilon=1e-5 if "norm_pre.weight" in weights else 1e-6,
        pooling=_pooling(weights, given),
        pool_prefix=bool(given.get("pool_include_prefix", name == "test_vit3")),
        final_norm="tokens" if "norm.weight" in weights else "pooled" if "fc_norm.weight" in weights else "none",
    )
    covered = image.size[0] // patches[0], image.size[1] // patches[1]
    return config, image if covered == grid else dataclasses.replace(image, size=config.size)


def _registers(weights: Weights) -> int:
    return next((weights[n].shape[1] for n in ("reg_token", "register_tokens") if n in weights), 0)


def _tokens(weights: Weights) -> tuple[int, int]:
    """The number of tokens before the patches, and of position embeddings."""
    single = sum(name in weights for name in ("cls_token", "dist_token"))
    return single + _registers(weights), weights["pos_embed"].shape[-2]


def _heads(weights: Weights, name: str, width: int, depth: int, hidden: int) -> int:
    if name:
        return 16 if SIXTEEN_HEADS.match(name) else width // (32 if name.startswith("test_vit") else 64)
    known = {v.heads for v in VARIANTS.values() if (v.width, v.depth, v.hidden) == (width, depth, hidden)}
    if len(known) != 1 or "norm_pre.weight" in weights or "attn_pool.latent" in weights:
        raise CheckpointError(
            f"The tensors are a ViT's of {depth} blocks and {width} features, but do not say its number of heads or "
            "its activation. Put timm's config.json beside them."
        )
    return known.pop()


def _activation(weights: Weights, name: str, given: Mapping[str, Any]) -> str:
    if (wanted := given.get("act_layer")) is not None:
        if wanted not in ACTIVATIONS:
            raise CheckpointError(f"flaxtl's ViT has no activation {wanted!r}; known: {', '.join(ACTIVATIONS)}.")
        return ACTIVATIONS[wanted]
    if weights["blocks.0.mlp.fc1.weight"].shape[0] == 2 * weights["blocks.0.mlp.fc2.weight"].shape[1]:
        return "silu"
    return "quick_gelu" if "quickgelu" in name else "gelu_tanh" if TANH_GELU.match(name) else "gelu"


def _pooling(weights: Weights, given: Mapping[str, Any]) -> Pooling:
    if "head_dist.weight" in weights or "dist_token" in weights:
        return "distilled"
    wanted = given.get("global_pool") or weights.config.get("global_pool")
    if not wanted:
        wanted = "map" if "attn_pool.latent" in weights else "token" if "cls_token" in weights else "avg"
        wanted = "avg" if "fc_norm.weight" in weights else wanted
    if wanted not in POOLING:
        raise CheckpointError(f"flaxtl's ViT cannot pool by {wanted!r}; it can by {', '.join(POOLING)}.")
    return POOLING[wanted]


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
