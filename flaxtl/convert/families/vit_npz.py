"""Vision transformers as the repositories vision_transformer and big_vision of Google Research publish them (.npz)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from flaxtl.card import Image, NetworkSpec
from flaxtl.convert.families import Recognised
from flaxtl.convert.families.labels import labels_of, require_names_alone
from flaxtl.convert.families.timm_config import Timm, assumed
from flaxtl.convert.families.vit_common import grid_of
from flaxtl.convert.mapping import KEEP, Operation, Rule, ignored, reshape
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError
from flaxtl.nets.vit import Config, Pooling

HALF = (0.5, 0.5, 0.5)
PARTS = ("query", "key", "value")
BLOCK = re.compile(r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_(\d)/query/kernel")


def is_named_so(weights: Weights) -> bool:
    """Says whether the tensors have these repositories' names."""
    return _prefix(weights) is not None


def _prefix(weights: Weights) -> str | None:
    """What comes before the image tower's names, such as "opt/target/" or "params/img/"."""
    ending = "Transformer/encoder_norm/scale"
    towers = [n.removesuffix(ending) for n in weights if n.endswith(ending)]
    return next((t for t in towers if f"{t}embedding/kernel" in weights), None)


def recognise(weights: Weights) -> Recognised:
    """Says which vision transformer the weights are, by the shapes of their tensors.

    Raises:
        CheckpointError: a hybrid with a convolutional stem, or blocks stacked to one.
    """
    prefix = _prefix(weights)
    assert prefix is not None
    require_names_alone(weights)
    kernel = weights[f"{prefix}embedding/kernel"].shape
    if f"{prefix}conv_root/kernel" in weights or len(kernel) != 4:
        raise CheckpointError(
            "This ViT's patches come out of a convolutional network or a flat projection, which flaxtl does not build. "
            "Take one whose patches are of the picture itself, such as ViT-B/16."
        )
    blocks = _blocks(weights, prefix)
    config = _config(weights, prefix, blocks)
    head = weights.shape(f"{prefix}head/bias") if not _has_pre_logits(weights, prefix) else None
    # Both repositories scale pixels to −1…1 and, in evaluation, resize the whole picture.
    image = Image(config.size, kernel[2], HALF, HALF, "bilinear", fit="squash")
    spec = NetworkSpec("vit", dataclasses.asdict(config))
    outputs = head[0] if head else 0
    notes = assumed(Timm(), image, f"a ViT of {config.depth} blocks as Google Research's repositories save it")
    return Recognised(spec, image, outputs, labels_of(weights, outputs), notes=notes)


def _has_pre_logits(weights: Weights, prefix: str) -> bool:
    return f"{prefix}pre_logits/kernel" in weights


def _blocks(weights: Weights, prefix: str) -> dict[int, int]:
    """The blocks' numbers → the number that their attention has."""
    found = {int(m[1]): int(m[2]) for n in weights if (m := BLOCK.fullmatch(n.removeprefix(prefix)))}
    if not found:
        raise CheckpointError(
            "This ViT's blocks are stacked to one (Transformer/encoderblock/…), which flaxtl does not take apart. "
            "Save it with one entry a block (Transformer/encoderblock_0/…)."
        )
    return found


def _config(weights: Weights, prefix: str, blocks: dict[int, int]) -> Config:
    patch_height, patch_width, _, width = weights[f"{prefix}embedding/kernel"].shape
    block = f"{prefix}Transformer/encoderblock_0"
    token, pooled = f"{prefix}cls" in weights, f"{prefix}MAPHead_0/probe" in weights
    pooling: Pooling = "map" if pooled else "token" if token else "average"
    patch = patch_height, patch_width
    grid, positioned = grid_of(weights[_position(weights, prefix)].shape[-2], {0, int(token)}, patch)
    return Config(
        grid=grid,
        patch=patch,
        width=width,
        depth=len(blocks),
        heads=weights[f"{block}/MultiHeadDotProductAttention_{blocks[0]}/query/kernel"].shape[1],
        hidden=weights[f"{block}/MlpBlock_{_numbers(blocks)[2]}/Dense_0/kernel"].shape[1],
        class_token=token,
        positioned=positioned,
        activation="gelu_tanh",  # flax.linen.gelu, which both call, is the approximation by default
        epsilon=1e-6,
        pooling=pooling,
    )


def _numbers(blocks: dict[int, int]) -> tuple[int, int, int]:
    """The numbers of attention, second norm and feed-forward part, which count layers in one and kinds in the other."""
    return (0, 1, 0) if blocks[0] == 0 else (1, 2, 3)


def _position(weights: Weights, prefix: str) -> str:
    names = (f"{prefix}Transformer/posembed_input/pos_embedding", f"{prefix}pos_embedding")
    found = next((n for n in names if n in weights), None)
    if found is None:
        raise CheckpointError("This ViT has no learnt position embeddings, which flaxtl's ViT needs.")
    return found


def rules(config: Config, weights: Weights) -> list[Rule]:
    """Returns the table of a vision transformer in these repositories' names."""
    prefix = _prefix(weights)
    assert prefix is not None
    attention, norm, feed = _numbers(_blocks(weights, prefix))
    source, target = f"{prefix}Transformer/encoderblock_{{i}}", "backbone/blocks_{i}"
    table = [
        *_layer(f"{prefix}embedding", "backbone/stem/patch"),
        Rule(_position(weights, prefix), "backbone/stem/position"),
        *_layer(f"{source}/LayerNorm_0", f"{target}/norm1", "scale"),
        *_attention(config, f"{source}/MultiHeadDotProductAttention_{attention}", f"{target}/attention"),
        *_layer(f"{source}/LayerNorm_{norm}", f"{target}/norm2", "scale"),
        *_feed_forward(f"{source}/MlpBlock_{feed}", f"{target}/mlp"),
        *_layer(f"{prefix}Transformer/encoder_norm", "backbone/pool/norm", "scale"),
    ]
    if config.class_token:
        table.append(Rule(f"{prefix}cls", "backbone/stem/class_token"))
    if config.pooling == "map":
        table += _attention_pool(config, f"{prefix}MAPHead_0", "backbone/pool/attention")
    if _has_pre_logits(weights, prefix):
        why = "the pretraining's own hidden layer and classes, which transfer leaves out (Dosovitskiy et al. 3.2)"
        table += [ignored(f"{prefix}pre_logits/*", why), ignored(f"{prefix}head/*", why)]
    elif f"{prefix}head/bias" in weights:
        table += _layer(f"{prefix}head", "head")
    return [*table, *_beside(prefix)]


def _beside(prefix: str) -> list[Rule]:
    """What lies beside the image tower: the optimizer's state, the text tower and what scales the likeness with it."""
    if prefix.endswith("img/"):
        above = prefix.removesuffix("img/")
        text = ignored(f"{above}txt/*", "the text tower, which no picture enters")
        return [text, *(ignored(f"{above}{n}", "scales the likeness of picture and text") for n in ("t", "b"))]
    return [ignored("opt/state/*", "the optimizer's")] if prefix == "opt/target/" else []


def _layer(source: str, target: str, weight: str = "kernel") -> list[Rule]:
    return [Rule(f"{source}/{part}", f"{target}/{part}") for part in (weight, "bias")]


def _feed_forward(source: str, target: str) -> list[Rule]:
    return [rule for n in (0, 1) for rule in _layer(f"{source}/Dense_{n}", f"{target}/fc{n + 1}")]


def _attention(config: Config, source: str, target: str) -> list[Rule]:
    """Kernels are [features, heads, dimension], that of the output [heads, dimension, features]."""
    width, heads = config.width, config.heads
    split = heads, width // heads
    out = reshape((width, width), (*split, width))
    return [
        Rule(tuple(f"{source}/{p}/kernel" for p in PARTS), f"{target}/qkv/kernel", _side_by_side((width,), split)),
        Rule(tuple(f"{source}/{p}/bias" for p in PARTS), f"{target}/qkv/bias", _side_by_side((), split)),
        Rule(f"{source}/out/kernel", f"{target}/out/kernel", out),
        Rule(f"{source}/out/bias", f"{target}/out/bias", KEEP),
    ]


def _side_by_side(rows: tuple[int, ...], split: tuple[int, int]) -> Operation:
    """Query, key and value with their heads joined, one beside the other."""

    def forward(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([a.reshape(*rows, split[0] * split[1]) for a in arrays], axis=-1)

    def backward(leaf: np.ndarray, n: int) -> list[np.ndarray]:
        return [part.reshape(*rows, *split) for part in np.split(leaf, n, axis=-1)]

    return Operation("join heads, concatenate", forward, backward)


def _attention_pool(config: Config, source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}/probe", f"{target}/query"),
        *_attention(config, f"{source}/MultiHeadDotProductAttention_0", target),
        *_layer(f"{source}/LayerNorm_0", f"{target}/norm", "scale"),
        *_feed_forward(f"{source}/MlpBlock_0", f"{target}/mlp"),
    ]
